"""Settings of the section `store`."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Settings


class StoreSettings(Settings):
    """S3 access for everything in the run folder; credentials come from the ordinary chain, never from here."""

    endpoint_url: str | None = None  # MinIO and other compatible stores
    region: str | None = None
    retries: int = Field(8, ge=0)
    timeout_s: float = Field(30.0, gt=0)
    embedding_dtype: Literal["float32", "float16"] = "float32"
