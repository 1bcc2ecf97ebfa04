r"""Make text and numbers from outside fit for storage: Arrow, JSON, logs and metrics take what these functions return.

A server's reason phrase, a file name, a library's error or a header of a picture may hold anything; one lone surrogate
or one number beyond int32 would otherwise end the shard that stores it. Called where such a value enters the program.
"""

import operator
import re

MAX_CHARS = 2_000  # of a message: a person reads the first lines, and a million rows may each hold one

# A high surrogate that is followed by a low one is one character in two halves; each other surrogate stands alone.
_UNSTORABLE = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]|\0")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CUT = "…"


def storable_text(text: str, max_chars: int = MAX_CHARS) -> str:
    r"""Return `text` as valid Unicode without NUL, at most `max_chars` characters (at least 1) long.

    Ordinary text is returned as it is. What cannot be stored is written as Python writes it: `\x00` for NUL, `\xff` for
    a byte that a decoder passed on as a surrogate (PEP 383, so in file names: distinct names stay distinct), `\ud800`
    for other lone surrogates. Both halves of a surrogate pair become the character. Longer text ends in "…".
    Applied twice it changes nothing more. The empty text stays empty.
    """
    cut = text[: max_chars + 1]  # what is cut off need not be looked at; replacing makes at most two characters one
    if not cut.isascii() or "\0" in cut:
        cut = _UNSTORABLE.sub(_replacement, text[: 2 * max_chars + 1])
    return cut if len(cut) <= max_chars else cut[: max_chars - 1] + _CUT


def error_text(error: object, max_chars: int = 300) -> str:
    r"""Return what an exception (or any other text from outside) says, storable and in one line.

    Blanks and line ends become single blanks; other control characters, which a terminal would obey, are written as
    `\x1b`. An exception without a text, or one whose text cannot be made, is named by its type.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ of some library must not cost the row's real error
        text = ""
    line = " ".join(text[: 20 * max_chars].split())
    line = _CONTROL.sub(lambda m: _escape(ord(m[0])), line)
    return storable_text(line or type(error).__name__, max_chars)


def storable_int(value: object, bits: int) -> int | None:
    """Return `value` when it is an integer that fits a signed column of `bits` bits, else None ("not known")."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what has no __index__ is a TypeError, as wished
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -(1 << (bits - 1)) <= number < 1 << (bits - 1) else None


def _replacement(match: re.Match[str]) -> str:
    found = match[0]
    if len(found) == 2:
        return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    code = ord(found)
    return _escape(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
