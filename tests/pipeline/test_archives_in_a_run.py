"""Runs over archives: several tars with a broken one first, resume and retry read the pictures where they lie."""

from collections import Counter
from types import SimpleNamespace

import pytest

from aistudio.pipeline.sample import take_sample
from aistudio.runs import layout
from aistudio.runs.snapshot import find_manifest, read_input
from aistudio.store import open_store
from tests.archives import tar_of, zip_of
from tests.image_server import draw_jpeg
from tests.score_here import finished_here


@pytest.fixture
def shards(tmp_path):
    """A folder of three tars: noise, one that was cut, and a whole one, of 12 photographs in all."""
    folder = tmp_path / "shards"
    folder.mkdir()
    photos = {f"{i:03d}.jpg": draw_jpeg(i, (60 + i, 40)) for i in range(12)}
    texts = {name.replace("jpg", "txt"): f"item {i}".encode() for i, name in enumerate(photos)}
    whole = [tar_of(sorted((photos | texts).items())[start : start + 12]) for start in (0, 12)]
    (folder / "0.tar").write_bytes(b"noise" * 1000)
    (folder / "1.tar").write_bytes(whole[0][:-4096])
    (folder / "2.tar").write_bytes(whole[1])
    return folder


def test_a_broken_archive_costs_what_it_holds_and_is_counted(shards, make_config):
    config = make_config(shards, "webdataset", None)
    files, columns = find_manifest(config)
    assert len(files) == 3 and "txt" in columns.mapping.values()
    batches = [list(read_input(config, files, i, columns, many=True)) for i in range(3)]
    rejected = [[r["reason"] for b in found for r in b.rejected.to_pylist()] for found in batches]
    assert rejected[0][0].startswith("no header of a member") and rejected[2] == []
    assert len(rejected[1]) == 1 and "the archive" in rejected[1][0]
    rows = [r for found in batches for b in found for r in b.candidates.to_pylist()]
    assert len(rows) >= 11 and {r["row_id"][:2] for r in rows} == {"1-", "2-"}
    sample = take_sample(SimpleNamespace(config=config, files=files), 5)
    assert sample.total == len(rows) and sample.rows.num_rows == 5


def test_a_probe_of_a_zip_counts_its_samples(tmp_path, make_config):
    (tmp_path / "a.zip").write_bytes(zip_of({f"{i}/a.jpg": draw_jpeg(i) for i in range(30)}))
    config = make_config(tmp_path / "a.zip", "zip", None)
    sample = take_sample(SimpleNamespace(config=config, files=find_manifest(config)[0]), 5)
    assert (sample.total, sample.exact) == (30, True)


@pytest.mark.usefixtures("local_ray")
def test_resume_and_retry_read_the_pictures_where_they_lie(shards, make_config):
    (shards / "0.tar").unlink()
    sizes = sorted(len(draw_jpeg(i, (60 + i, 40))) for i in range(12))
    small = make_config(shards, "webdataset", None, download={"max_bytes": sizes[6]}, engine={"max_failed_share": None})
    result = finished_here(small)
    assert result.ledger.complete
    store = open_store(small.output)

    def statuses() -> Counter:
        return Counter(s for key in layout.score_keys(store) for s in store.read_table(key)["status"].to_pylist())

    first = statuses()
    assert first["too_large"] >= 4 and first["ok"] >= 6
    store.delete(layout.score_keys(store)[0])
    assert finished_here(small).ledger.complete and statuses() == first
    large = small.model_copy(update={"download": small.download.model_copy(update={"max_bytes": 10_000_000})})
    result = finished_here(large, retry=())
    assert result.ledger.complete and statuses()["too_large"] == 0 and statuses()["ok"] >= 10
