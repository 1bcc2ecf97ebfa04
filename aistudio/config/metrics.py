"""Settings of the section `metrics`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from aistudio.config.base import Cutoffs, Settings, Value


class MetricsSettings(Settings):
    """What `aggregate` computes."""

    query: Literal["text", "image"] = "text"  # an item's text, or each ok image against all others
    encoder: str | None = None  # whose vectors are searched, of models.encoders; null: the recall model's
    max_queries: int | None = Field(None, ge=1)  # of more, a sample by the seed; images as queries: rows squared
    k: Cutoffs = [1, 5, 10]
    bootstrap_samples: int = Field(1000, ge=0)
    seed: int = 0
    confidence: float = Field(0.95, gt=0, lt=1)
    no_relevant: Literal["skip", "zero", "error"] = "skip"
    # Columns whose equal value makes a result right: with query: image each gets metrics `<column>/<protocol>/<metric>`
    # (docs/metrics.md), and a table in the report's page of similar items.
    relevant_by: list[str] = []
    item_queries: Literal["all", "one"] = "all"  # item level: every image of an item asks, or its first
    query_where: dict[str, Value | list[Value]] = {}  # protocol `split`: column -> value or values of rows that ask
    gallery_where: dict[str, Value | list[Value]] = {}  # ... and of rows that are searched; empty: all
    new_classes: dict[str, list[Value]] = {}  # protocol `new_classes`: column -> values that training never saw
    qrels: str | None = None  # csv, tsv, parquet: query, row_id, relevance (docs/metrics.md); null: same item_id
    qrels_key: list[str] = []  # columns that name a row in that file; empty: row_id, or item_id and image_url, ...
    pairs: str | None = None  # csv, tsv, parquet: pair_id, side, ctr, row_id; null: columns of the manifest
    pairs_key: list[str] = []
    scores_column: str | None = None  # of the file of aggregate --scores; null: score, vector or embedding
    scores_key: list[str] = []  # columns that name a row in it
    slices: list[str] = []  # columns of the scores to slice by
    min_slice_size: int = Field(20, ge=1)
    block_rows: int = Field(32_768, ge=1)  # gallery rows read and searched at once

    @model_validator(mode="after")
    def _of_notions(self) -> Self:
        if not self.relevant_by and (self.query_where or self.gallery_where or self.new_classes):
            raise ValueError("query_where, gallery_where and new_classes need relevant_by: which column makes it right")
        if strange := [column for column in self.new_classes if column not in self.relevant_by]:
            raise ValueError(f"new_classes: {strange[0]} is not one of relevant_by")
        return self
