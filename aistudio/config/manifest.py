"""Settings of the section `manifest`."""

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from aistudio.config.base import Settings

DatasetFormat = Literal["mitstates", "fashion200k", "fashioniq"]  # of composed retrieval; `path` is the root folder
DATABASES = ("postgresql://", "postgres://")  # what format sql reads, by ADBC


class ManifestSettings(Settings):
    """Where the catalogue is and how its columns are named."""

    path: str | list[str]
    """The catalogue: a file, a pattern, a folder or a list of these; local, s3://, gs://, az://,
    hf://datasets/owner/name[@revision] or http(s)://; of format `lance` a data set's folder, of `sql` a database,
    postgresql://user@host/name.
    Example: `s3://shop/catalogue/*.csv`
    """
    format: Literal[
        "poi_recall", "ranking_pairs", "csv", "tsv", "jsonl", "parquet", "lance", "webdataset", "zip", "folder", "sql",
        DatasetFormat,
    ]  # fmt: skip
    """How the manifest is written. The last three are data sets of composed retrieval, whose root folder `path`
    names.
    """
    query: str | None = None  # of format sql: the SELECT whose rows are the manifest
    columns: dict[str, str | list[str]] = {}
    """Which column of the manifest holds what: our name -> its name there. `image_url` also takes several, as a list
    or a pattern such as `img_*`: each picture becomes a row. Example: `{item_id: sku, image_url: img, text:
    title}`
    """
    image_separator: Annotated[str, StringConstraints(strip_whitespace=False, min_length=1)] | None = None
    """What stands between the addresses where one field holds several; each becomes a row. Example: `"|"`"""
    passthrough: list[str] | Literal["all"] = "all"
    """Columns of the manifest that are kept beside the scores. Example: `[brand, price]`"""
    encoding: str = "utf-8"
    """Character encoding of a manifest that is text, by Python's name for it. Example: `gb18030`"""
    # How quotes are read, for csv, tsv and poi_recall. full: a quoted field may hold line ends (RFC 4180); line: quotes
    # count where they close within their line; none: a quote is a character like any other. auto: line for tsv, full
    # for the others.
    quoting: Literal["auto", "full", "line", "none"] = "auto"
    limit: int | None = Field(None, ge=1)  # score only the first N rows
    split: Literal["train", "val", "test"] | None = None  # of a data set; null: the one it is judged on
    categories: list[str] | None = None
    """Which categories of a data set are read; null: all. Example: `[dress, shirt]`"""

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
