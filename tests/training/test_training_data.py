"""Prepared data: arrays on disk, the bounded cache, rows of every source, what is left out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from aistudio.config.train_data import DataSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.evaluation.pairs import join_sides
from aistudio.training import programs
from aistudio.training.arrays import ArrayReader, ArrayWriter
from aistudio.training.cache import INDEX, Cache
from aistudio.training.dataset import hashes, share_of_items
from aistudio.training.item_batches import ItemBatches
from aistudio.training.pairs_data import find_pairs
from aistudio.training.shuffled import ShuffledBatches
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

CPU = torch.device("cpu")


def test_arrays_come_back_row_by_row_whatever_the_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("aistudio.training.arrays.SHARD_BYTES", 40)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(23, 3)).astype(np.float32)
    writer = ArrayWriter(tmp_path, "v", "f4", (3,))
    for start in (0, 1, 8, 8, 20):
        writer.append(rows[writer.info.num_rows : max(start, writer.info.num_rows)])
    writer.append(rows[writer.info.num_rows :])
    assert len(list(tmp_path.glob("v-*.bin"))) == 8 and len(writer.info.crc32) == 8
    wanted = rng.integers(0, 23, 50)
    np.testing.assert_array_equal(ArrayReader(tmp_path, writer.info)[wanted], rows[wanted])
    assert ArrayReader(tmp_path, writer.info)[[]].shape == (0, 3)
    path = tmp_path / "v-00003.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    reader = ArrayReader(tmp_path, writer.info)
    np.testing.assert_array_equal(reader[[0, 22]], rows[[0, 22]])
    with pytest.raises(StoreError, match="wrong checksum"):
        reader[[10]]


def made(cache: Cache, name: str, size: int) -> Path:
    with cache.building(name) as folder:
        assert folder is not None
        (folder / "data.bin").write_bytes(bytes(size))
        (folder / INDEX).write_text("{}")
    return folder


def test_the_cache_stays_below_its_limit_and_spares_what_is_used(tmp_path):
    settings = DataSettings(run="r", cache=str(tmp_path), cache_max_gb=250e-9)
    cache, other = Cache(settings), Cache(settings)
    first, second, third = (made(cache, name * 40, 100) for name in "abc")
    other.use("a" * 40)
    with cache.building("a" * 40) as again:
        assert again is None, "one who reads does not keep another from reading"
    cache.make_room(third)
    assert first.exists() and not second.exists() and third.exists()
    other.use("c" * 40)
    with pytest.raises(ConfigError, match="the data sets in use take"):
        made(cache, "d" * 40, 100)
        cache.make_room(cache.folder("d" * 40))
    other.close()
    cache.make_room(cache.folder("d" * 40))
    assert not first.exists()


def test_pixels_are_decoded_once_and_failures_counted(tmp_path, monkeypatch):
    data = tiny.recall(tmp_path)
    manifest = Path(data["data"]["manifest"]["path"])
    lines = manifest.read_text().splitlines()
    broken = tmp_path / "pictures" / "broken.png"
    broken.write_bytes(b"no picture")
    lines += [f"i0,{broken},thing a,0.1,x", "i1,/no/such.png,thing b,0.1,x", lines[1], ",no item,thing,0.2,x"]
    manifest.write_text("\n".join(lines) + "\n")
    say: list[str] = []
    setup = programs.set_up(tiny.parsed(data), Team(), CPU, say.append)
    counts = setup.counts
    left_out = {k: counts["train"]["left_out"].get(k, 0) + counts["validation"]["left_out"].get(k, 0)
                for k in {*counts["train"]["left_out"], *counts["validation"]["left_out"]}}  # fmt: skip
    assert left_out == {
        "the image failed: not_an_image": 1,
        "the image failed: not_found": 1,
        "a manifest line was rejected: empty item_id": 1,
    }
    assert counts["train"]["rows"] + counts["validation"]["rows"] == 33
    assert counts["train"]["images"] + counts["validation"]["images"] == 32
    size = setup.task.dual.image_spec.size
    assert setup.task.data.train.arrays["pixels"].info.row_shape == (-(-size * 115 // 100),) * 2 + (3,)
    assert setup.task.data.validation.arrays["pixels"].info.row_shape == (size, size, 3)
    assert len(say) == 2
    monkeypatch.setattr("aistudio.training.images.ImageSource", None)  # an epoch, or a second training, decodes nothing
    programs.set_up(tiny.parsed(data), Team(), CPU, say.append)
    assert len(say) == 2


def test_pairs_are_those_of_the_evaluation(tmp_path):
    """Torn, doubled and odd pairs: the same pairs are used as by `aggregate`."""
    tiny.write_model(tmp_path / "model", "siamese_poi")
    odd = {
        "side": lambda p, s: {3: "a", 4: "c", 5: s.upper(), 6: f" {s} "}.get(p, s),
        "pair_id": lambda p, s: None if p == 7 else f"p{8 if p == 9 else p}",
        "ctr": lambda p, s: None if p == 11 and s == "b" else float((p * 7 + (s == "a") * 3) % 5),
    }
    tiny.write_pairs_run(tmp_path / "train_run", 12, 40, seed=1, **odd)
    tiny.write_pairs_run(tmp_path / "val_run", 12, 30, seed=2)
    settings = tiny.parsed(tiny.ranking(tmp_path))
    data = programs.set_up(settings, Team(), CPU, print).task.data.train
    found, left_out = find_pairs(data, np.ones(len(data), bool))
    tables = [pa.parquet.read_table(p) for p in sorted((tmp_path / "train_run" / "scores").glob("*.parquet"))]
    frame = pa.concat_tables(tables).to_pandas().drop(columns=["embedding", "thumbnail"])
    frame = frame.assign(rank_score=0.0, recall_score=0.0, id=np.arange(len(frame)))
    joined, _, _ = join_sides(frame[frame["pair_id"].notna()])
    assert data.readable(found.row_a, "row_id") == joined["row_id_a"].tolist()
    assert data.readable(found.row_b, "row_id") == joined["row_id_b"].tolist()
    np.testing.assert_array_equal(found.ctr_a, joined["ctr_a"])
    assert left_out["the row belongs to no pair"] == 2 and left_out["the CTR is not a number"] == 1


def test_a_split_by_hash_has_the_share_that_was_asked_for():
    items = hashes(pa.array([f"item {i}" for i in range(20_000)]))
    for share in (0.01, 0.1, 0.5):
        validation, training = share_of_items(share, True)(items), share_of_items(share, False)(items)
        assert (validation ^ training).all() and abs(validation.mean() - share) < 0.01


@pytest.mark.parametrize("groups", [False, True])
def test_batches_use_every_row_once_and_go_on_where_they_were(groups):
    rng = np.random.default_rng(1)
    items = rng.integers(0, 30, 200)
    group = items % 3 if groups else None

    def sampler(rank: int = 0, size: int = 1) -> ItemBatches:
        return ItemBatches(items, 3, group, ShuffledBatches(200, 16, 7, rank, size))

    whole = list(sampler())
    assert len(whole) == 12 and len({row for batch in whole for row in batch}) == 192
    first = sampler()
    taken = [next(iter(first))]
    second = sampler()
    second.load_state_dict({**first.state_dict(), "position": 1})
    assert taken + list(second) == whole
    assert list(second) != whole, "the next epoch has another order"
    shares = list(zip(sampler(0, 2), sampler(1, 2), strict=True))
    assert [a + b for a, b in shares] == whole
    if groups:
        mixed = np.mean([len(set(items[batch] % 3)) > 1 for batch in whole])
        assert mixed < 0.5, "most batches hold one group"
    with pytest.raises(ConfigError, match="the stored training has batch_size 16, this one 8"):
        ShuffledBatches(200, 8, 7).load_state_dict(sampler().state_dict())
