"""The whole scoring run on tiny models, real HTTP, real Ray, real Parquet."""

import csv
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from aistudio.errors import ConfigError, FailingRowsError, RunMismatchError
from aistudio.pipeline.score import prepare, score
from aistudio.pipeline.summary import exit_code
from aistudio.schema import poi_table_schema, vector_type
from aistudio.status_filter import parse_status
from aistudio.store import open_store
from tests.score_here import finished_here

pytestmark = pytest.mark.usefixtures("local_ray")


def write_manifest(path: Path, urls: list[str], texts: tuple[str, ...] = ("text ",)) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text", "colour"])
        rows = ((f"item{i % 5}", url, f"{texts[i % len(texts)]}{i % 5}", "red") for i, url in enumerate(urls))
        writer.writerows(rows)
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
    assert result.ledger.complete and result.record.state == "complete"
    assert list(rows["row_id"].sort_values(key=lambda s: s.astype(int))) == [
        str(i) for i in range(2, 33)
    ]  # lines; 1 is the header
    assert Counter(rows["status"]) == {"ok": 27, "http_error": 1, "not_an_image": 1, "empty": 1, "bad_url": 1}
    assert result.record.counts == Counter(rows["status"])
    ok = rows[rows.status == "ok"]
    assert np.allclose(np.linalg.norm(np.stack(ok["embedding"]), axis=1), 1, atol=1e-5)
    assert ok["rank_score"].notna().all() and ok["recall_score"].between(-1, 1).all()
    failed = rows[rows.status != "ok"]
    assert failed["embedding"].isna().all() and failed["error"].notna().all() and failed["recall_score"].isna().all()
    assert set(rows["colour"]) == {"red"}
    assert result.record.models["ranking"].image_tower == "shared"


def test_a_url_that_rows_of_a_shard_share_is_fetched_once(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", [image_server.url("ok/same.jpg")] * 8))
    finished_here(config)
    assert image_server.hits["/ok/same.jpg"] == 1
    assert len(stored(config)) == 8


def test_plans_and_batch_sizes_give_the_same_scores(image_server, tmp_path, make_config):
    texts = ("海", "海边日落山城古寺", "山城 ", "")  # of several lengths
    manifest = write_manifest(tmp_path / "m.csv", urls_of(image_server, 20), texts)
    tables, text_vectors = [], []
    for i, engine in enumerate(
        [{"plan": "fused", "batch_size": 1}, {"plan": "staged", "batch_size": 7, "device": "cpu"}]
    ):
        config = make_config(manifest, ranking="other_ranking", engine={"shard_rows": 6 + i, **engine})
        config = config.model_copy(update={"output": str(tmp_path / f"run{i}")})
        record = finished_here(config).record
        assert record.models["ranking"].image_tower == "own"
        tables.append(stored(config).set_index("row_id").sort_index())
        found = pq.read_table(f"{open_store(config.output).root}/texts").to_pydict()
        text_vectors.append({text: tuple(row) for text, row in zip(found["text"], found["embedding"], strict=True)})
    fused, staged = tables
    assert len(text_vectors[0]) == 20 and text_vectors[0] == text_vectors[1]
    assert (fused["status"] == staged["status"]).all()
    assert fused["final_url"].equals(staged["final_url"]) and fused["content_hash"].equals(staged["content_hash"])
    for column in ("recall_score", "rank_score"):
        assert fused[column].to_numpy().tobytes() == staged[column].to_numpy().tobytes()  # NaN where a row failed
    ok = fused.status == "ok"
    for column in ("embedding", "rank_embedding"):
        assert np.stack(fused[ok][column]).tobytes() == np.stack(staged[ok][column]).tobytes()


def test_resume_scores_only_what_is_missing_and_ends_equal(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 40)))
    finished_here(config)
    before = stored(config).set_index("row_id").sort_index()
    store = open_store(config.output)
    lost = store.list("scores/")[2]
    store.delete(lost.key)
    hits = sum(image_server.hits.values())
    result = score(prepare(config))
    after = stored(config).set_index("row_id").sort_index()
    assert result.ledger.complete and result.record.attempt == 2
    assert sum(image_server.hits.values()) - hits <= 8 * 4  # one shard's rows, retries included
    assert np.nanmax(np.abs(before["recall_score"] - after["recall_score"])) <= 1e-6
    assert (before["status"] == after["status"]).all()


def test_a_finished_run_does_nothing(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 10)))
    finished_here(config)
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
    finished_here(config)
    other = config.model_copy(update={"images": config.images.model_copy(update={"thumbnail_px": 32})})
    with pytest.raises(RunMismatchError, match=r"images\.thumbnail_px: the run folder has 160, now 32"):
        prepare(other)
    with pytest.raises(RunMismatchError, match=r"models\.ranking"):
        prepare(config.model_copy(update={"models": config.models.model_copy(update={"ranking": None})}))


