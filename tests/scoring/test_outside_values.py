"""Whatever a server, a file, a decoder or a model gives: it costs its own row at most, and every row is stored."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aistudio.config import parse_config
from aistudio.images.download import Fetched
from aistudio.schema import Status
from aistudio.scoring.image_source import ImageRow, ImageSource, storable_row
from aistudio.scoring.isolate import in_halves
from aistudio.scoring.packing import pack_images, unpack_images
from aistudio.scoring.shard import ShardScorer, distinct_images
from tests.scoring.test_shard import FakeEncoders, image, rows_of, score

TEXTS = (
    st.none()
    | st.text(st.characters(exclude_categories=()))
    | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))
)
NUMBERS = st.none() | st.integers() | st.sampled_from([2**31, -(2**31) - 1, 2**63, 10**400]) | st.floats()
FAILED = [s for s in Status if s != Status.OK]


@st.composite
def outcomes(draw: st.DrawFn, number: int) -> ImageRow:
    """An image's outcome with anything in its texts and numbers."""
    row = ImageRow(
        number, draw(st.sampled_from([Status.OK, *FAILED])), draw(TEXTS), draw(NUMBERS), draw(NUMBERS), draw(TEXTS),
        draw(NUMBERS), draw(NUMBERS), draw(TEXTS), draw(st.none() | st.binary() | st.just("text")),
    )  # fmt: skip
    return row._replace(pixels=(np.full((2, 2, 3), 7, np.uint8),) if row.status == Status.OK else ())


def shard_of(images: list[ImageRow]) -> pa.Table:
    table, _, counts = score(rows_of([f"u{i}" for i in range(len(images))]), images, FakeEncoders())
    file = io.BytesIO()
    pq.write_table(table, file)
    assert pq.read_table(file).to_pylist() == table.to_pylist()
    json.dumps(counts)
    return table


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_outcome_is_stored_whatever_is_in_it(data: st.DataObject) -> None:
    images = [data.draw(outcomes(i)) for i in range(3)]
    table = shard_of(images)
    assert table["status"].to_pylist() == [i.status.value for i in images]
    for name, bits in (("http_status", 32), ("num_bytes", 64), ("width", 32), ("height", 32)):
        for i, stored in zip(images, table[name].to_pylist(), strict=True):
            value = getattr(i, name)
            fits = isinstance(value, int) and -(1 << (bits - 1)) <= value < 1 << (bits - 1)
            assert stored == (value if fits else None)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_outcome_goes_through_the_staged_plan(data: st.DataObject) -> None:
    images = [data.draw(outcomes(i)) for i in range(3)]
    name, unpacked = unpack_images(pack_images("s", images))
    assert name == "s"
    plain = [i._replace(pixels=()) for i in unpacked]
    assert plain == [storable_row(i)._replace(pixels=()) for i in images]


def test_pixels_of_another_shape_cost_their_row_alone() -> None:
    odd = image(1)._replace(pixels=(np.zeros((3, 3, 3), np.uint8),))
    two = image(3)._replace(pixels=(np.zeros((2, 2, 3), np.uint8),) * 2)
    got = list(unpack_images(pack_images("s", [image(0), odd, image(2), two]))[1])
    assert [r.status for r in got] == ["ok", "model_error", "ok", "model_error"]


class Panic(BaseException):
    """As pyo3_runtime.PanicException of a tokenizer: not an Exception."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")


FAULTS = [
    Panic("rust"),
    Speechless(),
    ValueError("P\udce1gina \0 \x1b[2J"),
    RecursionError(),
    OSError("\ud800"),
    KeyError(),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("kind", ["image", "text", "rank"])
def test_whatever_a_model_raises_costs_one_row(kind: str, fault: BaseException) -> None:
    def fail(what, items):
        if what == kind and (3 in items or "evil" in items):
            raise fault

    rows = rows_of(list("abcd"), ["good", "good", "evil", "good"])
    images = [image(i) for i in range(4)]
    table, texts, _ = score(rows, images, FakeEncoders(fail=fail))
    assert table["status"].to_pylist() == ["ok", "ok", "model_error", "ok"]
    assert table["error"][2].as_py().startswith(type(fault).__name__)
    assert table["error"].combine_chunks().cast(pa.binary()).cast(pa.string()).validate(full=True) is None
    assert "evil" not in texts["text"].to_pylist() or kind != "text"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_a_rows_fault(stop: type[BaseException]) -> None:
    def call(items):
        raise stop

    with pytest.raises(stop):
        in_halves(call, [1, 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_text_vectors_and_scores_that_are_not_finite_cost_their_rows(value: float) -> None:
    encoders = FakeEncoders()
    encoders.texts = lambda texts: np.array([[value if t == "evil" else 1, 0, 0, 0] for t in texts], np.float32)
    rows = rows_of(list("abc"), ["good", "evil", "good"])
    table, texts, _ = score(rows, [image(i) for i in range(3)], encoders)
    assert table["status"].to_pylist() == ["ok", "model_error", "ok"]
    assert "not finite" in table["error"][1].as_py()
    assert table["recall_score"].to_pylist() == [1, None, 3]
    assert np.isfinite(np.array(texts["embedding"].to_pylist())).all()


def test_vectors_beyond_float16_cost_their_row_where_float16_is_stored() -> None:
    encoders = FakeEncoders()
    encoders.encode = lambda pixels: [
        np.array([[7e4 if p[0].flat[0] == 2 else 1, 0, 0, 0] for p in pixels], np.float32)
    ]
    rows = rows_of(list("abc"))
    scorer = ShardScorer(encoders, "float16", 4)
    table, _, _ = scorer.score(rows, distinct_images(rows), [image(i) for i in range(3)], lambda counts: None)
    assert table["status"].to_pylist() == ["ok", "model_error", "ok"]
    assert "does not fit float16" in table["error"][1].as_py()
    assert table["embedding"].to_pylist() == [[1, 0, 0, 0], None, [1, 0, 0, 0]]


CONFIG = {"manifest": {"path": "-", "format": "csv"}, "output": "-", "models": {"recall": "-"}}


class FakeDownloader:
    def stream(self, requests, known=None):
        for i in range(len(requests)):
            yield i, Fetched(Status.OK, body=b"x" * (i + 1), num_bytes=i + 1)

    def close(self):
        pass


@pytest.mark.parametrize("fault", [*FAULTS, MemoryError()], ids=lambda f: type(f).__name__)
def test_whatever_a_decoder_raises_costs_one_image(monkeypatch, fault: BaseException) -> None:
    def decode(body, specs, settings, detectors):
        if len(body) == 2:
            raise fault
        return SimpleNamespace(
            status=Status.OK, error=None, width=2**31, height=1, content_hash="h", thumbnail=b"t",
            pixels=(np.zeros((2, 2, 3), np.uint8),), crops=(None,),
        )  # fmt: skip

    monkeypatch.setattr("aistudio.scoring.image_source.decode", decode)
    monkeypatch.setattr("aistudio.scoring.image_source.Downloader", lambda *a, **k: FakeDownloader())
    source = ImageSource(parse_config(CONFIG, "test"), ())
    got = {r.number: r for r in source.images([("a", None), ("b", None), ("c", None)])}
    source.close()
    assert [got[i].status for i in range(3)] == ["ok", "unsupported_image", "ok"]
    assert got[1].error.startswith(f"decoding failed: {type(fault).__name__}")
    assert got[0].width is None and got[0].height == 1
