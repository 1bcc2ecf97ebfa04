"""S3 access shared by the run folder, the manifests and the image downloads: one client, one URL splitter.

What is stored where, and what a failed call means to a row or a run, is decided by the callers.
"""

from typing import TYPE_CHECKING

from aistudio.config import StoreSettings

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client

MAX_POOL_CONNECTIONS = 64  # urllib3 discards connections beyond the pool, so it must hold every thread's


def s3_client(settings: StoreSettings, bucket: str = "") -> "S3Client":
    """A boto3 S3 client; credentials come from boto3's ordinary chain (environment, profile, instance role).

    Thread-safe, but not across a fork: make one per process. Throttling (503 SlowDown), 500s, lost connections
    and time-outs are retried `settings.retries` times with boto3's "standard" back-off. With `endpoint_url`
    set (MinIO and the like) buckets are addressed by path, because `bucket.endpoint` rarely resolves there. Requests
    to a `bucket` of `settings.public_buckets` are not signed.
    """
    from botocore import UNSIGNED
    from botocore.config import Config

    path_style = settings.endpoint_url is not None
    config = Config(
        signature_version=UNSIGNED if f"s3://{bucket}" in settings.public_buckets else None,
        connect_timeout=settings.timeout_s,
        read_timeout=settings.timeout_s,
        retries={"mode": "standard", "total_max_attempts": settings.retries + 1},
        max_pool_connections=MAX_POOL_CONNECTIONS,
        s3={"addressing_style": "path" if path_style else "auto"},
        # Compatible stores often lack the newer checksum trailers; plain requests work everywhere.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = _session(settings)
    # Compatible stores ignore the region, yet signing needs one.
    region = session.region_name or ("us-east-1" if path_style else None)
    return session.client("s3", endpoint_url=settings.endpoint_url, region_name=region, config=config)


def s3_keys(settings: StoreSettings, *, signed: bool = True) -> dict[str, str]:
    """Return settings for a library with an S3 client of its own: region, credentials found by boto3, addressing style.

    The keys are those of this moment; the keys of a role end after a while.
    """
    session = _session(settings)
    options = {"aws_region": session.region_name or "us-east-1"}
    if settings.endpoint_url is not None:
        options["aws_virtual_hosted_style_request"] = "false"
    if signed and (found := session.get_credentials()) is not None:
        keys = found.get_frozen_credentials()
        options |= {"aws_access_key_id": keys.access_key or "", "aws_secret_access_key": keys.secret_key or ""}
        options |= {"aws_session_token": keys.token} if keys.token else {}
    return options


def _session(settings: StoreSettings) -> "Session":
    import boto3  # takes 80 ms; programs that never touch S3 should not pay it

    return boto3.session.Session(region_name=settings.region)


def split_s3_url(url: str) -> tuple[str, str]:
    """(bucket, key) of `s3://bucket/key`; the key is "" for a bare bucket and is never percent-decoded.

    Raises:
        ValueError: another scheme, or no bucket.
    """
    scheme, sep, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not sep or not bucket:
        raise ValueError(f"{url!r}: expected s3://bucket/key")
    return bucket, key
