"""Bytes to text lines, in bounded memory: decompression, encoding, line numbers, over-long lines.

What a line means is left to the readers of each format.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from aistudio.errors import ManifestError

MAX_LINE_BYTES = 1_000_000  # a longer line is a mistake (a lost line end, a binary file), not a record
BUFFER_BYTES = 1 << 18
RAW_BYTES = 40_000  # 10,000 characters of four bytes: all of a bad line that is ever kept
COMPRESSED_SUFFIXES = (".gz", ".zst")
NOT_DECODABLE = "not decodable as"


# What stands for bytes that cannot be decoded while a stream is turned into UTF-8: no text in a file can hold it, so
# that U+FFFD in the file itself stays what it is.
_MARK_ERRORS = "aistudio.mark"
_MARK = "\udcff".encode("utf-8", "surrogatepass")
_SHOWN = "\ufffd".encode()


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_MARK_ERRORS, _mark)


class Line(NamedTuple):
    """A physical line: 1-based number, text with its line end, and why it cannot be read (else None)."""

    number: int
    text: str
    problem: str | None


def plain_name(file: str) -> str:
    """The name that suffixes are read from: lower case, for URLs without query and fragment."""
    name = file.split("?", 1)[0].split("#", 1)[0] if "://" in file else file
    return name.lower()


def decompressed(stream: BinaryIO, file: str) -> BinaryIO:
    """The stream itself, or its decompressed content when `file` ends in .gz or .zst."""
    name = plain_name(file)
    if name.endswith(".gz"):
        return io.BufferedReader(_Source(gzip.GzipFile(fileobj=stream), file, "gzip"), BUFFER_BYTES)
    if name.endswith(".zst"):
        # Arrow closes what it reads from; the _Source in between keeps the caller's stream open.
        zstd = pa.CompressedInputStream(pa.PythonFile(_Source(stream, file, None), mode="r"), "zstd")
        return io.BufferedReader(_Source(zstd, file, "zstd"), BUFFER_BYTES)
    return stream


class Lines:
    """Iterator over the lines of a stream; closes nothing. Lines end at LF (a CR before it belongs to the end).

    A line that is longer than MAX_LINE_BYTES, holds a NUL or cannot be decoded comes with its `problem` and
    the head of its text. A byte order mark at the start is dropped. `num_bytes`, `num_lines` count what was read.

    Raises:
        ManifestError: unknown encoding; empty, Parquet, gzip or UTF-16 content; damaged compression.
    """

    def __init__(self, stream: BinaryIO, file: str, encoding: str = "utf-8") -> None:
        self.num_bytes = self.num_lines = 0
        self._codec = _codec_name(encoding)
        source: BinaryIO = decompressed(stream, file)
        # In UTF-16 and its like a line end is more than one byte: such streams are turned into UTF-8 first.
        self._transcoded = "\n".encode(self._codec) != b"\n"
        decoder = codecs.getincrementaldecoder(self._codec)(_MARK_ERRORS) if self._transcoded else None
        self._reader = io.BufferedReader(_Source(source, file, None, decoder), BUFFER_BYTES)
        _check_head(self._reader.peek(4)[:4], file, self._codec)
        self._lines = self._read()

    def __iter__(self) -> Iterator[Line]:
        return self._lines

    def _read(self) -> Iterator[Line]:
        number = 0
        readline = self._reader.readline
        while data := readline(MAX_LINE_BYTES + 1):
            self.num_lines = number = number + 1
            self.num_bytes += len(data)
            if number == 1:
                data = data.removeprefix(codecs.BOM_UTF8)
            if len(data) > MAX_LINE_BYTES:
                yield Line(number, self._head(data), f"longer than {MAX_LINE_BYTES:,} bytes")
                while not data.endswith(b"\n") and (data := readline(MAX_LINE_BYTES)):
                    pass
            elif b"\0" in data:
                yield Line(number, self._head(data), "holds NUL bytes")
            else:
                yield self._decode(number, data)

    def _decode(self, number: int, data: bytes) -> Line:
        if self._transcoded:
            if _MARK in data:
                return Line(number, self._head(data), f"{NOT_DECODABLE} {self._codec}")
            return Line(number, data.decode("utf-8"), None)
        try:
            text = data.decode(self._codec)
            if self._codec != "utf-8":
                text.encode("utf-8")  # some codecs give lone surrogates, which no Arrow string can hold
        except UnicodeError as e:
            where = f": byte 0x{data[e.start]:02x} at {e.start}" if isinstance(e, UnicodeDecodeError) else ""
            return Line(number, self._head(data), f"{NOT_DECODABLE} {self._codec}{where}")
        return Line(number, text, None)

    def _head(self, data: bytes) -> str:
        if self._transcoded:
            data = data.replace(_MARK, _SHOWN)
        return data[:RAW_BYTES].decode("utf-8" if self._transcoded else self._codec, "backslashreplace")


def _codec_name(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "\n".encode(name)  # refuses codecs that are not text encodings (base64, rot13, ...)
    except (LookupError, UnicodeError):
        raise ManifestError(
            f"manifest.encoding: {encoding!r} is not a text encoding; e.g. utf-8, gb18030, utf-16"
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


def _check_head(head: bytes, file: str, codec: str) -> None:
    if not head:
        raise ManifestError(f"{file}: the file is empty")
    if head == b"PAR1":
        raise ManifestError(f"{file}: this is a Parquet file; set manifest.format to parquet")
    if head.startswith(b"\x1f\x8b"):
        raise ManifestError(f"{file}: the content is gzip-compressed; a name ending in .gz is expected then")
    if codec == "utf-8" and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ManifestError(f"{file}: the file starts with a UTF-16 mark; set manifest.encoding to utf-16")


class _Source(io.RawIOBase):
    """A raw stream over anything with `read`, so that BufferedReader can cut lines in C.

    With a decoder, text of another encoding comes out as UTF-8. Does not close what it reads.
    """

    def __init__(self, stream: Any, file: str, compression: str | None, decoder: Any = None) -> None:
        self._stream, self._file, self._compression, self._decoder = stream, file, compression, decoder
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            data = self._read(len(buffer))
            self._ended = not data
            self._rest = (
                self._decoder.decode(data, self._ended).encode("utf-8", "surrogatepass") if self._decoder else data
            )
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def _read(self, size: int) -> bytes:
        if self._compression is None:
            return bytes(self._stream.read(size))
        # pyarrow's zstd reports damage as OSError; in gzip that class is left to the underlying stream.
        damage = (
            (gzip.BadGzipFile, EOFError, zlib.error) if self._compression == "gzip" else (OSError, pa.ArrowException)
        )
        try:
            return bytes(self._stream.read(size))
        except damage as e:
            raise ManifestError(f"{self._file}: not readable as {self._compression}: {e}") from None
