"""schema.py: vectors as a column and as a matrix, in today's layout and in that of older runs."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistudio.schema import (
    score_schema,
    vector_array,
    vector_field,
    vector_matrix,
    vector_type,
    vector_width,
    with_list_vectors,
)


def fixed(column: pa.Array, width: int) -> pa.Array:
    """The layout of runs before November 2026."""
    return column.cast(pa.list_(column.type.value_type, width))


@given(st.integers(0, 9), st.integers(1, 5), st.sampled_from(["float32", "float16"]), st.data())
def test_a_matrix_becomes_a_column_and_comes_back(num: int, width: int, dtype: str, data: st.DataObject) -> None:
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=num, max_size=num)), bool)
    vectors = np.random.default_rng(num).normal(size=(num, width)).astype(dtype)
    column = vector_array(vectors, valid, dtype)
    column.validate(full=True)
    assert column.type == vector_type(dtype)
    assert column.is_valid().to_pylist() == valid.tolist()
    start = data.draw(st.integers(0, num))
    for stored in (column, fixed(column, width), pa.chunked_array([column[:start], column[start:]])):
        got = vector_matrix(stored)
        assert got.dtype == (dtype if valid.any() else np.float32)
        np.testing.assert_array_equal(got, vectors[valid].reshape(len(got), -1 if len(got) else 0))
        tail = vector_matrix(stored[start:])
        np.testing.assert_array_equal(tail.ravel(), vectors[start:][valid[start:]].ravel())


def test_a_parquet_file_keeps_vectors_nulls_and_width() -> None:
    schema = pa.schema([vector_field("embedding", 3), vector_field("rank_embedding", 2, "float16")])
    own = [
        vector_array(np.ones((2, 3), np.float32), np.array([True, False])),
        vector_array(np.ones((2, 2)), None, "float16"),
    ]
    file = io.BytesIO()
    pq.write_table(pa.table(own, schema=schema), file)
    table = pq.read_table(file)
    assert table["embedding"].to_pylist() == [[1, 1, 1], None]
    assert [vector_width(f) for f in table.schema] == [3, 2]
    assert table.schema.field("rank_embedding").type == pa.list_(pa.float16())


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32())), "several widths"),
        (pa.chunked_array([[[1.0]], [[1.0, 2.0]]], pa.list_(pa.float32())), "several widths"),
        (pa.array([[1.0, None]], pa.list_(pa.float32())), "1 numbers missing"),
        (pa.array([[1, 2]]), "no column of vectors"),
        (pa.array(["a"]), "no column of vectors"),
    ],
)
def test_what_is_no_matrix_is_refused(column: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vector_matrix(column)


def test_columns_of_old_files_get_todays_layout_and_only_vectors() -> None:
    new = vector_array(np.ones((3, 2), np.float32), np.array([True, False, True]))
    counts = pa.array([[1, 2], [3, 4], None], pa.list_(pa.int64(), 2))
    table = with_list_vectors(pa.table({"embedding": fixed(new, 2), "counts": counts, "name": ["a", "b", "c"]}))
    assert table["embedding"].combine_chunks().equals(new)
    assert vector_width(table.schema.field("embedding")) == 2
    assert table["counts"].type == pa.list_(pa.int64(), 2)
    both = pa.concat_tables([table.select(["embedding"]), pa.table({"embedding": new})])
    assert len(vector_matrix(both["embedding"])) == 4


def test_score_files_say_the_width_of_their_vectors() -> None:
    schema = score_schema([], {"embedding": 512, "rank_embedding": 24}, "float16")
    assert vector_width(schema.field("embedding")) == 512
    assert vector_width(schema.field("rank_embedding")) == 24
    assert vector_width(schema.field("error")) is None
