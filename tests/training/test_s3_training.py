"""A training whose output is on S3: interrupted, typed again, and its export loaded from there."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from aistudio.config import StoreSettings, load_model_config
from aistudio.errors import StoreError
from aistudio.models import load_ranking
from aistudio.poi_table import PoiTable
from aistudio.store import Store, open_store
from aistudio.training import layout, programs
from aistudio.training.team import Team
from aistudio.weights.cache import WeightsCache
from aistudio.weights.placing import pin_files, place_files
from tests.s3_server import S3Server
from tests.training import tiny_training as tiny


@pytest.fixture
def s3(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AISTUDIO_CACHE", str(tmp_path / "weights"))
    with S3Server() as server:
        yield server


def train(conf: dict[str, Any]) -> programs.Finished:
    return programs.train(tiny.parsed(conf), Team(), print, "-")


def test_interrupted_and_typed_again_it_ends_with_the_same_weights(s3, tmp_path, monkeypatch):
    straight = tiny.ranking(tmp_path, epochs=2, name="mine", vector_dropout=0.2)
    train(straight)
    settings = StoreSettings(endpoint_url=s3.url)
    conf = straight | {
        "output": "s3://bucket/trainings/one", "store": {"endpoint_url": s3.url}, "checkpoint_every_steps": 2,
    }  # fmt: skip
    write, seen = Store.write_bytes, []

    def breaking(self: Store, key: str, data: bytes, **options: Any) -> bool:
        seen.append(key.startswith(layout.CHECKPOINTS))
        if sum(seen) == 3 and seen[-1]:
            raise StoreError("out of reach")
        return write(self, key, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_bytes", breaking)
        with pytest.raises(StoreError, match="out of reach"):
            train(conf)
    store = open_store(conf["output"], settings)
    assert layout.checkpoint_steps(store) == [2, 4]
    assert train(conf).record["attempt"] == 2
    assert train(conf).was_finished
    keys = {entry.key for entry in store.list("")}
    assert {"train.json", "metrics.csv", "export/mine.safetensors", "export/card.md", "report/index.html"} <= keys
    theirs = safetensors.torch.load(store.read_bytes("export/mine.safetensors"))
    mine = safetensors.torch.load_file(Path(straight["output"], "export", "mine.safetensors"))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)

    monkeypatch.chdir(tmp_path)  # the export names files below weights/, which a node fetches from its url
    yaml = tmp_path / "mine.yaml"
    yaml.write_bytes(store.read_bytes("export/mine.yaml"))
    cfg = load_model_config(str(yaml))
    assert cfg.weights.url == "s3://bucket/trainings/one/export/mine.safetensors" and cfg.weights.sha256
    cache = WeightsCache(tmp_path / "fetched", settings)
    placed = place_files(pin_files(cfg, cache), cache)
    model = load_ranking(placed, PoiTable.from_arrow(store.read_table("export/poi_table.parquet")))
    assert model.dim == 12
