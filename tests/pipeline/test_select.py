"""Selection over a stored run: items that lie in several shards stay whole, in one process and through Ray."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import SelectSettings, parse_config
from aistudio.errors import StoreError
from aistudio.jobs.select import main
from aistudio.pipeline.select import select_run
from aistudio.runs import layout
from aistudio.schema import score_schema
from aistudio.selection import select_images
from aistudio.store import open_store

DIM = 4


def stored_run(root, num_items=30, per_item=7, shard_rows=16, seed=0):
    """Score files whose items are spread over all shards; returns (store, the whole table)."""
    rng = np.random.default_rng(seed)
    n = num_items * per_item
    items = [f"=item{i % num_items}" for i in range(n)]
    status = np.where(rng.random(n) < 0.1, "timeout", "ok")
    ok = status == "ok"
    vectors = rng.normal(size=(n, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = {
        "row_id": [str(i) for i in range(n)],
        "item_id": items,
        "image_url": [f"http://x/{i}.jpg" for i in range(n)],
        "text": ["t"] * n,
        "status": list(status),
        "content_hash": [f"h{i % 11}" if s else None for i, s in enumerate(ok)],
        "recall_score": [float(x) if s else None for x, s in zip(rng.normal(size=n), ok, strict=True)],
        "rank_score": [float(x) if s else None for x, s in zip(rng.normal(size=n), ok, strict=True)],
        "embedding": [v.tolist() if s else None for v, s in zip(vectors, ok, strict=True)],
    }
    schema = score_schema([], {"embedding": DIM})
    whole = pa.table({f.name: pa.array(columns.get(f.name, [None] * n), f.type) for f in schema}, schema=schema)
    store = open_store(str(root))
    names = []
    for i, start in enumerate(range(0, n, shard_rows)):
        part = whole.slice(start, shard_rows)
        names.append([f"00000-{i:06d}", part.num_rows])
        store.write_table(f"scores/{names[-1][0]}.parquet", part)
    index = {"shards": names, "passthrough": [], "num_rejected": 0, "rejected_reasons": {}, "identity": {}}
    store.write_json(layout.MANIFEST_INDEX, index)
    return store, whole


def config_for(store, **settings):
    data = {"manifest": {"path": "-", "format": "csv"}, "output": store.root, "models": {"recall": "-"}}
    return parse_config({**data, "select": {"num_images": 2, **settings}}, "test")


def rows(store):
    table = pq.read_table(f"{store.root}/selection")
    return sorted(table.to_pylist(), key=lambda r: int(r["row_id"]))


@pytest.mark.parametrize("settings", [{}, {"duplicate_cosine": None, "recall_threshold": 0.0}, {"recall_top_m": 3}])
def test_one_process_gives_what_the_pure_function_gives(tmp_path, settings):
    store, whole = stored_run(tmp_path)
    config = config_for(store, **settings)
    result = select_run(store, config)
    want = sorted(
        select_images(whole, **config.select.model_dump(exclude={"encoder"})).to_pylist(),
        key=lambda r: int(r["row_id"]),
    )
    assert rows(store) == want
    assert result.num_rows == 210 and result.num_items == 30
    assert result.num_selected == sum(r["selected"] for r in want)
    assert sum(result.reasons.values()) == 210


def test_many_buckets_through_ray_give_the_same(tmp_path, local_ray):
    store, whole = stored_run(tmp_path)
    config = config_for(store)
    result = select_run(store, config, bucket_rows=50)
    assert len([f for f in result.files if f.endswith(".parquet")]) > 1
    want = sorted(
        select_images(whole, **config.select.model_dump(exclude={"encoder"})).to_pylist(),
        key=lambda r: int(r["row_id"]),
    )
    assert rows(store) == want


def test_a_second_selection_replaces_the_first_and_csv_cells_are_no_formulas(tmp_path):
    store, _ = stored_run(tmp_path)
    select_run(store, config_for(store, num_images=3))
    result = select_run(store, config_for(store, num_images=1), csv=True)
    assert result.num_selected <= 30
    [name] = [f for f in result.files if f.endswith(".csv")]
    lines = list(csv.DictReader(io.StringIO(store.read_bytes(name).decode("utf-8-sig"))))
    assert len(lines) == 210 and all(line["item_id"].startswith("'=item") for line in lines)


def test_a_folder_without_scores_is_refused(tmp_path):
    store = open_store(str(tmp_path))
    with pytest.raises(StoreError, match="no stored scores"):
        select_run(store, config_for(store))


def test_the_defaults_are_the_functions():
    assert set(SelectSettings().model_dump()) == {
        "encoder",
        "num_images",
        "recall_threshold",
        "recall_top_m",
        "duplicate_cosine",
    }


def with_columns(tmp_path, **columns):
    """A run whose rows have columns of the user's; all rows are ok and of one shard."""
    n = len(next(iter(columns.values())))
    own = [pa.field(name, pa.array(values).type) for name, values in columns.items() if name != "text"]
    base = {
        "row_id": [str(i) for i in range(n)], "item_id": [f"i{i % 2}" for i in range(n)],
        "image_url": [f"http://x/{i}" for i in range(n)], "text": ["a"] * n, "status": ["ok"] * n,
        "recall_score": [0.5 - 0.2 * i for i in range(n)],
    }  # fmt: skip
    schema = score_schema(own, {"embedding": DIM})
    values = base | columns
    whole = pa.table({f.name: pa.array(values.get(f.name, [None] * n), f.type) for f in schema}, schema=schema)
    store = open_store(str(tmp_path))
    store.write_table("scores/00000-000000.parquet", whole)
    index = {"shards": [["00000-000000", n]], "passthrough": [], "num_rejected": 0}
    index |= {"rejected_reasons": {}, "identity": {}}
    store.write_json(layout.MANIFEST_INDEX, index)
    return store


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["12.50", "3", " ", "-0.1"], [12.5, 3.0, None, -0.1]),
        (["12", "", "0", "-7"], [12, None, 0, -7]),
        (["0012", "1", "2", "3"], ["0012", "1", "2", "3"]),  # an article number
        (["+49", "1", "2", "3"], ["+49", "1", "2", "3"]),
        (["1e5", "1", "2", "3"], ["1e5", "1", "2", "3"]),
        (["12345678901234567890", "1", "2", "3"], ["12345678901234567890", "1", "2", "3"]),
        (["1,5", "1", "2", "3"], ["1,5", "1", "2", "3"]),
        (["", " ", "", ""], ["", " ", "", ""]),
        (["a", "1", "2", "3"], ["a", "1", "2", "3"]),
        ([1.5, None, 2.0, 3.0], [1.5, None, 2.0, 3.0]),
        ([True, False, None, True], [True, False, None, True]),
    ],
)
def test_ones_own_columns_are_there_with_their_type(tmp_path, values, wanted):
    store = with_columns(tmp_path, price=values, position=["x"] * 4)
    result = select_run(store, config_for(store, duplicate_cosine=None))
    assert [r["price"] for r in rows(store)] == wanted
    assert result.numbers == (["price"] if isinstance(values[0], str) and not isinstance(wanted[0], str) else [])
    assert {r["manifest_position"] for r in rows(store)} == {"x"} and {r["position"] for r in rows(store)} == {1, 2}


