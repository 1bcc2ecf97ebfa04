"""A damaged run folder and one command: afterwards it holds what a fresh run would hold."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from aistudio.errors import RunMismatchError
from aistudio.jobs.verify import main as verify
from aistudio.pipeline.score import prepare, score
from aistudio.runs import layout
from aistudio.store import Store, open_store
from tests.damaged_runs import cut, flip, gone, rewrite
from tests.score_here import finished_here

pytestmark = pytest.mark.usefixtures("local_ray")


def write_manifest(path: Path, urls: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text", "colour"])
        writer.writerows((f"item{i // 4}", url, f"text {i // 4}", "red") for i, url in enumerate(urls))
    return path


def stored_keys(store: Store) -> list[str]:
    return [e.key for e in store.list("") if e.key.endswith((".parquet", "_index.json"))]


def same(store: Store, fresh: Store) -> None:
    assert stored_keys(store) == stored_keys(fresh)
    for key in stored_keys(fresh):
        if key.endswith(".json"):
            assert store.read_json(key) == fresh.read_json(key)
        else:
            tables = [s.read_table(key, verify=True).drop_columns(volatile(key)) for s in (store, fresh)]
            assert tables[0].equals(tables[1])


def volatile(key: str) -> list[str]:
    """Vectors move in the last bits with the batch, whose order is that of the downloads."""
    return {"scores/": ["embedding", "recall_score"], "texts/": ["embedding"]}.get(key[: key.index("/") + 1], [])


def test_one_command_makes_a_damaged_run_whole_again(image_server, tmp_path, make_config, capsys):
    urls = [image_server.url("404/x.jpg" if i % 7 == 3 else f"ok/{i}.jpg") for i in range(48)]
    config = make_config(write_manifest(tmp_path / "m.csv", urls), ranking=None, engine={"shard_rows": 4})
    finished_here(config)
    fresh, run = tmp_path / "fresh", config.output
    shutil.copytree(run, fresh)
    store = open_store(run)
    names = layout.manifest_shards(store)
    assert len(names) == 12
    scores, texts, rows = (
        [key(n) for n in names] for key in (layout.scores_key, layout.texts_key, layout.manifest_key)
    )
    vector = store.read_table(scores[0])["embedding"].to_pylist()
    first = next(v for v in vector if v)
    for do in (
        flip(np.array(first[:2], np.float32).tobytes(), scores[0]),
        flip(store.read_table(scores[1])["thumbnail"][0].as_py()[-24:], scores[1]),
        gone(texts[2]), cut(texts[3]), gone(rows[4]), cut(rows[5]), gone(scores[6]), cut(scores[7]),
        rewrite(scores[8], lambda t: t.slice(1)), gone(rows[9]), gone(scores[9]),
        lambda s: s.write_bytes("scores/zz.parquet", s.read_bytes(scores[10])),
    ):  # fmt: skip
        do(store)
    assert verify(["--run", run]) == 1
    assert "--repair" in capsys.readouterr().out
    hits = sum(image_server.hits.values())
    assert verify(["--run", run, "--repair"]) == 0, capsys.readouterr().out
    assert "verified: 48 rows" in capsys.readouterr().out
    assert sum(image_server.hits.values()) - hits <= 4 * 6  # of the damaged score files alone
    same(store, open_store(str(fresh)))


@pytest.mark.usefixtures("in_process")
def test_score_again_mends_a_run_without_record_or_index(image_server, tmp_path, make_config, capfd):
    urls = [image_server.url(f"ok/{i}.jpg") for i in range(16)]
    config = make_config(write_manifest(tmp_path / "m.csv", urls), ranking=None)
    finished_here(config)
    fresh = tmp_path / "fresh"
    shutil.copytree(config.output, fresh)
    store, hits = open_store(config.output), sum(image_server.hits.values())

    cut(layout.RUN)(store)
    other = config.model_copy(update={"images": config.images.model_copy(update={"thumbnail_px": 32})})
    with pytest.raises(RunMismatchError, match=r"run\.json is missing or damaged"):
        prepare(other)
    result = score(prepare(config))
    assert result.ledger.complete and store.read_json(layout.RUN)["state"] == "complete"
    assert "it is made again" in capfd.readouterr().err
    same(store, open_store(str(fresh)))

    gone(layout.RUN)(store)
    assert score(prepare(config)).ledger.complete
    for damage in (gone, cut):
        damage(layout.MANIFEST_INDEX)(store)
        (tmp_path / "m.csv").rename(tmp_path / "away.csv")  # the folder itself holds all that is needed
        result = score(prepare(config))
        (tmp_path / "away.csv").rename(tmp_path / "m.csv")
        assert result.ledger.complete
        assert "made again from the 2 shards" in capfd.readouterr().err
    gone(layout.MANIFEST_INDEX)(store)
    gone(layout.RUN)(store)
    assert score(prepare(config)).ledger.complete  # from the manifest
    assert sum(image_server.hits.values()) == hits
    same(store, open_store(str(fresh)))
