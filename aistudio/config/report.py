"""Settings of the section `report`."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Settings


class ReportSettings(Settings):
    """How the report looks; nothing here changes a number."""

    title: str | None = None
    price_per_hour: float | None = Field(None, ge=0)  # of the machine or cluster, any currency
    queries_per_page: int = Field(50, ge=1)
    images_per_query: int = Field(12, ge=1)
    max_queries: int = Field(1000, ge=1)  # with pictures; of more, the worst, the best and a sample between
    encoder: str | None = None  # whose vectors the map shows; null: the recall model's, else the first encoder's
    map_layout: Literal["pca", "tsne"] = "pca"  # t-SNE keeps neighbours together; at most 5,000 images
    map_images: int = Field(20_000, ge=0)  # on the embedding map; 0: no map
    similar_pictures: int = Field(5_000, ge=0)  # that have "more like this", if neighbours are stored; 0: none
    decoded_pictures: int = Field(12, ge=0, le=100)  # that a run's autoencoders decode; 0: no such page
    paper: dict[str, float] = {}  # metric -> number the paper reports, shown beside ours
