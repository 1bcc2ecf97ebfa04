"""The whole scoring run on tiny models, real HTTP, real Ray, real Parquet."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.errors import ConfigError, RunMismatchError
from aistudio.pipeline.score import prepare, score
from aistudio.schema import poi_table_schema, vector_type
from aistudio.store import open_store

pytestmark = pytest.mark.usefixtures("local_ray")


def write_manifest(path: Path, urls: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text", "colour"])
        writer.writerows((f"item{i % 5}", url, f"text {i % 5}", "red") for i, url in enumerate(urls))
    return path


def stored(config) -> "pq.pd.DataFrame":
    store = open_store(config.output)
    return pq.read_table(f"{store.root}/scores").to_pandas()


def urls_of(image_server, n: int) -> list[str]:
    faults = {3: "404/x.jpg", 7: "html/y.jpg", 11: "empty/z.jpg"}
    return [image_server.url(faults.get(i, f"ok/{i % 17}.jpg")) for i in range(n)]


def test_every_manifest_row_is_stored_once_with_its_outcome(image_server, tmp_path, make_config):
    urls = [*urls_of(image_server, 30), "ftp://nope/x.jpg"]
    config = make_config(write_manifest(tmp_path / "m.csv", urls))
    result = score(prepare(config))
    rows = stored(config)
    assert result.ledger.complete and result.record["state"] == "complete"
    assert list(rows["row_id"].sort_values(key=lambda s: s.astype(int))) == [
        str(i) for i in range(2, 33)
    ]  # lines; 1 is the header
    assert Counter(rows["status"]) == {"ok": 27, "http_error": 1, "not_an_image": 1, "empty": 1, "bad_url": 1}
    assert result.record["counts"] == Counter(rows["status"])
    ok = rows[rows.status == "ok"]
    assert np.allclose(np.linalg.norm(np.stack(ok["embedding"]), axis=1), 1, atol=1e-5)
    assert ok["rank_score"].notna().all() and ok["recall_score"].between(-1, 1).all()
    failed = rows[rows.status != "ok"]
    assert failed["embedding"].isna().all() and failed["error"].notna().all() and failed["recall_score"].isna().all()
    assert set(rows["colour"]) == {"red"}
    assert result.record["models"]["ranking"]["image_tower"] == "shared"


def test_a_url_that_rows_of_a_shard_share_is_fetched_once(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", [image_server.url("ok/same.jpg")] * 8))
    score(prepare(config))
    assert image_server.hits["/ok/same.jpg"] == 1
    assert len(stored(config)) == 8


def test_plans_and_batch_sizes_give_the_same_scores(image_server, tmp_path, make_config):
    manifest = write_manifest(tmp_path / "m.csv", urls_of(image_server, 20))
    tables = []
    for i, engine in enumerate(
        [{"plan": "fused", "batch_size": 1}, {"plan": "staged", "batch_size": 7, "device": "cpu"}]
    ):
        config = make_config(manifest, ranking="other_ranking", engine={"shard_rows": 6 + i, **engine})
        config = config.model_copy(update={"output": str(tmp_path / f"run{i}")})
        record = score(prepare(config)).record
        assert record["models"]["ranking"]["image_tower"] == "own"
        tables.append(stored(config).set_index("row_id").sort_index())
    fused, staged = tables
    assert (fused["status"] == staged["status"]).all()
    assert fused["final_url"].equals(staged["final_url"]) and fused["content_hash"].equals(staged["content_hash"])
    for column in ("recall_score", "rank_score"):
        assert np.nanmax(np.abs(fused[column] - staged[column])) <= 1e-5
    ok = fused.status == "ok"
    for column in ("embedding", "rank_embedding"):
        assert np.abs(np.stack(fused[ok][column]) - np.stack(staged[ok][column])).max() <= 1e-5


def test_resume_scores_only_what_is_missing_and_ends_equal(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 40)))
    score(prepare(config))
    before = stored(config).set_index("row_id").sort_index()
    store = open_store(config.output)
    lost = store.list("scores/")[2]
    store.delete(lost.key)
    hits = sum(image_server.hits.values())
    result = score(prepare(config))
    after = stored(config).set_index("row_id").sort_index()
    assert result.ledger.complete and result.record["attempt"] == 2
    assert sum(image_server.hits.values()) - hits <= 8 * 4  # one shard's rows, retries included
    assert np.nanmax(np.abs(before["recall_score"] - after["recall_score"])) <= 1e-6
    assert (before["status"] == after["status"]).all()


def test_a_finished_run_does_nothing(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 10)))
    score(prepare(config))
    hits = dict(image_server.hits)
    (tmp_path / "m.csv").touch()  # a copy or a check-out changes the time, not the manifest
    result = score(prepare(config))
    assert result.did_nothing and dict(image_server.hits) == hits
    text = (tmp_path / "m.csv").read_text(encoding="utf-8")
    (tmp_path / "m.csv").write_text(text.replace("red", "rad"), encoding="utf-8")
    with pytest.raises(RunMismatchError, match=r"manifest\.files_sha256"):
        prepare(config)


def test_a_run_folder_of_other_settings_is_refused_by_name(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 10)))
    score(prepare(config))
    other = config.model_copy(update={"images": config.images.model_copy(update={"thumbnail_px": 32})})
    with pytest.raises(RunMismatchError, match=r"images\.thumbnail_px: the run folder has 160, now 32"):
        prepare(other)
    with pytest.raises(RunMismatchError, match=r"models\.ranking"):
        prepare(config.model_copy(update={"models": config.models.model_copy(update={"ranking": None})}))


def test_start_over_empties_the_folder(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 10)))
    score(prepare(config))
    fresh = config.model_copy(
        update={"start_over": True, "images": config.images.model_copy(update={"thumbnail_px": 0})}
    )
    assert score(prepare(fresh)).ledger.complete
    assert stored(fresh)["thumbnail"].isna().all()


def test_retry_replaces_only_failed_rows_of_the_wanted_status(image_server, tmp_path, make_config):
    page = image_server.url("later.jpg")
    image_server.add("later.jpg", b"gone", status=404)
    urls = [*urls_of(image_server, 9), page]
    config = make_config(write_manifest(tmp_path / "m.csv", urls))
    score(prepare(config))
    image_server.add("later.jpg", image_server.image)
    before = stored(config).set_index("row_id")
    result = score(prepare(config), retry=("http_error:4xx",))
    after = stored(config).set_index("row_id")
    assert result.ledger.complete
    assert before.loc["11", "status"] == "http_error" and after.loc["11", "status"] == "ok"
    assert after.loc["11", "recall_score"] == pytest.approx(after.loc["2", "recall_score"], abs=2)
    assert after.loc["5", "status"] == "http_error"  # still 404
    assert after.loc["9", "status"] == "not_an_image"
    assert before.drop(index="11")["recall_score"].equals(after.drop(index="11")["recall_score"])


def test_a_fallback_stands_in_for_an_image_that_does_not_decode(image_server, tmp_path, make_config):
    manifest = tmp_path / "m.csv"
    bad, good = image_server.url("html/y.jpg"), image_server.url("ok/1.jpg")
    lines = ["item_id,image_url,fallback_url", f"a,{bad},{good}", f"b,{bad},{image_server.url('404/z.jpg')}"]
    lines += [f"c,{image_server.url('404/x.jpg')},{good}", f"d,{image_server.url('404/x.jpg')},{bad}"]
    manifest.write_text("\n".join(lines) + "\n")
    config = make_config(manifest, ranking=None)
    score(prepare(config))
    rows = stored(config).set_index("item_id")
    assert rows["status"].to_dict() == {"a": "ok", "b": "not_an_image", "c": "ok", "d": "http_error"}
    assert rows.loc["a", "final_url"] == rows.loc["c", "final_url"] == good
    assert "fallback_url: http_error" in rows.loc["b", "error"]
    assert "fallback_url: not_an_image" in rows.loc["d", "error"]


def test_another_poi_table_is_another_run(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 3)))
    for name, count in (("a", 1), ("b", 2)):
        table = pa.table({"name": ["x"], "counts": [[count, 0, 0]]})
        vectors = pa.nulls(1, vector_type(16))
        table = table.append_column("image_vector", vectors).append_column("name_vector", vectors)
        pq.write_table(
            table.select(poi_table_schema(16).names).cast(poi_table_schema(16)), tmp_path / f"{name}.parquet"
        )
    with_table = [
        config.model_copy(
            update={"models": config.models.model_copy(update={"poi_table": str(tmp_path / f"{name}.parquet")})}
        )
        for name in ("a", "b")
    ]
    score(prepare(with_table[0]))
    with pytest.raises(RunMismatchError, match=r"models\.poi_table"):
        prepare(with_table[1])
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ConfigError, match=r"jobs\.poi_table makes one"):
        prepare(with_table[0])


@pytest.mark.parametrize("plan", ["fused", "staged"])
def test_a_huge_run_hands_out_several_shards_at_a_time(image_server, tmp_path, make_config, monkeypatch, plan):
    monkeypatch.setattr("aistudio.pipeline.score._MAX_BLOCKS", 2)
    engine = {"plan": plan, "shard_rows": 4, "device": "cpu"}
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 30)), ranking=None, engine=engine)
    result = score(prepare(config))
    assert result.ledger.complete and len(list((tmp_path / "run/scores").glob("*.parquet"))) == 8
    assert Counter(stored(config)["status"]) == {"ok": 27, "http_error": 1, "not_an_image": 1, "empty": 1}
