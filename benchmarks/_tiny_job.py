"""A small but whole scoring job for measurements: tiny models with fixed weights, a local image server, a manifest."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from aistudio.models._checkpoint import save_weights
from aistudio.models.align import AlignArch, AlignModel
from aistudio.models.align import state_dict_published as align_state
from aistudio.models.siamese_poi import SiameseArch, SiamesePoiModel
from aistudio.models.siamese_poi import state_dict_published as siamese_state

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]
TEXT = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 24, "max_tokens": 12, "max_positions": 16}
ARCH: dict[str, Any] = {
    "image": {"width_mult": 0.25, "depth_mult": 0.2, "dim": 24, "static_size": 32},
    "text": TEXT | {"vocab_size": len(WORDS)},
    "dim": 16,
}


def server_module(name: str) -> ModuleType:
    """tests/<name>.py: the servers that the tests use."""
    path = Path(__file__).resolve().parents[1] / "tests" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def write_models(folder: Path) -> dict[str, str]:
    """Conf files of a recall and a ranking model that share their image tower."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    torch.manual_seed(7)
    recall, ranking = AlignModel(AlignArch(**ARCH)), SiamesePoiModel(SiameseArch(**ARCH))
    ranking.align_model.load_state_dict(recall.state_dict())
    return {
        "recall": _write_model(folder, "recall", "align", align_state(recall)),
        "ranking": _write_model(folder, "ranking", "siamese_poi", siamese_state(ranking)),
    }


def _write_model(folder: Path, stage: str, family: str, state: dict[str, torch.Tensor]) -> str:
    save_weights(state, folder / f"{stage}.safetensors")
    conf = {
        "family": family,
        "name": f"tiny-{stage}",
        "weights": {"path": str(folder / f"{stage}.safetensors")},
        "tokenizer": str(folder),
        "image": {"size": 32},
        "arch": ARCH,
    }
    path = folder / f"{stage}.yaml"
    path.write_text(yaml.safe_dump(conf), encoding="utf-8")
    return str(path)


def write_manifest(path: Path, server: Any, num_rows: int) -> str:
    """`num_rows` images, each another picture; every 16th has a fault of its own."""
    draw = server_module("image_server").draw_jpeg
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text"])
        for i in range(num_rows):
            fault = {5: "404", 9: "html"}.get(i % 16)
            url = server.url(f"{fault}/{i}.jpg") if fault else server.add(f"picture/{i}.jpg", draw(i))
            writer.writerow([f"item{i % 7}", url, f"text {i % 7}"])
    return str(path)


def write_conf(path: Path, manifest: str, models: dict[str, str], output: str, **sections: Any) -> str:
    """The job's conf file."""
    data = {
        "manifest": {"path": manifest, "format": "csv"},
        "output": output,
        "models": models,
        "download": {"allow_private_addresses": True, "backoff_s": 0.05, "per_host_concurrency": 4},
        "engine": {"shard_rows": 8, "num_actors": 1, "batch_size": 4, "plan": "fused"},
        **sections,
    }
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)
