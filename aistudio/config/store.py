"""Settings of the section `store`."""

import re
from typing import Literal

from pydantic import Field, field_validator

from aistudio.config.base import Settings
from aistudio.places import BUCKETS


class StoreSettings(Settings):
    """Access to buckets, for everything that lies in one; credentials come from the ordinary chain, never from here."""

    endpoint_url: str | None = None
    """Address of an S3-compatible service such as MinIO or R2; null: Amazon's own. Example:
    `http://127.0.0.1:9000`
    """
    region: str | None = None
    """Region of S3 buckets; null: as the AWS configuration on this machine says. Example: `eu-central-1`"""
    gs_endpoint_url: str | None = None  # of Google Cloud Storage, where it is not the public one
    az_endpoint_url: str | None = None  # of Azure, with the account in its path where the service has it there
    az_account: str | None = None  # storage account of az://container/…; else AZURE_STORAGE_ACCOUNT_NAME
    public_buckets: tuple[str, ...] = ()
    """Buckets that are read without credentials. Example: `[s3://open-pictures]`"""
    retries: int = Field(8, ge=0)
    """Further tries of a request to a bucket that failed for a reason that passes: throttling, 5xx, a lost
    connection.
    """
    timeout_s: float = Field(30.0, gt=0)
    """Longest time for a bucket to connect, and longest silence of its answer."""
    embedding_dtype: Literal["float32", "float16"] = "float32"
    """Number format of stored vectors; `float16` takes half the space."""

    @field_validator("public_buckets", mode="after")
    @classmethod
    def _buckets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(rf"({'|'.join(BUCKETS)})://[^/\s]+/?", name):
                raise ValueError(f"{name}: expected a bucket, such as s3://name")
        return tuple(name.rstrip("/") for name in names)
