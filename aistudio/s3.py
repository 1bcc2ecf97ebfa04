"""S3 access shared by the run folder, the manifests and the image downloads: one client, one URL splitter.

What is stored where, and what a failed call means to a row or a run, is decided by the callers.
"""

from typing import TYPE_CHECKING

from aistudio.config import StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_POOL_CONNECTIONS = 64  # urllib3 discards connections beyond the pool, so it must hold every thread's


def s3_client(settings: StoreSettings, bucket: str = "") -> "S3Client":
    """A boto3 S3 client; credentials come from boto3's ordinary chain (environment, profile, instance role).

    Thread-safe, but not across a fork: make one per process. Throttling (503 SlowDown), 500s, lost connections
    and time-outs are retried `settings.retries` times with boto3's "standard" back-off. With `endpoint_url`
    set (MinIO and the like) buckets are addressed by path, because `bucket.endpoint` rarely resolves there. Requests
    to a `bucket` of `settings.public_buckets` are not signed.
    """
    # boto3 takes 80 ms to import; programs that never touch S3 should not pay it.
    import boto3
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
    session = boto3.session.Session(region_name=settings.region)
    # Compatible stores ignore the region, yet signing needs one.
    region = session.region_name or ("us-east-1" if path_style else None)
    return session.client("s3", endpoint_url=settings.endpoint_url, region_name=region, config=config)


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
