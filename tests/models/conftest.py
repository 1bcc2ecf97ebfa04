"""Tiny models on disk, and the golden fixtures where they are at hand."""

import os
from collections.abc import Iterator

import pytest
import torch

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.models._checkpoint import save_weights
from tests.models import tiny_golden
from tests.weights.file_server import S3Server

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelConfig]:
    """Settings of a tiny recall and a tiny ranking model whose files hold the tiny golden weights."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "vocab.txt").write_text("\n".join(tiny_golden.VOCABULARY) + "\n", encoding="utf-8")
    save_weights(tiny_golden.weights(tiny_golden.shapes()), folder / "recall.safetensors")
    save_weights(tiny_golden.weights(tiny_golden.ranking_shapes()), folder / "ranking.safetensors")
    kinds = {"recall": ("align", tiny_golden.ARCH), "ranking": ("siamese_poi", tiny_golden.RANKING_ARCH)}
    return {
        name: ModelConfig(
            family=family,
            name=f"tiny_{name}",
            weights=WeightsFile(path=str(folder / f"{name}.safetensors")),
            tokenizer=str(folder),
            image=ImageSpec(size=tiny_golden.SIZE),
            arch=arch,
        )
        for name, (family, arch) in kinds.items()
    }


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server on this machine, and the credentials for it in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with S3Server() as server:
        yield server
