"""Images that kill the process that works on them: found, left alone, and everything else is scored."""

import csv
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline.actors import EncodeWorker, FusedWorker
from aistudio.pipeline.score import prepare, score
from aistudio.store import open_store

pytestmark = pytest.mark.usefixtures("local_ray")
BLACK = 5  # mean pixel value below which an image kills


def black_jpeg() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, "JPEG")
    return out.getvalue()


def run(config) -> pd.DataFrame:
    result = score(prepare(config))
    assert result.ledger.complete and result.record.state == "complete"
    store = open_store(config.output)
    rows = pd.concat([store.read_table(e.key).to_pandas() for e in store.list("scores/")])
    return rows.set_index("row_id").sort_index(key=lambda s: s.astype(int))


def write_manifest(path: Path, urls: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerows([["item_id", "image_url", "text"], *(("a", url, "text") for url in urls)])
    return path


def assert_only_the_deadly_row_failed(rows: pd.DataFrame, deadly: int, num_rows: int) -> None:
    assert len(rows) == num_rows
    failed = rows[rows["status"] != "ok"]
    assert failed["status"].to_dict() == {str(deadly + 2): "unsupported_image"}
    assert "killed the process" in failed["error"].iloc[0] and failed["recall_score"].isna().all()


def test_an_image_that_kills_its_decoder_is_isolated(image_server, tmp_path, make_config, monkeypatch):
    deadly_body = black_jpeg()

    class Deadly(FusedWorker):
        def __init__(self, run):
            super().__init__(run)
            decode = self.source._decode

            def deadly(job):
                if job.fetched.body == deadly_body:
                    os.kill(os.getpid(), signal.SIGKILL)
                return decode(job)

            self.source._decode = deadly

    image_server.add("deadly.jpg", deadly_body)
    urls = [image_server.url("deadly.jpg" if i == 5 else f"ok/{i}.jpg") for i in range(16)]
    config = make_config(write_manifest(tmp_path / "m.csv", urls), ranking=None)
    monkeypatch.setattr(dataset_module, "FusedWorker", Deadly)
    assert_only_the_deadly_row_failed(run(config), 5, 16)


@pytest.mark.campaign
def test_an_image_that_kills_the_model_actor_is_isolated_in_the_staged_plan(
    image_server, tmp_path, make_config, monkeypatch
):
    class Deadly(EncodeWorker):
        def __init__(self, run):
            super().__init__(run)
            encode = self.encoders.encode

            def deadly(pixels):
                if any(p[0].mean() < BLACK for p in pixels):
                    os.kill(os.getpid(), signal.SIGKILL)
                return encode(pixels)

            self.encoders.encode = deadly

    image_server.add("deadly.jpg", black_jpeg())
    urls = [image_server.url("deadly.jpg" if i == 2 else f"ok/{i}.jpg") for i in range(12)]
    config = make_config(
        write_manifest(tmp_path / "m.csv", urls), ranking=None, engine={"plan": "staged", "device": "cpu"}
    )
    monkeypatch.setattr(dataset_module, "EncodeWorker", Deadly)
    assert_only_the_deadly_row_failed(run(config), 2, 12)


@pytest.mark.campaign
def test_a_lost_device_gets_a_new_process_and_no_row_pays(image_server, tmp_path, make_config, monkeypatch):
    class LosesItsDevice(FusedWorker):
        def __init__(self, run):
            super().__init__(run)
            encode, marker = self.encoders.encode, Path(self.config.output) / "lost"

            def lost_once(pixels):
                if not marker.exists():
                    self.lost = True
                    marker.touch()
                if getattr(self, "lost", False):
                    raise RuntimeError("CUDA error: device-side assert triggered")
                return encode(pixels)

            self.encoders.encode = lost_once

    urls = [image_server.url(f"ok/{i}.jpg") for i in range(8)]
    config = make_config(write_manifest(tmp_path / "m.csv", urls), ranking=None)
    monkeypatch.setattr(dataset_module, "FusedWorker", LosesItsDevice)
    assert set(run(config)["status"]) == {"ok"}
