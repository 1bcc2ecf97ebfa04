"""Settings of the section `store`."""

import re
from typing import Literal

from pydantic import Field, field_validator

from aistudio.config.base import Settings
from aistudio.places import BUCKETS


class StoreSettings(Settings):
    """Access to buckets, for everything that lies in one; credentials come from the ordinary chain, never from here."""

    endpoint_url: str | None = None  # of S3: MinIO, R2 and other compatible stores
    region: str | None = None
    gs_endpoint_url: str | None = None  # of Google Cloud Storage, where it is not the public one
    az_endpoint_url: str | None = None  # of Azure, with the account in its path where the service has it there
    az_account: str | None = None  # storage account of az://container/…; else AZURE_STORAGE_ACCOUNT_NAME
    public_buckets: tuple[str, ...] = ()  # `s3://name`, `gs://name`, `az://name`: read without credentials
    retries: int = Field(8, ge=0)
    timeout_s: float = Field(30.0, gt=0)
    embedding_dtype: Literal["float32", "float16"] = "float32"

    @field_validator("public_buckets", mode="after")
    @classmethod
    def _buckets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(rf"({'|'.join(BUCKETS)})://[^/\s]+/?", name):
                raise ValueError(f"{name}: expected a bucket, such as s3://name")
        return tuple(name.rstrip("/") for name in names)
