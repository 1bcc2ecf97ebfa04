"""Hostile values leave safe.py harmless and complete."""

import csv
import io
import json
import math

import numpy as np
import pytest

from aistudio.reports.safe import MAX_VALUE_CHARS, clip, csv_bytes, plain, safe_link, script_data
from tests.reports.synthetic_run import HOSTILE


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "\x01javascript:alert(1)",
        " javascript:1",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "//host/x",
        "/local/path.jpg",
        "s3://bucket/key",
        "",
        None,
        "http://",
        "https:///x",
        "http://[bad",
        "https://a.example/\nx",
    ],
)
def test_only_http_links_are_offered(url):
    assert safe_link(url) is None


@pytest.mark.parametrize(
    "url", ["http://a.example/x.jpg", "HTTPS://a.example/?q=<script>&b='\"", "https://图片.example/西湖.jpg"]
)
def test_http_links_stay_as_they_are(url):
    assert safe_link(f" {url} ") == url


def _json_of(data: bytes) -> object:
    text = data.decode()
    return json.loads(text[text.index(",") + 1 : text.rindex(");")])


@pytest.mark.parametrize("text", HOSTILE[:7])
def test_script_data_cannot_end_its_script_and_keeps_the_value(text):
    data = script_data("x", {"v": text})
    assert _json_of(data) == {"v": clip(text, MAX_VALUE_CHARS)}
    for forbidden in ("<", ">", "\u2028", "\u2029"):
        assert forbidden not in data.decode()


def test_script_data_has_no_nan_and_survives_a_lone_surrogate():
    assert _json_of(script_data("x", [math.nan, math.inf, 1.5, np.float32(2), b"abc"])) == [
        None,
        None,
        1.5,
        2.0,
        "3 bytes",
    ]
    assert b"?" in script_data("x", "\ud800")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_text_cannot_become_a_formula(cell):
    row = next(csv.reader(io.StringIO(csv_bytes([cell], []).decode("utf-8-sig"), newline="")))
    assert row == ["'" + cell]


def test_csv_numbers_stay_numbers_and_chinese_opens_in_a_spreadsheet():
    data = csv_bytes(["名"], [[-1.5], ['西湖, "x"'], [None]])
    assert data.startswith("\ufeff".encode())
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows == [["名"], ["-1.5"], ['西湖, "x"'], [""]]


def test_clip_marks_what_it_cut():
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcd", 4) == "abcd"
    assert clip(None, 4) == ""
    assert len(plain("名" * 20_000)) == MAX_VALUE_CHARS