def test_selection_is_one_parquet_dataset_and_says_what_it_went_by(tmp_path):
    store = with_columns(tmp_path, price=["1", "2", "3", "4"])
    result = select_run(store, config_for(store, duplicate_cosine=None), csv=True)
    assert [e.key for e in store.list("selection/")] == ["selection/00000.parquet"]
    assert [e.key for e in store.list("selection_csv/")] == ["selection_csv/00000.csv"]
    assert result.ordered_by == {"recall_score": 4} and result.num_doubtful == 1
    assert store.read_json("selection.json")["ordered_by"] == {"recall_score": 4}
    assert pq.read_table(f"{store.root}/selection").num_rows == 4


def test_rows_without_text_are_ordered_by_nothing_and_no_gate_is_blamed(tmp_path):
    store = with_columns(tmp_path, text=["", "\u200b", " ", "a"])  # older runs scored the empty text
    result = select_run(store, config_for(store, duplicate_cosine=None, recall_threshold=-1.0))
    assert result.ordered_by == {"recall_score": 1, "row_id": 3}
    assert [r["reason"] for r in rows(store)] == [*["no_recall_score"] * 3, "kept"]
    assert [r["recall_score"] is None for r in rows(store)] == [True, True, True, False]


@pytest.mark.parametrize("texts", [{}, {"warning": "the tokenizer does not know 97% of the tokens"}])
def test_an_order_by_texts_that_the_tokenizer_does_not_know_says_so(tmp_path, capsys, texts):
    store = with_columns(tmp_path, text=["a", "b", "c", "d"])
    config = config_for(store).model_dump(mode="json", include={"manifest", "output", "models"})
    store.write_json("run.json", {"config": config, "texts": texts})
    assert main(["--run", store.root]) == 0
    out = capsys.readouterr().out
    assert "ordered by recall_score" in out
    assert [line.strip() for line in out.splitlines() if "warning" in line] == [f"warning: {w}" for w in texts.values()]
