"""Settings of the section `manifest`."""

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from aistudio.config.base import Settings

DatasetFormat = Literal["mitstates", "fashion200k", "fashioniq"]  # of composed retrieval; `path` is the root folder
DATABASES = ("postgresql://", "postgres://")  # what format sql reads, by ADBC


class ManifestSettings(Settings):
    """Where the catalogue is and how its columns are named."""

    # File, pattern, folder; local, s3://, gs://, az://, hf://datasets/owner/name[@revision] or http(s)://. Of format
    # sql a database: postgresql://user@host/name.
    path: str | list[str]
    format: Literal[
        "poi_recall", "ranking_pairs", "csv", "tsv", "jsonl", "parquet", "webdataset", "zip", "folder", "sql",
        DatasetFormat,
    ]  # fmt: skip
    query: str | None = None  # of format sql: the SELECT whose rows are the manifest
    # Candidate column -> name in the manifest. image_url also takes several, as a list or a pattern such as `img_*`:
    # each becomes a row of its own. A list in a field (Parquet, JSON) becomes rows as it is.
    columns: dict[str, str | list[str]] = {}
    image_separator: Annotated[str, StringConstraints(strip_whitespace=False, min_length=1)] | None = None
    passthrough: list[str] | Literal["all"] = "all"  # manifest columns to keep beside the scores
    encoding: str = "utf-8"
    # How quotes are read, for csv, tsv and poi_recall. full: a quoted field may hold line ends (RFC 4180); line: quotes
    # count where they close within their line; none: a quote is a character like any other. auto: line for tsv, full
    # for the others.
    quoting: Literal["auto", "full", "line", "none"] = "auto"
    limit: int | None = Field(None, ge=1)  # score only the first N rows
    split: Literal["train", "val", "test"] | None = None  # of a data set; null: the one it is judged on
    categories: list[str] | None = None  # of a data set; null: all

    @model_validator(mode="after")
    def _query_of_a_database(self) -> "ManifestSettings":
        database = isinstance(self.path, str) and self.path.startswith(DATABASES)
        if self.format == "sql" and not (database and self.query):
            raise ValueError("format sql needs query, and a path such as postgresql://user@host/name")
        if self.format != "sql" and (database or self.query is not None):
            raise ValueError(f"a database and a query are read by format sql, not {self.format}")
        return self

    @model_validator(mode="after")
    def _parts_of_data_sets_alone(self) -> "ManifestSettings":
        if (self.split or self.categories is not None) and self.format not in get_args(DatasetFormat):
            raise ValueError(
                f"split and categories choose from a data set ({', '.join(get_args(DatasetFormat))}), which format "
                f"{self.format} is not"
            )
        return self
