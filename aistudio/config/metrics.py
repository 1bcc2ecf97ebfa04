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
    """Cut-offs: a metric at K looks at the first K results."""
    bootstrap_samples: int = Field(1000, ge=0)
    """How many resamplings stand behind each confidence interval; 0: no intervals."""
    seed: int = 0
    """Seed of the resampling and of a sample of queries."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Coverage of the confidence intervals: 0.95 is 95 %."""
    no_relevant: Literal["skip", "zero", "error"] = "skip"
    """What becomes of a query that nothing is right for: left out, counted as 0, or an error."""
    relevant_by: list[str] = []
    """Columns whose equal value makes a result right, for `query: image`; each has metrics of its own
    (docs/metrics.md). Example: `[category, brand]`
    """
    item_queries: Literal["all", "one"] = "all"  # item level: every image of an item asks, or its first
    query_where: dict[str, Value | list[Value]] = {}
    """Protocol `split`: values that a row must have to ask. Example: `{role: query}`"""
    gallery_where: dict[str, Value | list[Value]] = {}
    """Protocol `split`: values that a row must have to be searched; empty: all rows. Example: `{role: gallery}`"""
    new_classes: dict[str, list[Value]] = {}
    """Protocol `new_classes`: values of a column that training never saw. Example: `{category: [hats]}`"""
    qrels: str | None = None  # csv, tsv, parquet: query, row_id, relevance (docs/metrics.md); null: same item_id
    qrels_key: list[str] = []
    """Columns that name a row in the file of `qrels`; empty: row_id, else item_id and image_url. Example: `[sku,
    picture]`
    """
    pairs: str | None = None  # csv, tsv, parquet: pair_id, side, ctr, row_id; null: columns of the manifest
    pairs_key: list[str] = []
    """Columns that name a row in the file of `pairs`; empty: as for `qrels`. Example: `[sku, picture]`"""
    scores_column: str | None = None  # of the file of aggregate --scores; null: score, vector or embedding
    scores_key: list[str] = []
    """Columns that name a row in the file of `aggregate --scores`; empty: as for `qrels`. Example: `[sku,
    picture]`
    """
    slices: list[str] = []
    """Stored columns whose values give metrics of their own. Example: `[brand]`"""
    min_slice_size: int = Field(20, ge=1)
    """Slices with fewer queries than this are left out of the tables."""
    block_rows: int = Field(32_768, ge=1)  # gallery rows read and searched at once

    @model_validator(mode="after")
    def _of_notions(self) -> Self:
        if not self.relevant_by and (self.query_where or self.gallery_where or self.new_classes):
            raise ValueError("query_where, gallery_where and new_classes need relevant_by: which column makes it right")
        if strange := [column for column in self.new_classes if column not in self.relevant_by]:
            raise ValueError(f"new_classes: {strange[0]} is not one of relevant_by")
        return self
