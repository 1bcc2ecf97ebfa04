"""Addresses of originals on S3 that are signed for an hour (`serve.presign`)."""

from aistudio.config import StoreSettings
from aistudio.parts import split_part

EXPIRES_S = 3_600


def presigned(url: str, settings: StoreSettings) -> str | None:
    """Return an address that anybody may fetch the object at for an hour; None for what is no S3 object."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key or split_part(url)[1] is not None:
        return None
    from botocore.exceptions import BotoCoreError, ClientError

    from aistudio.s3 import s3_client

    try:
        client = s3_client(settings)
        return str(
            client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=EXPIRES_S)
        )
    except (BotoCoreError, ClientError, ValueError):
        return None
