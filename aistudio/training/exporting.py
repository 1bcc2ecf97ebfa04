"""The exported model: weights as safetensors, its YAML with checksums, tokenizer and POI table, all in one folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aistudio.config import ModelConfig, WeightsFile
from aistudio.places import in_bucket
from aistudio.weights.files import file_sha256


@dataclass(frozen=True)
class Place:
    """Where an export will lie: a local folder, or a bucket with the local folder into which nodes fetch it."""

    folder: str  # as the model's YAML names files
    url: str | None = None  # s3://… of the same folder

    @classmethod
    def of(cls, path: str, name: str) -> "Place":
        """Return the place of an export folder at `path`."""
        return cls(f"weights/{name}", path) if in_bucket(path) else cls(path)

    def file(self, local: Path) -> WeightsFile:
        """Describe a file, which lies at `local` now, by its later path, size and checksum."""
        return WeightsFile(
            path=f"{self.folder}/{local.name}",
            url=f"{self.url}/{local.name}" if self.url else None,
            size_bytes=local.stat().st_size,
            sha256=file_sha256(local),
        )


def write_model_yaml(cfg: ModelConfig, path: Path, comment: str) -> None:
    """Write a model's settings; what equals its default is left out."""
    data: dict[str, Any] = cfg.model_dump(mode="json", exclude_defaults=True)
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    path.write_text(lines + yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def with_files(cfg: ModelConfig, place: Place, weights: Path, others: dict[str, Path], name: str) -> ModelConfig:
    """Return `cfg` under a new name, its files being those of the export; `others` lie in the tokenizer's folder."""
    extra = {key: place.file(path) for key, path in others.items()} if place.url else {}
    return cfg.model_copy(
        update={"name": name, "weights": place.file(weights), "tokenizer": place.folder, "extra_files": extra}
    )
