"""Addresses of pictures inside files: any name and place comes back as it was, any other text stays a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistudio.parts import Part, part_address, split_part

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(
    NAMES,
    st.sampled_from(["row", "lance", "tar", "zip"]),
    NAMES,
    st.integers(0, 10**15),
    st.sampled_from(["", "0a1b2c3d"]),
    st.sampled_from([0, 10**10]),
)
def test_an_address_says_what_it_was_made_of(place, kind, name, at, mark, size):
    part = {
        "row": Part("row", name, at, size, mark),
        "lance": Part("lance", name, at, 0, f"{at}-0a1b2c3d"),
    }.get(kind, Part(kind, name, at, at + 7))
    assert split_part(part_address(place, part)) == (place, part)


@pytest.mark.parametrize(
    "text",
    [
        "/a/photo#1.jpg",
        "/a#row=2",
        "http://h/x#row=x&column=y",
        "#row=1&column=x",
        "/a#tar=x&at=1",
        "",
        "/a#row=1&column=",
        "/a#lance=1&column=x",
        "/a#lance=1&column=x&version=3",
    ],
)
def test_any_other_text_is_a_place(text):
    assert split_part(text) == (text, None)


def test_an_address_is_short_and_readable():
    assert part_address("/d/a.parquet", Part("row", "image", 12)) == "/d/a.parquet#row=12&column=image"
    member = Part("tar", "shoes/红 1.jpg", 512, 99)
    assert part_address("s3://b/0.tar", member) == "s3://b/0.tar#tar=shoes/%E7%BA%A2%201.jpg&at=512&bytes=99"
