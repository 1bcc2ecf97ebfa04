"""Settings of the section `manifest`."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Settings

DatasetFormat = Literal["mitstates", "fashion200k", "fashioniq"]  # of composed retrieval; `path` is the root folder


class ManifestSettings(Settings):
    """Where the catalogue is and how its columns are named."""

    path: str | list[str]  # file, glob, directory; local, s3:// or http(s)://
    format: Literal["poi_recall", "ranking_pairs", "csv", "tsv", "jsonl", "parquet", "folder"] | DatasetFormat
    columns: dict[str, str] = {}  # candidate column -> name in the manifest
    passthrough: list[str] | Literal["all"] = "all"  # manifest columns to keep beside the scores
    encoding: str = "utf-8"
    limit: int | None = Field(None, ge=1)  # score only the first N rows
    split: Literal["train", "val", "test"] | None = None  # of a data set; null: the one it is judged on
    categories: list[str] | None = None  # of a data set; null: all
