"""Duplicate ids by bucket."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from aistudio.catalogue import find_duplicates


@given(
    parts=st.lists(st.lists(st.sampled_from(["", "a", "b", "张", "a ", "c\0"]) | st.none(), max_size=6), max_size=5),
    num_buckets=st.integers(1, 4),
)
def test_buckets_together_are_all_duplicates(parts, num_buckets):
    chunks = [pa.array(part, pa.string()) for part in parts]
    found = [find_duplicates(iter(chunks), b, num_buckets) for b in range(num_buckets)]
    counts = Counter(x for part in parts for x in part if x is not None)
    assert sorted(x for ids in found for x in ids) == sorted(x for x, n in counts.items() if n > 1)


def test_chunked_arrays_and_an_even_spread():
    ids = pa.chunked_array([pa.array([str(n) for n in range(4000)])] * 2)
    sizes = [len(find_duplicates(ids, b, 4)) for b in range(4)]
    assert sum(sizes) == 4000
    assert min(sizes) > 800


def test_nothing():
    assert find_duplicates([], 0, 1) == []
    assert find_duplicates(pa.chunked_array([], pa.string()), 0, 1) == []
