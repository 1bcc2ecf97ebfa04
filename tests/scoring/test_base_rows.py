"""Rows of a base are taken over only as far as they prove themselves, whatever its files hold."""

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import StoreSettings
from aistudio.runs import delta_join, layout
from aistudio.runs.reuse import Reuse
from aistudio.schema import CANDIDATE_FIELDS, Crop, Reused, score_schema, text_schema, vector_array, vector_type
from aistudio.scoring.base_rows import BaseRows, Delta
from aistudio.scoring.shard import distinct_images
from aistudio.store import open_store

PRINT, DIM = "f" * 64, 3
SHARD = "00000-000000"
COLUMNS = {"embedding": "embedding"}


def base_row(n: int, **changes) -> dict:
    found = {
        "row_id": f"r{n}", "item_id": "i", "image_url": f"http://h/{n}.jpg", "fallback_url": None, "text": f"text {n}",
        "poi_names": None, "status": "ok", "error": None, "http_status": 200, "num_bytes": 10 + n, "final_url": None,
        "width": 4, "height": 5, "content_hash": f"{n:064x}", "recall_score": n / 7, "rank_score": n / 3,
        "etag": f'"v{n}"', "last_modified": None, "reused": "no", "embedding": [n + 0.1, 1.0, 2.0],
        "thumbnail": b"jpeg",
    }  # fmt: skip
    return found | changes


class Bench:
    """A base of one file and a run of one shard that lists the same rows."""

    def __init__(self, folder, rows, ours=None, reuse=None, dtype="float32", table=None, **delta):
        self.run, self.base = open_store(str(folder / "run")), open_store(str(folder / "base"))
        if table is None:
            schema = score_schema([], {"embedding": DIM}, dtype, delta=True)
            table = pa.Table.from_pylist(rows, schema=schema)
        self.base.write_table(layout.scores_key(SHARD), table, {"aistudio.fingerprint": PRINT})
        texts = list(dict.fromkeys(r["text"] for r in rows if isinstance(r["text"], str)))
        vectors = np.arange(len(texts) * DIM, dtype=np.float32).reshape(-1, DIM)
        columns = {"text": texts, "embedding": vector_array(vectors)}
        self.base.write_table(layout.texts_key(SHARD), pa.table(columns, schema=text_schema(DIM)))
        names = [f.name for f in CANDIDATE_FIELDS]
        ours = [{n: r.get(n) for n in names} for r in (ours or rows)]
        self.rows = pa.Table.from_pylist(ours, schema=pa.schema(CANDIDATE_FIELDS))
        self.run.write_table(layout.manifest_key(SHARD), self.rows)
        group = delta_join.Group(0, [SHARD])
        self.unread = delta_join.split_base(group, self.run, self.base, PRINT, 1).unread
        delta_join.split_new(group, self.run, 1)
        delta_join.join_part(0, self.run)
        delta_join.gather(0, self.run)
        reuse = reuse or Reuse(COLUMNS, {}, True, True, True, True)
        settings = {"trust": "url", "firsts": (SHARD,), "dims": {"embedding": DIM}, "text_dim": DIM, "crops": {}}
        settings |= {"num_formats": 1, "max_bytes": 1000, "store": StoreSettings(), "fingerprint": PRINT}
        self.delta = Delta(base=self.base.root, reuse=reuse, **(settings | delta))

    def known(self):
        self.told: list[str] = []
        distinct = distinct_images(self.rows)
        return BaseRows(self.run, self.delta, self.told.append).of_shard(SHARD, self.rows, distinct.of_row)


def test_a_whole_row_is_taken_with_all_that_is_stored_of_it(tmp_path):
    bench = Bench(tmp_path, [base_row(0), base_row(1, etag=None, final_url="http://h/there.jpg")])
    known = bench.known()
    assert not bench.told and known.columns == ("embedding",) and list(known.images) == [0, 1]
    image = known.images[1]
    assert image.vectors[0].tobytes() == np.array([1.1, 1, 2], np.float32).tobytes() and image.pixels == ()
    assert (image.num_bytes, image.width, image.height, image.thumbnail) == (11, 4, 5, b"jpeg")
    assert (image.final_url, image.etag, known.images[0].etag) == ("http://h/there.jpg", None, '"v0"')
    assert image.content_hash == f"{1:064x}" and image.crops == (None,) and image.reused == Reused.NO
    assert known.rank == {0: 0.0, 1: pytest.approx(1 / 3)} and known.recall == {}
    assert {t: v.tolist() for t, v in known.texts.items()} == {"text 0": [0, 1, 2], "text 1": [3, 4, 5]}


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "timeout"},
        {"status": "timeout", "embedding": None},
        {"embedding": None},
        {"embedding": [1.0, float("nan"), 2.0]},
        {"embedding": [1.0, float("inf"), 2.0]},
        {"content_hash": None},
        {"content_hash": ""},
        {"num_bytes": 1001},
    ],
)
def test_a_row_that_is_not_whole_costs_itself_alone(tmp_path, changes):
    known = Bench(tmp_path, [base_row(0), base_row(1, **changes), base_row(2)]).known()
    assert list(known.images) == [0, 2] and list(known.rank) == [0, 2]
    assert known.images[2].vectors[0][0] == np.float32(2.1)  # places of vectors are counted without the nulls


@pytest.mark.parametrize("etag", ['"a"\r\nX: 1', "*", "unquoted", "", '"' + "x" * 5_000 + '"'])
def test_a_forged_entity_tag_is_not_believed(tmp_path, etag):
    known = Bench(tmp_path, [base_row(0, etag=etag, last_modified=etag)]).known()
    assert (known.images[0].etag, known.images[0].last_modified) == (None, None)


