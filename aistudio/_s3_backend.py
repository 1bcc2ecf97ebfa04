"""S3 and compatible storage behind store.py, by boto3. Every failure becomes a StoreError with one message."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from aistudio._backends import Entry
from aistudio._ranges import NOT_CONDITIONAL, Bucket, pause
from aistudio.config import StoreSettings
from aistudio.errors import ChangedError, StoreError
from aistudio.s3 import s3_client, split_s3_url

_PRECONDITION = ("PreconditionFailed", "412")


class S3Backend(Bucket):
    """Objects below s3://bucket/prefix; retries on 5xx, SlowDown and time-outs are the client's."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        self.root = root
        self.retries = settings.retries
        self.bucket, prefix = split_s3_url(root)
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        self.client: Any = s3_client(settings, self.bucket)

    def _entry(self, key: str) -> Entry | None:
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            return Entry(key, int(head["ContentLength"]), head.get("ETag", ""))
        except ClientError as e:
            if _code(e) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise self._error(e, key) from None
        except BotoCoreError as e:
            raise self._error(e, key) from None

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        try:
            for page in pages:
                for item in page.get("Contents", ()):
                    yield Entry(item["Key"][len(self.prefix) :], item["Size"], item.get("ETag", ""))
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, prefix) from None

    def read(self, key: str) -> bytes:
        return self._get(key)

    def read_range(self, entry: Entry, start: int, stop: int) -> bytes:
        condition = {"IfMatch": entry.etag} if entry.etag else {}
        return self._get(entry.key, Range=f"bytes={start}-{stop - 1}", **condition)

    def _get(self, key: str, **arguments: str) -> bytes:
        for attempt in range(self.retries + 1):
            try:
                body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **arguments)["Body"]
            except (ClientError, BotoCoreError) as e:
                if isinstance(e, ClientError) and _code(e) in _PRECONDITION:
                    raise ChangedError(f"{self.root}/{key}: replaced while it was being read") from None
                raise self._error(e, key) from None
            try:
                return bytes(body.read())
            except BotoCoreError as e:  # the client's own retries end with the answer's headers
                if attempt == self.retries:
                    raise self._error(e, key) from None
            pause(attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def write(self, key: str, data: bytes, overwrite: bool) -> bool:
        for attempt in range(self.retries + 1):
            try:
                self._put(key, data, {} if overwrite else {"IfNoneMatch": "*"})
                return True
            except ClientError as e:
                code = "" if overwrite else _code(e)
                if code in _PRECONDITION:
                    return False
                if code in ("NotImplemented", "501"):
                    raise StoreError(f"{self.root}/{key}: {NOT_CONDITIONAL}") from None
                # Another writer is at it: only the next answer shows whether it won.
                if code not in ("ConditionalRequestConflict", "409") or attempt == self.retries:
                    raise self._error(e, key) from None
            except BotoCoreError as e:
                raise self._error(e, key) from None
            pause(attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def write_file(self, key: str, stream: BinaryIO) -> None:
        try:  # the client rewinds the stream for its retries
            self._put(key, stream, {})
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, key) from None

    def _put(self, key: str, data: bytes | BinaryIO, condition: dict[str, str]) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)

    def delete(self, key: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, key) from None

    def _error(self, e: Exception, key: str) -> StoreError:
        return StoreError(f"{self.root}/{key}: {e}")


def _code(e: ClientError) -> str:
    return str(e.response["Error"]["Code"])
