"""Local files and S3 objects: blocking reads, meant for a thread pool. Manifests may name them; redirects may not."""

import errno
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aistudio.config import StoreSettings
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images.validators import entity_tag, http_date
from aistudio.s3 import s3_client
from aistudio.schema import Status
from aistudio.storable import error_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NOT_MODIFIED = 304


def read_file(path: str, max_bytes: int) -> Fetched:
    """A regular file of at most `max_bytes`. Raises FetchFailed."""
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for its writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise FetchFailed(Status.NOT_FOUND, f"{path} is not a regular file")
            body = file.read(max_bytes + 1) if info.st_size <= max_bytes else None
    except OSError as e:
        raise _file_failure(path, e) from e
    except ValueError as e:  # a lone surrogate, for instance
        raise FetchFailed(Status.BAD_URL, f"not a file name: {error_text(e)}") from e
    if body is None or len(body) > max_bytes:
        raise FetchFailed(Status.TOO_LARGE, f"the file has {info.st_size:,} bytes; download.max_bytes is {max_bytes:,}")
    if not body:
        raise FetchFailed(Status.EMPTY, "the file is empty")
    return Fetched(Status.OK, num_bytes=len(body), body=body)


def _file_failure(path: str, e: OSError) -> FetchFailed:
    if e.errno in (errno.EACCES, errno.EPERM):
        return FetchFailed(Status.ACCESS_DENIED, f"{path}: {e.strerror}")
    if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENXIO):
        where = "" if Path(path).is_absolute() else f" (looked in {_current_folder()})"
        return FetchFailed(Status.NOT_FOUND, f"{path}: {e.strerror}{where}")
    return FetchFailed(Status.CONNECTION_ERROR, f"{path}: {e.strerror or e}", retry=True)


class S3Reader:
    """Reads objects with one client per process (two with public buckets), made when the first one is asked for.

    boto3 retries by itself (store.retries) and bounds each wait (store.timeout_s). The endpoint is the operator's
    setting, so it may be a private address.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._clients: dict[bool, S3Client] = {}  # for public buckets or not

    def read(self, bucket: str, key: str, max_bytes: int, known: str | None = None) -> Fetched:
        """An object of at most `max_bytes`, unless its entity tag is the `known` one. Raises FetchFailed."""
        from botocore.exceptions import BotoCoreError, ClientError

        answered = False
        try:
            with self._lock:
                public = f"s3://{bucket}" in self._settings.public_buckets
                client = self._clients.get(public) or s3_client(self._settings, bucket)
                self._clients[public] = client
            tag = entity_tag(known)
            answer = (
                client.get_object(Bucket=bucket, Key=key, IfNoneMatch=tag)
                if tag
                else client.get_object(Bucket=bucket, Key=key)
            )
            answered = True
            with answer["Body"] as stream:
                size = answer["ContentLength"]
                body = stream.read(max_bytes + 1) if size <= max_bytes else b""
        except ClientError as e:
            if known and e.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == _NOT_MODIFIED:
                return Fetched(Status.OK, http_status=_NOT_MODIFIED, etag=known, not_modified=True)
            raise _s3_refusal(bucket, key, e.response) from e
        except (BotoCoreError, OSError, ValueError) as e:
            failure = _s3_failure(e)
            failure.retry = answered  # boto3 has retried all but the reading of the body
            raise failure from e
        if len(body) < size <= max_bytes:  # boto3 checks this only when it reads without a limit
            text = f"the body ended early: {len(body):,} of {size:,} bytes"
            raise FetchFailed(Status.CONNECTION_ERROR, text, retry=True)
        if size > max_bytes or len(body) > max_bytes:
            raise FetchFailed(Status.TOO_LARGE, f"the object has {size:,} bytes; download.max_bytes is {max_bytes:,}")
        if not body:
            raise FetchFailed(Status.EMPTY, "the object is empty")
        found = answer.get("ETag"), answer.get("LastModified")
        return Fetched(Status.OK, num_bytes=len(body), body=body, etag=found[0], last_modified=http_date(found[1]))


def _s3_refusal(bucket: str, key: str, response: object) -> FetchFailed:
    answer = response if isinstance(response, dict) else {}
    code = str(answer.get("Error", {}).get("Code", ""))
    http = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    text = error_text(f"s3://{bucket}/{key}: {code} {answer.get('Error', {}).get('Message', '')}", 400)
    if http == 404 or code in ("NoSuchKey", "NoSuchBucket", "404"):
        return FetchFailed(Status.NOT_FOUND, text, http_status=http)
    if http in (401, 403) or code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return FetchFailed(Status.ACCESS_DENIED, text, http_status=http)
    return FetchFailed(Status.HTTP_ERROR, text, http_status=http)


def _s3_failure(e: Exception) -> FetchFailed:
    from botocore import exceptions as boto

    text = error_text(e, 400)
    if isinstance(e, boto.ConnectTimeoutError | boto.ReadTimeoutError | TimeoutError):
        return FetchFailed(Status.TIMEOUT, text)
    if isinstance(e, boto.NoCredentialsError | boto.PartialCredentialsError | boto.TokenRetrievalError):
        return FetchFailed(Status.ACCESS_DENIED, text)
    if isinstance(e, boto.SSLError):
        return FetchFailed(Status.TLS_ERROR, text)
    if isinstance(e, boto.ParamValidationError | boto.NoRegionError | ValueError):
        return FetchFailed(Status.BAD_URL, text)
    return FetchFailed(Status.CONNECTION_ERROR, text)


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return "a folder that no longer exists"
