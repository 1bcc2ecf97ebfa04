"""storable.py: whatever comes in, what comes out can be stored in Arrow and JSON; ordinary text stays as it is."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.storable import error_text, storable_int, storable_text

_ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates included
_FROM_BYTES = st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))


@settings(deadline=None)  # the machine may be busy
@given(_ANY_TEXT | _FROM_BYTES, st.integers(1, 40))
def test_any_text_becomes_storable_and_stays_so(text: str, max_chars: int) -> None:
    got = storable_text(text, max_chars)
    assert pa.array([got], pa.string()).to_pylist() == [got]
    assert json.loads(json.dumps(got)) == got
    assert "\0" not in got
    assert len(got) <= max_chars
    assert storable_text(got, max_chars) == got


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=50))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert storable_text(text, 50) == text


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", ""),
        ("P\udce1gina", r"P\xe1gina"),
        ("\udcff.jpg", r"\xff.jpg"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", r"\ude00\ud83d"),
        ("a\0b", r"a\x00b"),
        ("页面未找到", "页面未找到"),
    ],
)
def test_what_is_written_instead(text: str, want: str) -> None:
    assert storable_text(text) == want


def test_long_text_is_cut_with_a_mark() -> None:
    assert storable_text("x" * 10) == "x" * 10
    assert storable_text("x" * 11, 10) == "x" * 9 + "…"
    assert storable_text("é" * 11, 10) == "é" * 9 + "…"
    assert storable_text("\ud83d\ude00" * 10, 10) == "😀" * 10
    assert storable_text("\ud83d\ude00" * 11, 10) == "😀" * 9 + "…"
    assert len(storable_text("\udcff" * 5_000_000)) == 2000


class _Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@settings(deadline=None)  # the machine may be busy
@given(_ANY_TEXT | _FROM_BYTES)
def test_an_exceptions_text_is_one_storable_line(text: str) -> None:
    got = error_text(ValueError(text), 60)
    assert got
    assert got == " ".join(got.split()) == storable_text(got, 60)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in got)


def test_an_exception_without_a_text_is_named() -> None:
    assert error_text(KeyError()) == "KeyError"
    assert error_text(_Speechless()) == "_Speechless"
    assert error_text(OSError("\x1b[2Jgone\r\n")) == r"\x1b[2Jgone"


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (2**31 - 1, 2**31 - 1),
        (2**31, None),
        (-(2**31), -(2**31)),
        (-(2**31) - 1, None),
        (10**400, None),
        (np.uint32(7), 7),
        (np.uint64(2**63), None),
        (None, None),
        (1.0, None),
        (float("nan"), None),
        ("7", None),
    ],
)
def test_numbers_that_fit_32_bits(value: object, want: int | None) -> None:
    got = storable_int(value, 32)
    assert got == want
    assert pa.array([got], pa.int32()).to_pylist() == [want]