def test_start_over_empties_the_folder(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 10)))
    finished_here(config)
    fresh = config.model_copy(
        update={"start_over": True, "images": config.images.model_copy(update={"thumbnail_px": 0})}
    )
    assert finished_here(fresh).ledger.complete
    assert stored(fresh)["thumbnail"].isna().all()


def test_retry_replaces_only_failed_rows_of_the_wanted_status(image_server, tmp_path, make_config):
    page = image_server.url("later.jpg")
    image_server.add("later.jpg", b"gone", status=404)
    urls = [*urls_of(image_server, 9), page]
    config = make_config(write_manifest(tmp_path / "m.csv", urls))
    finished_here(config)
    image_server.add("later.jpg", image_server.image)
    before = stored(config).set_index("row_id")
    result = finished_here(config, retry=(parse_status("http_error:4xx"),))
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
    finished_here(config)
    rows = stored(config).set_index("item_id")
    assert rows["status"].to_dict() == {"a": "ok", "b": "not_an_image", "c": "ok", "d": "http_error"}
    assert rows.loc["a", "final_url"] == rows.loc["c", "final_url"] == good
    assert "fallback_url: http_error" in rows.loc["b", "error"]
    assert "fallback_url: not_an_image" in rows.loc["d", "error"]


def test_another_poi_table_is_another_run(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 3)))
    for name, count in (("a", 1), ("b", 2)):
        table = pa.table({"name": ["x"], "counts": [[count, 0, 0]]})
        vectors = pa.nulls(1, vector_type())
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
    finished_here(with_table[0])
    with pytest.raises(RunMismatchError, match=r"models\.poi_table"):
        prepare(with_table[1])
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ConfigError, match=r"`aistudio poi_table` makes one"):
        prepare(with_table[0])


@pytest.mark.parametrize("plan", ["fused", "staged"])
def test_a_huge_run_hands_out_several_shards_at_a_time(image_server, tmp_path, make_config, monkeypatch, plan):
    monkeypatch.setattr("aistudio.pipeline.dataset._MAX_BLOCKS", 2)
    engine = {"plan": plan, "shard_rows": 4, "device": "cpu"}
    config = make_config(write_manifest(tmp_path / "m.csv", urls_of(image_server, 30)), ranking=None, engine=engine)
    result = finished_here(config) if plan == "fused" else score(prepare(config))
    assert result.ledger.complete and len(list((tmp_path / "run/scores").glob("*.parquet"))) == 8
    assert Counter(stored(config)["status"]) == {"ok": 27, "http_error": 1, "not_an_image": 1, "empty": 1}


def _wait_until_no_worker_is_left() -> None:
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_run_that_fails_everywhere_stops_early_and_resumes(image_server, tmp_path, make_config):
    urls = [image_server.url(f"404/{i}.jpg") for i in range(160)]
    config = make_config(write_manifest(tmp_path / "m.csv", urls), ranking=None, engine={"shard_rows": 4})
    with pytest.raises(
        FailingRowsError, match=r"stopped early: 100% of \d+ rows failed \(http_error \d+\) in 5 shards"
    ):
        score(prepare(config))
    _wait_until_no_worker_is_left()  # they store what they have in hand
    done = len(list((tmp_path / "run/scores").glob("*.parquet")))
    assert 5 <= done < 40 and open_store(config.output).read_json("run.json")["state"] == "failed"
    off = config.model_copy(update={"engine": config.engine.model_copy(update={"max_failed_share": None})})
    result = finished_here(off)
    assert result.ledger.complete and result.ledger.counts == {"http_error": 160}
    assert result.record.timings.num_rows == 160 - 4 * done and exit_code(result) == 0
    assert exit_code(result._replace(config=config)) == 3


def test_rows_without_text_have_no_recall_score(image_server, tmp_path, make_config):
    lines = [f"i{i},{image_server.url(f'ok/{i}.jpg')},{text}" for i, text in enumerate(["a", "", " ", "\u200b"])]
    (tmp_path / "m.csv").write_text("item_id,image_url,text\n" + "\n".join(lines), encoding="utf-8")
    result = finished_here(make_config(tmp_path / "m.csv", ranking=None))
    rows = stored(make_config(tmp_path / "m.csv")).sort_values("item_id")
    assert list(rows["recall_score"].notna()) == [True, False, False, False] and rows["embedding"].notna().all()
    assert result.ledger.num_without_text == 3 and result.record.texts.without_text == 3
    again = finished_here(make_config(tmp_path / "m.csv", ranking=None), retry=())
    assert again.record.timings == result.record.timings
    assert [w.kind for w in again.record.work] == ["score", "retry"] and again.record.work[1].rows == 0