def test_another_text_keeps_the_picture_and_loses_the_score(tmp_path):
    ours = [base_row(0), base_row(1, text="other"), base_row(2, poi_names="p")]
    known = Bench(tmp_path, [base_row(n) for n in range(3)], ours).known()
    assert list(known.images) == [0, 1, 2] and list(known.rank) == [0]
    assert "other" not in known.texts and "text 2" in known.texts


def test_matches_that_lie_are_found_out(tmp_path):
    bench = Bench(tmp_path, [base_row(0), base_row(1)])
    lies = [(0, 1, True), (1, 7, True)]  # another address; beyond the end
    columns = [[SHARD] * 2, [r for r, _, _ in lies], [SHARD] * 2, [b for _, b, _ in lies], [True] * 2]
    table = pa.table(columns, names=delta_join.MATCHES.names).cast(delta_join.MATCHES)
    bench.run.write_table(layout.delta_key("matches", 0), table)
    assert bench.known().images == {}


def test_several_rows_of_one_picture_each_keep_their_own_score(tmp_path):
    rows = [base_row(0), base_row(0, row_id="x", text="other", rank_score=9.0), base_row(0, row_id="y", text="third")]
    known = Bench(tmp_path, rows, [*rows[:2], base_row(0, text="unknown")]).known()
    assert list(known.images) == [0] and known.rank == {0: 0.0, 1: 9.0}


def test_rounded_vectors_hold_only_where_every_row_has_its_scores(tmp_path):
    reuse = Reuse(COLUMNS, {}, False, True, True, True)
    rows = [base_row(0), base_row(1), base_row(1, row_id="z", text="again"), base_row(2, text="", recall_score=None)]
    ours = [rows[0], rows[1], base_row(1, text="changed"), rows[3]]
    known = Bench(tmp_path, rows, ours, reuse, "float16").known()
    assert list(known.images) == [0, 2] and known.recall[0] == 0.0 and known.recall[3] is None
    assert known.images[2].vectors[0].dtype == np.float32
    assert known.images[2].vectors[0].tolist() == np.array([2.1, 1, 2], np.float16).astype(np.float32).tolist()


@pytest.mark.parametrize(
    "scores", [{"rank_score": float("nan")}, {"recall_score": None}, {"recall_score": float("inf")}]
)
def test_scores_that_are_none_are_computed_again(tmp_path, scores):
    rows = [base_row(0), base_row(1, **scores)]
    known = Bench(tmp_path, rows).known()
    assert list(known.images) == [0, 1] and (known.rank[1] is None) == ("rank_score" in scores)
    reuse = Reuse(COLUMNS, {}, False, True, True, True)
    assert list(Bench(tmp_path / "rounded", rows, reuse=reuse, dtype="float16").known().images) == [0]


def test_a_base_of_an_earlier_version_has_no_validators_and_fixed_size_lists(tmp_path):
    schema = score_schema([], {"embedding": DIM})
    table = pa.Table.from_pylist([base_row(0), base_row(1)], schema=schema)
    old = table["embedding"].cast(pa.list_(pa.float32(), DIM))
    table = table.set_column(table.schema.get_field_index("embedding"), pa.field("embedding", old.type), old)
    known = Bench(tmp_path, [base_row(0), base_row(1)], table=table).known()
    assert list(known.images) == [0, 1] and known.images[0].etag is None


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("embedding", pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]], vector_type())),
        ("embedding", pa.array([[1.0, 2.0], [3.0, 4.0]], vector_type())),
        ("embedding", pa.array(["no", "vectors"])),
        ("num_bytes", pa.array(["ten", "eleven"])),
        ("image_url", pa.array([1, 2])),
        ("thumbnail", pa.array(["text", "text"])),
    ],
)
def test_columns_of_another_kind_do_not_end_the_shard(tmp_path, column, values):
    schema = score_schema([], {"embedding": DIM}, delta=True)
    table = pa.Table.from_pylist([base_row(0), base_row(1)], schema=schema)
    table = table.set_column(table.schema.get_field_index(column), column, values)
    known = Bench(tmp_path, [base_row(0), base_row(1)], table=table).known()
    assert all(i.thumbnail is None for i in known.images.values()) if column == "thumbnail" else known.images == {}


def test_files_that_cannot_be_read_are_told_and_cost_nothing_else(tmp_path):
    bench = Bench(tmp_path, [base_row(0)])
    for key in (layout.scores_key(SHARD), layout.texts_key(SHARD)):
        bench.base.write_bytes(key, b"broken")
    known = bench.known()
    assert known.images == {} and known.texts == {} and len(bench.told) == 2
    bench.base.delete(layout.scores_key(SHARD))
    assert bench.known().images == {}
    bench.run.delete(layout.delta_key("matches", 0))
    assert bench.known() == bench.known() and len(bench.told) == 1


def test_boxes_come_along_or_the_picture_does_not(tmp_path):
    box = {"x0": 1, "y0": 2, "x1": 3, "y1": 4, "method": "border", "score": None}
    schema = score_schema([], {"embedding": DIM}, crops=["crop_shape"], delta=True)
    table = pa.Table.from_pylist([base_row(0, crop_shape=box), base_row(1, crop_shape=None)], schema=schema)
    reuse = Reuse(COLUMNS, {"crop_form": "crop_shape"}, True, True, True, True)
    bench = Bench(tmp_path, [base_row(0), base_row(1)], None, reuse, table=table, crops={"crop_form": 1}, num_formats=2)
    known = bench.known()
    assert list(known.images) == [0] and known.images[0].crops == (None, Crop(1, 2, 3, 4, "border", None))
