"""Rows taken over by columns are what each was when it was taken over by itself, bit for bit, however odd they are."""

import math
import random

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import StoreSettings
from aistudio.images.validators import entity_tag, http_date
from aistudio.runs import delta_join, layout
from aistudio.runs.reuse import Reuse
from aistudio.schema import CANDIDATE_FIELDS, Crop, Reused, Status, score_schema, text_schema, vector_array
from aistudio.scoring.base_file import ADDRESS, OUTCOME, TEXTS
from aistudio.scoring.base_rows import BaseRows, Delta, Known
from aistudio.scoring.image_columns import NO_IMAGES, ImageColumns
from aistudio.scoring.image_source import ImageRow, storable_row
from aistudio.scoring.packing import pack_images, unpack_taken, with_taken
from aistudio.scoring.shard import ShardScorer, distinct_images
from aistudio.store import open_store
from tests.scoring.test_base_rows import PRINT, base_row
from tests.scoring.test_shard import FakeEncoders, Tower

OURS, MAX_BYTES, DIM = "00000-000000", 1000, Tower.dim
BOX = {"x0": 1, "y0": 2, "x1": 3, "y1": 4, "method": "border", "score": 0.25}
ODD = [
    {"status": "timeout", "embedding": None, "thumbnail": None}, {"status": "timeout"}, {"embedding": None},
    {"embedding": [1.0, math.nan, 2.0, 3.0]}, {"rank_score": None}, {"rank_score": math.nan}, {"recall_score": None},
    {"recall_score": math.inf}, {"thumbnail": None}, {"final_url": "http://h/\0there"}, {"final_url": "http://h/é" * 9},
    {"final_url": "http://h/there.jpg"}, {"content_hash": ""}, {"content_hash": None}, {"num_bytes": MAX_BYTES + 1},
    {"num_bytes": None}, {"etag": "forged"}, {"etag": None}, {"last_modified": "Sunday, 06-Nov-94 08:49:37 GMT"},
    {"last_modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, {"last_modified": "Mon, 06 Nov 1994 08:49:37 GMT"},
    {"last_modified": "Sun, 31 Feb 2027 08:49:37 GMT"}, {"crop_shape": None}, {"text": "", "recall_score": None},
    {"width": None, "http_status": None}, {"poi_names": "a,b"}, {"text": " \u200b"}, {"fallback_url": "http://h/f.jpg"},
    {"http_status": 304, "reused": "validators"},
]  # fmt: skip


class World:
    """A base of three files and a shard of another day, odd rows in both."""

    def __init__(self, folder, seed, dtype):
        rng = random.Random(seed)
        self.exact = dtype == "float32"
        self.run, self.base = open_store(str(folder / "run")), open_store(str(folder / "base"))
        rows = [self.row(n) | (rng.choice(ODD) if rng.random() < 0.5 else {}) for n in range(40)]
        rows += [self.row(n) | {"text": rng.choice(["text 1", "other"])} for n in rng.choices(range(40), k=14)]
        rng.shuffle(rows)
        schema = score_schema([], {"embedding": DIM}, dtype, ["crop_shape"], delta=True)
        self.files = {}
        for i in range(3):
            name, table = f"0000{i}-000000", pa.Table.from_pylist(rows[i::3], schema=schema)
            self.base.write_table(layout.scores_key(name), table, {"aistudio.fingerprint": PRINT})
            self.files[name] = table.to_pylist()
            texts = list(dict.fromkeys(r["text"] for r in rows[i::3] if r["text"] != "text 3"))
            vectors = np.array([[t == "text 5", len(t), 1, 2] for t in texts], np.float32)
            columns = {"text": texts, "embedding": vector_array(vectors)}
            self.base.write_table(layout.texts_key(name), pa.table(columns, schema=text_schema(DIM)))
        ours = [dict(rng.choice(rows)) for _ in range(50)] + [self.row(n) for n in range(100, 104)]
        for row in rng.sample(ours, 12):
            row |= rng.choice(
                [{"text": "new text"}, {"poi_names": "new"}, {"image_url": "http://h/1.jpg"}, {"text": ""}]
            )
        fields = [*CANDIDATE_FIELDS, pa.field("colour", pa.string())]
        self.rows = pa.Table.from_pylist([{f.name: r.get(f.name) for f in fields} for r in ours], pa.schema(fields))
        self.rows = self.rows.set_column(0, fields[0], pa.array([f"r{i}" for i in range(len(ours))]))
        self.distinct = distinct_images(self.rows)
        self.run.write_table(layout.manifest_key(OURS), self.rows)
        delta_join.split_base(delta_join.Group(0, list(self.files)), self.run, self.base, PRINT, 1)
        delta_join.split_new(delta_join.Group(0, [OURS]), self.run, 1)
        delta_join.join_part(0, self.run)
        delta_join.gather(0, self.run)
        reuse = Reuse({"embedding": "embedding"}, {"crop_form": "crop_shape"}, self.exact, True, True, True)
        self.delta = Delta(
            base=self.base.root, store=StoreSettings(), fingerprint=PRINT, reuse=reuse, trust="url", firsts=(OURS,),
            dims={"embedding": DIM}, text_dim=DIM, crops={"crop_form": 1}, num_formats=2, max_bytes=MAX_BYTES,
        )  # fmt: skip

    @staticmethod
    def row(n):
        return base_row(n, embedding=[n + 0.1, 1.0, 2.0, 3.0], crop_shape=BOX | {"x0": n % 3})

    def known(self) -> Known:
        told: list[str] = []
        known = BaseRows(self.run, self.delta, told.append).of_shard(OURS, self.rows, self.distinct.of_row)
        assert not told
        return known

    def by_hand(self):
        """Images by number, recall and rank scores by row: looked up one by one."""
        rows, of_row = self.rows.to_pylist(), self.distinct.of_row
        matches = delta_join.matches_of(self.run, (OURS,), OURS).to_pylist()
        order = list(dict.fromkeys(m["base_shard"] for m in matches))
        images, stored = {}, {}
        for match in sorted(matches, key=lambda m: order.index(m["base_shard"])):
            row, there = match["row"], self.files[match["base_shard"]][match["base_row"]]
            number = int(of_row[row])
            if any(rows[row][name] != there[name] for name in ADDRESS):
                continue
            if number not in images:
                if (image := image_of(there, number)) is None:
                    continue
                images[number] = image
            if match["same_text"] and all(rows[row][name] == there[name] for name in TEXTS):
                stored[row] = finite(there["recall_score"]), finite(there["rank_score"])
        rank = {row: scores[1] for row, scores in stored.items()}
        if self.exact:
            return images, {}, rank
        for row, number in enumerate(of_row.tolist()):
            recall, ranked = stored.get(row, (None, None))
            says_something = rows[row]["text"].strip("\u200b ") != ""
            if row not in stored or ranked is None or (recall is None and says_something):
                images.pop(number, None)
        return images, {row: scores[0] for row, scores in stored.items()}, rank


def finite(score):
    return score if score is not None and math.isfinite(score) else None


def image_of(row, number):
    vector, box = row["embedding"], row["crop_shape"]
    if row["status"] != "ok" or not row["content_hash"] or (row["num_bytes"] or 0) > MAX_BYTES:
        return None
    if vector is None or not np.isfinite(vector).all() or box is None:
        return None
    told = {name: row[name] for name in OUTCOME if name != "status"}
    told |= {"etag": entity_tag(row["etag"]), "last_modified": http_date(row["last_modified"])}
    vectors = (np.array(vector, np.float32),)
    return storable_row(ImageRow(number, Status.OK, crops=(None, Crop(**box)), vectors=vectors, **told))


def plain(images):
    return {n: (i._replace(vectors=()), [(v.dtype, v.tobytes()) for v in i.vectors]) for n, i in images.items()}


class Encoders(FakeEncoders):
    def __init__(self):
        super().__init__()
        self.crops = {"crop_form": 1}


def fresh(number):
    if number % 5 == 0:
        return ImageRow(number, Status.TIMEOUT, "late")
    pixels = tuple(np.full((2, 2, 3), number % 200, np.uint8) for _ in range(2))
    crops = (None, Crop.whole(4, number + 1))
    return ImageRow(number, Status.OK, num_bytes=9, pixels=pixels, crops=crops, thumbnail=b"new", etag='"new"')


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("seed", range(6))
def test_odd_rows_are_taken_over_as_one_by_one(tmp_path, seed, dtype):
    world = World(tmp_path, seed, dtype)
    known = world.known()
    images, recall, rank = world.by_hand()
    assert plain(known.images) == plain(images) and (known.recall, known.rank) == (recall, rank)
    assert len(images) > (12 if dtype == "float32" else 3) and len(images) < len(world.distinct.requests) - 3

    others = [fresh(n) for n in range(len(world.distinct.requests)) if n not in images]
    taken = known.images.taken_by(Reused.URL)
    travelled = unpack_taken(with_taken(pack_images(OURS, ()), taken))
    hand = known._replace(images=NO_IMAGES, recall=recall, rank=rank)
    one_by_one = [image._replace(reused=Reused.URL) for image in images.values()]
    ways = {"hand": (hand, one_by_one, NO_IMAGES), "columns": (known, [], taken), "staged": (known, [], travelled)}
    for name, (of_base, at_once, columns) in ways.items():
        scorer = ShardScorer(Encoders(), dtype, 4)
        table, texts, counts = scorer.score(
            world.rows, world.distinct, [*at_once, *others], lambda counts: None, of_base, columns
        )
        world.run.write_table(f"{name}/scores.parquet", table)
        world.run.write_table(f"{name}/texts.parquet", texts)
        assert counts["reused_url"] == sum(n in images for n in world.distinct.of_row) and counts["bytes"] < 9 * 30
        assert len(scorer.outcomes(known.columns)) == len(world.distinct.requests)
        for file in ("scores", "texts"):
            assert world.run.read_bytes(f"{name}/{file}.parquet") == world.run.read_bytes(f"hand/{file}.parquet"), name


def test_a_whole_shard_is_taken_over_without_an_image_that_passes_by_itself(tmp_path, monkeypatch):
    world = World(tmp_path, 1, "float32")
    known = world.known()
    world.rows = world.rows.filter(pa.array(np.isin(world.distinct.of_row, list(known.images))))
    world.distinct = distinct_images(world.rows)
    world.run.write_table(layout.manifest_key(OURS), world.rows)
    delta_join.split_new(delta_join.Group(0, [OURS]), world.run, 1)
    delta_join.join_part(0, world.run)
    delta_join.gather(0, world.run)
    known = world.known()
    assert len(known.images) == len(world.distinct.requests)
    monkeypatch.setattr(ImageColumns, "_rows", property(lambda self: pytest.fail("made an object of each image")))
    table, _, _ = ShardScorer(Encoders(), "float32", 4).score(
        world.rows, world.distinct, (), lambda counts: None, known, known.images.taken_by(Reused.URL)
    )
    assert set(table["reused"].to_pylist()) == {"url"} and table["embedding"].null_count == 0


def test_images_can_be_left_out_and_looked_at():
    assert len(NO_IMAGES) == 0 and list(NO_IMAGES.without({1: 2})) == [] and not NO_IMAGES.taken_by(Reused.URL)
    assert unpack_taken(pack_images("s", ())) is NO_IMAGES
