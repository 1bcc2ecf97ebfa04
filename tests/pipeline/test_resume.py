"""Nothing lost, nothing doubled: damaged files, other attempts, retries, starting over, and all of it on S3."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aistudio.errors import AIStudioError, FencedError, ManifestError, RunMismatchError
from aistudio.evaluation.aggregate import aggregate
from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline import run_folder
from aistudio.pipeline.actors import FusedWorker
from aistudio.pipeline.score import prepare, score
from aistudio.runs import attempts
from aistudio.runs import record as run_record
from aistudio.runs.ledger import check_run
from aistudio.store import open_store
from tests.object_servers import AzServer, GsServer
from tests.s3_server import S3Server
from tests.score_here import finished_here

pytestmark = pytest.mark.usefixtures("local_ray")


def write_manifest(path: Path, urls: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text"])
        writer.writerows((f"item{i % 5}", url, f"text {i % 5}") for i, url in enumerate(urls))
    return path


def pictures(image_server, n: int) -> list[str]:
    return [image_server.url({3: "404/x.jpg", 7: "html/y.jpg"}.get(i, f"ok/{i}.jpg")) for i in range(n)]


def stored(config) -> pd.DataFrame:
    store = open_store(config.output, config.store)
    rows = pd.concat([store.read_table(e.key).to_pandas() for e in store.list("scores/")])
    assert not rows["row_id"].duplicated().any()
    return rows.set_index("row_id").sort_index()


def assert_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    assert list(a.index) == list(b.index) and list(a["status"]) == list(b["status"])
    for column in ("recall_score", "rank_score"):
        assert np.array_equal(a[column].isna(), b[column].isna())
        assert np.nanmax(np.abs(a[column] - b[column])) <= 1e-5


def test_damaged_files_are_scored_again_even_in_a_finished_run(image_server, tmp_path, make_config, capfd, monkeypatch):
    monkeypatch.setattr(dataset_module, "_MAX_BLOCKS", 2)  # the first block holds two shards
    config = make_config(write_manifest(tmp_path / "m.csv", pictures(image_server, 24)))
    finished_here(config)
    before, store = stored(config), open_store(config.output)
    first, second, _ = (e.key for e in store.list("scores/"))
    store.write_bytes(first, store.read_bytes(first)[:-100])
    table = store.read_table(second)
    store.write_table(second, table.slice(1), {"aistudio.fingerprint": check_print(store)})
    Path(config.output, "scores", ".old.parquet.12.tmp").write_bytes(b"half")
    result = finished_here(config)
    assert result.ledger.complete and not result.did_nothing and result.record.state == "complete"
    assert_same(before, stored(config))
    assert f"{first} was damaged" in capfd.readouterr().err
    assert not list(Path(config.output, "scores").glob(".*"))


def check_print(store) -> str:
    return run_record.load_run(store).fingerprint


def test_an_attempt_that_was_overtaken_stops_and_the_run_ends_whole(image_server, tmp_path, make_config, monkeypatch):
    class Overtaken(FusedWorker):
        """The second shard finds that another driver has claimed the run."""

        def shard(self, name):
            if name.endswith("1"):
                attempts.claim_attempt(self.store)
            return super().shard(name)

    config = make_config(write_manifest(tmp_path / "m.csv", pictures(image_server, 32)), engine={"shards_in_flight": 1})
    with monkeypatch.context() as patch:
        patch.setattr(dataset_module, "FusedWorker", Overtaken)
        with pytest.raises(FencedError, match=r"attempt 2 has taken over .*; this one \(1\) stops") as caught:
            score(prepare(config))
    assert caught.value.exit_code == 1
    store = open_store(config.output)
    assert len(store.list("scores/")) <= 1  # none if Ray, on a busy machine, began with the second shard
    assert store.read_json("run.json")["state"] == "running"  # the older one leaves run.json to the newer
    result = finished_here(config)
    assert result.ledger.complete and result.record.attempt == 3
    lines = [str(i) for i in range(2, 34)]  # of the manifest, after its header
    assert list(stored(config).index.sort_values(key=lambda s: s.astype(int))) == lines


def test_a_worker_that_stored_but_did_not_report_is_not_scored_twice(image_server, tmp_path, make_config, monkeypatch):
    class DiesAfterStoring(FusedWorker):
        def finish(self, work, scorer, images):
            super().finish(work, scorer, images)
            marker = Path(self.config.output) / "died"
            if not marker.exists():
                marker.touch()
                import os
                import signal

                os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("a stored shard was scored again")

    config = make_config(write_manifest(tmp_path / "m.csv", pictures(image_server, 8)))
    monkeypatch.setattr(dataset_module, "FusedWorker", DiesAfterStoring)
    assert score(prepare(config)).ledger.complete
    assert image_server.hits["/ok/0.jpg"] == 1


def test_retry_leaves_files_without_failed_rows_alone(image_server, tmp_path, make_config):
    urls = [image_server.url(f"ok/{i}.jpg") for i in range(16)]
    urls[12] = image_server.add("later.jpg", b"no", status=503)
    config = make_config(write_manifest(tmp_path / "m.csv", urls), ranking=None)
    finished_here(config)
    store = open_store(config.output)
    before = {e.key: store.read_bytes(e.key) for e in store.list("scores/")}
    image_server.add("later.jpg", image_server.image)
    result = finished_here(config, retry=())
    after = {e.key: store.read_bytes(e.key) for e in store.list("scores/")}
    assert [k for k in before if before[k] != after[k]] == ["scores/00000-000001.parquet"]
    assert result.ledger.counts == {"ok": 16} and result.record.state == "complete"
    assert check_run(store, deep=True, fingerprint=check_print(store)).complete


def test_retry_of_an_unfinished_run_is_refused(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", pictures(image_server, 16)), ranking=None)
    with pytest.raises(RunMismatchError, match="not a finished run"):
        score(prepare(config), retry=())
    finished_here(config)
    open_store(config.output).delete("scores/00000-000001.parquet")
    with pytest.raises(RunMismatchError, match="finish it with"):
        score(prepare(config), retry=())


def test_a_manifest_that_was_refused_can_be_mended_in_place(image_server, tmp_path, make_config):
    manifest = tmp_path / "m.csv"
    lines = ["id,item_id,image_url", *(f"r{i % 9},a,{image_server.url(f'ok/{i}.jpg')}" for i in range(20))]
    manifest.write_text("\n".join(lines) + "\n")
    config = make_config(manifest, ranking=None, columns={"row_id": "id"})
    with pytest.raises(ManifestError, match=r"9 occur more than once, such as r0, r1"):
        score(prepare(config))
    manifest.write_text("\n".join(lines[:10]) + "\n")
    result = finished_here(config)
    assert result.ledger.complete and set(stored(config).index) == {f"r{i}" for i in range(9)}


def test_starting_over_that_breaks_off_leaves_a_folder_that_is_still_known(image_server, tmp_path, make_config):
    config = make_config(write_manifest(tmp_path / "m.csv", pictures(image_server, 16)), ranking=None)
    finished_here(config)
    store = open_store(config.output)
    deleted = []

    class Breaks(type(store)):
        def delete(self, key):
            if len(deleted) == 4:
                raise AIStudioError("the power went")
            deleted.append(key)
            super().delete(key)

    with pytest.raises(AIStudioError, match="power"):
        run_folder.empty(Breaks(config.output, config.store))
    assert store.exists("run.json")
    other = config.model_copy(update={"images": config.images.model_copy(update={"thumbnail_px": 32})})
    with pytest.raises(RunMismatchError, match=r"thumbnail_px"):
        prepare(other)
    assert finished_here(config).ledger.complete


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server:
        yield server


def test_a_run_whose_output_manifest_and_images_are_on_s3(s3, image_server, tmp_path, make_config):
    for i in range(20):
        s3.client.put_object(Bucket="bucket", Key=f"images/{i}.jpg", Body=image_server.image)
    urls = [f"s3://bucket/images/{i}.jpg" for i in range(20)]
    urls[4] = "s3://bucket/images/gone.jpg"
    write_manifest(tmp_path / "m.csv", urls)
    s3.client.upload_file(str(tmp_path / "m.csv"), "bucket", "in/m.csv")
    config = make_config(
        "s3://bucket/in/m.csv", store={"endpoint_url": s3.url, "retries": 4}, output="s3://bucket/runs/one"
    )
    left = ["slow_down", "error", "cut", "late_error"] * 3

    def fault(method: str, path: str) -> str | None:
        return left.pop() if left and "/runs/one/" in path and s3.hits[method] % 5 == 0 else None

    s3.fault = fault
    result = score(prepare(config))
    s3.fault = None
    assert result.ledger.complete and result.ledger.counts == {"ok": 19, "not_found": 1}
    assert s3.faults.total() >= 4
    before, store = stored(config), open_store(config.output, config.store)
    store.delete("scores/00000-000001.parquet")
    first, result = result.record.attempt, finished_here(config)  # a claim whose answer got lost took a number
    assert result.ledger.complete and result.record.attempt == first + 1
    assert_same(before, stored(config))
    assert score(prepare(config)).did_nothing


@pytest.mark.parametrize("kind", [GsServer, AzServer])
def test_a_run_that_lies_in_another_bucket_with_its_manifest_and_images(kind, image_server, tmp_path, make_config):
    with kind() as server:
        root = f"{server.scheme}://bucket"  # moto keeps one state for all of its servers: names differ
        inputs = open_store(root, server.settings())
        for i in range(20):
            inputs.write_bytes(f"images/{i}.jpg", image_server.image)
        write_manifest(tmp_path / "m.csv", [f"{root}/images/{i if i != 4 else 'gone'}.jpg" for i in range(20)])
        inputs.write_bytes("in/m.csv", (tmp_path / "m.csv").read_bytes())
        settings = server.settings(retries=4).model_dump(mode="json", exclude_defaults=True)
        config = make_config(f"{root}/in/m.csv", store=settings, output=f"{root}/runs/{server.scheme}")
        left = ["slow_down", "error", "late_error", "cut"] * 3

        def fault(method: str, path: str) -> str | None:
            if method == "PUT" and server.hits[method] % 4 == 0:
                return "conflict"
            return left.pop() if left and f"/runs/{server.scheme}/" in path and server.hits[method] % 5 == 0 else None

        server.fault = fault
        result = finished_here(config)
        server.fault = None
        assert result.ledger.complete and result.ledger.counts == {"ok": 19, "not_found": 1}
        assert server.faults.total() >= 4
        before, store = stored(config), open_store(config.output, config.store)
        store.delete("scores/00000-000001.parquet")
        first, result = result.record.attempt, finished_here(config)
        assert result.ledger.complete and result.record.attempt == first + 1
        assert_same(before, stored(config))
        assert score(prepare(config)).did_nothing


@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_run_whose_name_is_not_ascii(s3, image_server, tmp_path, make_config, where):
    write_manifest(tmp_path / "清单.csv", [image_server.url(f"ok/{i}.jpg") for i in range(6)])
    output = str(tmp_path / "图片打分 é") if where == "local" else "s3://bucket/运行/été 1"
    config = make_config(tmp_path / "清单.csv", store={"endpoint_url": s3.url}, output=output, ranking=None)
    result = score(prepare(config)) if where == "local" else finished_here(config)
    assert result.ledger.complete and result.ledger.counts == {"ok": 6}
    assert score(prepare(config)).did_nothing


def test_a_run_of_before_november_2026_is_resumed_and_retried(image_server, tmp_path, make_config):
    """Its vectors are fixed-size lists; what is scored now lies beside them, in today's layout."""
    image_server.add("later.jpg", b"gone", status=404)
    urls = [image_server.url(f"ok/{i}.jpg") for i in range(15)] + [image_server.url("later.jpg")]
    config = make_config(write_manifest(tmp_path / "m.csv", urls), engine={"shard_rows": 4})
    finished_here(config)
    store, want = open_store(config.output), aggregate(open_store(config.output), config.metrics)["metrics"]
    for entry in (*store.list("scores/"), *store.list("texts/")):
        table, metadata = store.read_table(entry.key), store.read_metadata(entry.key)[2]
        position = table.column_names.index("embedding")
        kind = pa.list_(pa.float32(), 16)
        store.write_table(entry.key, table.set_column(position, "embedding", table["embedding"].cast(kind)), metadata)
    files = [e.key for e in store.list("scores/")]
    assert score(prepare(config)).did_nothing
    store.delete(files[0])
    assert finished_here(config).ledger.complete
    kinds = [store.read_metadata(key)[0].field("embedding").type for key in files]
    assert kinds == [pa.list_(pa.float32()), *[pa.list_(pa.float32(), 16)] * 3]
    again = aggregate(store, config.metrics)["metrics"]
    values = [{k: v["value"] for k, v in metrics.items()} for metrics in (again, want)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    image_server.add("later.jpg", image_server.image)
    result = finished_here(config, retry=())
    assert result.ledger.complete and result.ledger.counts == {"ok": 16}
    assert store.read_metadata(files[3])[0].field("embedding").type == pa.list_(pa.float32())
    assert check_run(store, deep=True).complete
