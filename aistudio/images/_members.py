"""One member of a tar or zip archive from a read of its range: what stands before it must still be its own header.

An archive that was replaced since the manifest was read would otherwise give the bytes of another picture.
"""

import struct
import tarfile
import zlib
from collections.abc import Callable

from aistudio.images._fetched import FetchFailed
from aistudio.parts import Part
from aistudio.schema import Status

Read = Callable[[int, int], bytes]  # from, to before

_BLOCK = 512
_LOCAL = struct.Struct("<4s5H3I2H")  # signature, version, flags, method, time, date, crc, sizes, lengths of name, extra
_ENCRYPTED, _DESCRIPTOR = 0x1, 0x8
_STORED, _DEFLATED = 0, 8
_SLACK = 1024  # extra fields are seldom longer
_ASCII_NAME = 100  # bytes; longer names stand elsewhere


def tar_member(read: Read, part: Part, max_bytes: int) -> bytes:
    """Return a member's bytes, at most `max_bytes`. Raises FetchFailed."""
    _refuse_large(part.num_bytes, max_bytes)
    data = read(max(0, part.at - _BLOCK), part.at + part.num_bytes)
    if part.at < _BLOCK or not _is_header(data[:_BLOCK], part):
        raise _replaced(part)
    return _whole(data[_BLOCK:], part)


def zip_member(read: Read, part: Part, max_bytes: int) -> bytes:
    """Return a member's bytes, inflated, at most `max_bytes`. Raises FetchFailed."""
    _refuse_large(part.num_bytes, max_bytes)
    want = _LOCAL.size + len(part.name.encode(errors="surrogateescape")) + part.num_bytes + _SLACK
    data = read(part.at, part.at + want)
    if len(data) < _LOCAL.size or data[:4] != b"PK\3\4":
        raise _replaced(part)
    _, _, flags, method, _, _, crc, _, _, name_length, extra_length = _LOCAL.unpack_from(data)
    name = data[_LOCAL.size : _LOCAL.size + name_length]
    if name not in (part.name.encode(errors="surrogateescape"), part.name.encode("cp437", "replace")):
        raise _replaced(part)
    if flags & _ENCRYPTED:
        raise FetchFailed(Status.UNSUPPORTED_IMAGE, f"{part.name}: encrypted in its archive")
    if method not in (_STORED, _DEFLATED):
        text = f"{part.name}: packed by method {method}; stored and deflated are read"
        raise FetchFailed(Status.UNSUPPORTED_IMAGE, text)
    begin = _LOCAL.size + name_length + extra_length
    end = begin + part.num_bytes
    if len(data) < end + 16:
        data = read(part.at, part.at + end + 16)
    packed = _whole(data[begin:end], part)
    if flags & _DESCRIPTOR:
        after = data[end : end + 16]
        crc = int.from_bytes(after[4:8] if after[:4] == b"PK\7\b" else after[:4], "little")
    body = packed if method == _STORED else _inflated(packed, part, max_bytes)
    if zlib.crc32(body) != crc:
        raise FetchFailed(Status.TRUNCATED_IMAGE, f"{part.name}: damaged in its archive (checksum)")
    return body


def _inflated(packed: bytes, part: Part, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(-15)
    try:
        body = inflater.decompress(packed, max_bytes + 1)
    except zlib.error as e:
        raise FetchFailed(Status.TRUNCATED_IMAGE, f"{part.name}: damaged in its archive ({e})") from None
    if len(body) > max_bytes:
        raise FetchFailed(
            Status.TOO_LARGE, f"{part.name}: more than {max_bytes:,} bytes when inflated (download.max_bytes)"
        )
    return body


def _refuse_large(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise FetchFailed(Status.TOO_LARGE, f"the member has {num_bytes:,} bytes; download.max_bytes is {max_bytes:,}")


def _whole(data: bytes, part: Part) -> bytes:
    if len(data) < part.num_bytes:
        text = f"{part.name}: its archive ends early: {len(data):,} of {part.num_bytes:,} bytes are there"
        raise FetchFailed(Status.TRUNCATED_IMAGE, text)
    return data


def _is_header(block: bytes, part: Part) -> bool:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    short = part.name.isascii() and len(part.name) <= _ASCII_NAME
    return header.size == part.num_bytes and (not short or header.name == part.name)


def _replaced(part: Part) -> FetchFailed:
    return FetchFailed(
        Status.NOT_FOUND, f"{part.name} is not at byte {part.at:,} of its archive: another one than when it was listed"
    )
