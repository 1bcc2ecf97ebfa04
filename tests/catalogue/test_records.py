"""What a quote means in each kind of delimited file, and records that look as if one had swallowed lines."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HEADER = "item_id\timage_url\ttext\n"


def tsv(*texts: str) -> bytes:
    return (HEADER + "".join(f"{n}\thttp://h/{n}.jpg\t{text}\n" for n, text in enumerate(texts, 1))).encode()


def texts(result) -> list[str]:
    return [r["text"] for r in result.rows]


STRAY = ["Vintage lamp", '"Retro radio', 'TV wall mount 55"', '"Best" gift mug', '5" tablet', '"', "chair", '"']


def test_a_quote_in_tsv_is_a_character_like_any_other(read):
    result = read(tsv(*STRAY), "tsv")
    assert texts(result) == STRAY and result.rejected == []
    assert [r["source_line"] for r in result.rows] == list(range(2, 10))
    assert (result.reading.lines, result.reading.records, result.reading.others) == (9, 8, 1)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"a"', "a"),
        ('""', ""),
        ('"a ""b"" c"', 'a "b" c'),
        ('"a\tb"', "a\tb"),
        ('"a" ', '"a" '),
        ('"""', '"""'),
        ('"a"b"', '"a"b"'),
        ('""""', '"'),
        ("'a'", "'a'"),
    ],
)
def test_a_field_that_is_quoted_from_end_to_end_is_as_spreadsheets_mean_it(read, written, meant):
    assert texts(read(tsv("x", written, "y"), "tsv")) == ["x", meant, "y"]
    raw = read(tsv("x", written, "y"), "tsv", quoting="none")
    assert [r for r in texts(raw) if r in ("x", "y")] == ["x", "y"]
    assert written in texts(raw) or raw.rejected  # a tab within is one field more there


def test_the_header_s_width_tells_which_reading_is_right(read):
    data = b'item_id\timage_url\ta\tb\n1\tu\t"Retro radio\tTV 55"\n2\tu\t"x\ty"\tz\n3\tu\t"x\ty\n4\tu\t"p"\n'
    result = read(data, "tsv")
    assert [(r["a"], r["b"]) for r in result.rows] == [('"Retro radio', 'TV 55"'), ("x\ty", "z"), ('"x', "y")]
    assert [(r["line_number"], r["reason"]) for r in result.rejected] == [(5, "wrong field count: 3, expected 4")]


def test_a_quoted_header_and_carriage_returns(read):
    result = read(b'"item_id"\t"image_url"\t"my\ttext"\r\n1\tu\t"a"\r\n', "tsv", columns={"text": "my\ttext"})
    assert texts(result) == ["a"]
    result = read(b"item_id\timage_url\n1\tu\rx\n2\tu\n", "tsv")
    assert [r["reason"] for r in result.rejected] == ["a carriage return inside a line"]


def test_files_that_do_quote_over_lines_have_a_setting(read):
    data = tsv('"two\nlines"', "b")
    assert texts(read(data, "tsv", quoting="full")) == ["two\nlines", "b"]
    split = read(data, "tsv")
    assert texts(split) == ['"two', "b"]
    assert [(r["line_number"], r["raw"]) for r in split.rejected] == [(3, 'lines"')]


def test_csv_by_line_and_without_quotes(read):
    data = b'item_id,image_url,text\n1,u,"a, b"\n2,u,"open\n3,u,5" x\n'
    result = read(data, "csv", quoting="line")
    assert texts(result) == ["a, b", '"open', '5" x'] and result.rejected == []
    result = read(data, "csv", quoting="none")
    assert texts(result) == ['"open', '5" x'] and len(result.rejected) == 1


class TestSuspicious:
    def test_a_line_that_looks_like_a_record_of_its_own(self, read):
        data = b'item_id,image_url,text\n1,http://h/1,a\n2,http://h/2,"Retro\n3,http://h/3,TV 55"\n4,http://h/4,d\n'
        result = read(data, "csv", file="m.csv")
        assert [r["item_id"] for r in result.rows] == ["1", "2", "4"]
        assert (result.reading.suspicious, result.reading.named) == (1, ("m.csv lines 3 to 4",))
        assert (result.reading.lines, result.reading.continued) == (5, 1)

    def test_a_text_of_two_lines_is_none(self, read):
        result = read(b'item_id,image_url,text\n1,http://h/1,"one\n\ntwo, and more, of it"\n', "csv")
        assert (result.reading.suspicious, result.reading.continued, result.reading.others) == (0, 2, 1)

    @pytest.mark.parametrize("inner", [b"x\n" * 25, (b"y" * 999 + b"\n") * 19 + b"z" * 60_000])
    def test_very_long_records(self, read, inner):
        result = read(b'item_id,image_url,text\n1,u,"' + inner + b'"\n2,u,b\n', "csv")
        assert len(result.rows) == 2 and result.reading.suspicious == 1

    def test_only_the_first_are_named(self, read):
        many = "".join(f'{n},http://h/{n},"a\n{n},http://h/{n},b"\n' for n in range(12))
        reading = read(("item_id,image_url,text\n" + many).encode(), "csv", batch_rows=2).reading
        assert reading.suspicious == 12 and len(reading.named) == 5 and reading.named[0] == "m lines 2 to 3"


def test_lines_add_up_with_every_kind_of_line(read):
    data = b'item_id,image_url,text\n\n1,u,"a\nb"\nbad\n2,u,"x\ny",z\n\n3,u,c\n'
    reading = read(data, "csv").reading
    assert (reading.lines, reading.records, reading.rejected, reading.continued) == (9, 2, 2, 1)


cells = st.text(st.characters(exclude_characters="\n\r\t\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), max_size=6))
def test_no_text_without_tabs_and_line_ends_costs_a_row(read, rows):
    data = "item_id\timage_url\ta\tb\n" + "".join(f"1\tu\t{a}\t{b}\n" for a, b in rows)
    result = read(data.encode(), "tsv", quoting="none")
    assert [(r["a"], r["b"]) for r in result.rows] == rows and result.rejected == []
    lenient = read(data.encode(), "tsv")
    assert len(lenient.rows) == len(rows) and lenient.rejected == []


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), max_size=6), always=st.booleans())
def test_what_the_csv_module_writes_in_one_line_is_read_back(read, rows, always):
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter="\t", quoting=quoting, lineterminator="\n")
    writer.writerow(["item_id", "image_url", "a", "b"])
    writer.writerows([("1", "u", a, f"{b}\t{b}") for a, b in rows])
    result = read(out.getvalue().encode(), "tsv")
    assert [(r["a"], r["b"]) for r in result.rows] == [(a, f"{b}\t{b}") for a, b in rows]
