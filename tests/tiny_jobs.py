"""Tiny models with deterministic weights, and configurations that use them: the whole job in seconds."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import yaml

from aistudio.config import JobConfig, parse_config
from aistudio.models._checkpoint import save_weights
from aistudio.models.align import AlignArch, AlignModel
from aistudio.models.align import state_dict_published as align_state
from aistudio.models.siamese_poi import SiameseArch, SiamesePoiModel
from aistudio.models.siamese_poi import state_dict_published as siamese_state
from aistudio.pipeline import lean_ray

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789西湖长城"]
ARCH: dict[str, Any] = {
    "image": {"width_mult": 0.25, "depth_mult": 0.2, "dim": 24, "static_size": 32},
    "text": {
        "hidden": 16,
        "layers": 1,
        "heads": 2,
        "intermediate": 24,
        "vocab_size": len(WORDS),
        "max_tokens": 12,
        "max_positions": 16,
    },
    "dim": 16,
}


@pytest.fixture(scope="session")
def local_ray() -> Iterator[str]:
    """One Ray for all tests that need one: starting it costs more than most of them. The GPU is a logical one.

    Yields the address at which the node exports its metrics.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_BEARER_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY"):
            patch.setenv(name, "test")  # of the servers on this machine; workers get them when Ray starts
        _start_ray(port)
        stack.callback(ray.shutdown)
        yield f"http://127.0.0.1:{port}/metrics"


def _start_ray(metrics_port: int) -> None:
    """Start it; once more where a busy machine kept one of Ray's processes from being up in its own 30 s."""
    options: dict[str, Any] = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "log_to_driver": False}
    options["_metrics_export_port"] = metrics_port
    with lean_ray.without_helpers():
        try:
            ray.init(**options)
        except Exception as e:  # Ray raises no class of its own here
            if "timed out during startup" not in str(e):
                raise
            ray.shutdown()
            ray.init(**options)


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


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Conf files: `recall`, `ranking` (shares the image tower) and `other_ranking` (has its own)."""
    folder = tmp_path_factory.mktemp("tiny_models")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    torch.manual_seed(7)
    recall, ranking, other = (
        AlignModel(AlignArch(**ARCH)),
        SiamesePoiModel(SiameseArch(**ARCH)),
        SiamesePoiModel(SiameseArch(**ARCH)),
    )
    ranking.align_model.load_state_dict(recall.state_dict())
    return {
        "recall": _write_model(folder, "recall", "align", align_state(recall)),
        "ranking": _write_model(folder, "ranking", "siamese_poi", siamese_state(ranking)),
        "other_ranking": _write_model(folder, "other_ranking", "siamese_poi", siamese_state(other)),
    }


@pytest.fixture
def make_config(tmp_path: Path, tiny_models: dict[str, str]) -> Callable[..., JobConfig]:
    """`make_config(manifest_path, **sections)`: a job on tiny models that writes into tmp_path/run."""

    def make(
        manifest: str | Path,
        format: str = "csv",
        ranking: str | None = "ranking",
        columns: dict[str, str] | None = None,
        query: str | None = None,
        **sections: Any,
    ) -> JobConfig:
        data: dict[str, Any] = {
            "manifest": {"path": str(manifest), "format": format, "columns": columns or {}},
            "output": str(tmp_path / "run"),
            "models": {"recall": tiny_models["recall"], "ranking": tiny_models[ranking] if ranking else None},
            "download": {"allow_private_addresses": True, "backoff_s": 0.05, "timeout_s": 2, "read_timeout_s": 1},
            # A loaded test machine may take long to start Ray.
            "engine": {"shard_rows": 8, "num_actors": 1, "batch_size": 4, "plan": "fused", "start_timeout_s": 240},
        }
        if query is not None:
            data["manifest"]["query"] = query
        for name, value in sections.items():
            data[name] = {**data[name], **value} if isinstance(data.get(name), dict) else value
        return parse_config(data, "test")

    return make
