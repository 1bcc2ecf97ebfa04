"""Settings of the section `report`."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Settings


class ReportSettings(Settings):
    """How the report looks; nothing here changes a number."""

    title: str | None = None
    """Title of the report; null: made from the run's name. Example: `Autumn catalogue`"""
    price_per_hour: float | None = Field(None, ge=0)
    """Price of the machine or cluster in any currency; the report then shows what a million pictures cost."""
    queries_per_page: int = Field(50, ge=1)
    """How many queries or items stand on one page of the report."""
    images_per_query: int = Field(12, ge=1)
    """How many pictures are shown for a query or an item, at most."""
    max_queries: int = Field(1000, ge=1)  # with pictures; of more, the worst, the best and a sample between
    encoder: str | None = None  # whose vectors the map shows; null: the recall model's, else the first encoder's
    map_layout: Literal["pca", "tsne"] = "pca"  # t-SNE keeps neighbours together; at most 5,000 images
    map_images: int = Field(20_000, ge=0)  # on the embedding map; 0: no map
    similar_pictures: int = Field(5_000, ge=0)  # that have "more like this", if neighbours are stored; 0: none
    decoded_pictures: int = Field(12, ge=0, le=100)  # that a run's autoencoders decode; 0: no such page
    paper: dict[str, float] = {}
    """Numbers that a paper reports, shown beside ours: metric -> number. Example: `{"hit_rate@1": 0.31}`"""
