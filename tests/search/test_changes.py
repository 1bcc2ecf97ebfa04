"""The kind of change that a composed query asks for."""

import pytest

from aistudio.search.changes import kind_of_change


def captions(source, target):
    return {"source_caption": source, "target_caption": target}


@pytest.mark.parametrize(
    ("text", "values", "dataset", "wanted"),
    [
        ("sliced", captions("ripe tomato", "sliced tomato"), "mitstates", "state"),
        ("red", captions("green tomato", "red tomato"), "mitstates", "state"),  # the data set has states only
        ("replace red with blue", captions("red dress", "blue dress"), "fashion200k", "colour"),
        ("replace mini with long", captions("red mini dress", "red long dress"), "fashion200k", "state"),
        ("replace dress with skirt", captions("red dress", "red skirt"), "fashion200k", "noun"),
        ("replace dress with long", captions("red dress", "red long dress"), "fashion200k", "state"),
        ("replace a with b", captions("a red dress", "b navy dress"), "fashion200k", "colour"),  # any differing word
        ("dress is Navy, and it has dots", {"category": "dress"}, "fashioniq", "colour"),
        ("is more redder", {}, "fashioniq", "other"),
        ("the same place at night", {"change": "time"}, None, "time"),
        ("the same in blue", {"change": None}, None, "colour"),
        ("", {}, None, "other"),
    ],
)
def test_the_kind_is_what_differs(text, values, dataset, wanted):
    assert kind_of_change(text, values, dataset) == wanted
