"""Asking a server for the bytes of one file, from a position on: http(s):// by the standard library, s3:// by boto3,
gs:// and az:// by obstore.

What is asked again, and where the bytes go, is _download.py's.
"""

import urllib.error
import urllib.request
from typing import Any, NamedTuple

from aistudio.config import StoreSettings
from aistudio.errors import WeightsError
from aistudio.objects import object_store, quoted, read_failure, refuse_key, split_object_url
from aistudio.places import in_bucket
from aistudio.s3 import s3_client, split_s3_url
from aistudio.secrets import shown_address

BUSY = (429, 500, 502, 503, 504)  # HTTP answers after which trying again makes sense


class UnchangedError(Exception):
    """The server still has the version that the caller knows."""


class Whole(Exception):
    """The unfinished file already has all bytes."""


class Stale(Exception):
    """The unfinished file belongs to another version and cannot be continued."""


class Answer(NamedTuple):
    """A server's response: the file's bytes from `start` on."""

    body: Any  # read(n), close()
    start: int  # position of its first byte in the file
    total: int | None
    version: str | None  # ETag, else Last-Modified


def ask(
    url: str, have: int, version: str | None, known_version: str | None, timeout_s: float, store: StoreSettings
) -> Answer:
    """Ask for the bytes from `have` on.

    Args:
        version: of the server's file when the first `have` bytes came; None: not known.
        known_version: one that the caller has whole.
        timeout_s: longest silence; S3 has its own in `store`.

    Raises:
        UnchangedError: the server has `known_version`.
        Whole, Stale: `have` bytes are all there are; are of another version.
        OSError: lost or busy, worth another try. WeightsError: refused.
    """
    if url.startswith("s3://"):
        return _ask_s3(url, have, version, known_version, store)
    if in_bucket(url):
        return _ask_object(url, have, version, known_version, store)
    return _ask_http(url, have, version, known_version, timeout_s)


def _ask_http(url: str, have: int, version: str | None, known_version: str | None, timeout_s: float) -> Answer:
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and version:
        headers["If-Range"] = version  # another version is sent whole
    if known_version:
        is_etag = known_version.startswith(('"', "W/"))
        headers["If-None-Match" if is_etag else "If-Modified-Since"] = known_version
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as e:
        e.close()
        if e.code == 304:
            raise UnchangedError from None
        if e.code == 416 and have:
            if e.headers.get("Content-Range") == f"bytes */{have}":
                raise Whole from None
            raise Stale from None
        if e.code in BUSY:
            raise OSError(f"the server answered {e.code} {e.reason}") from None
        raise WeightsError(f"{shown_address(url)}: the server answered {e.code} {e.reason}") from None
    except ValueError as e:
        raise WeightsError(f"{shown_address(url)}: not an address that can be fetched: {e}") from None
    resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
    start = have if resumed else 0
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else None
    return Answer(answer, start, total, answer.headers.get("ETag") or answer.headers.get("Last-Modified"))


def _ask_s3(url: str, have: int, version: str | None, known_version: str | None, store: StoreSettings) -> Answer:
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = split_s3_url(url)
    wanted: dict[str, Any] = {"Range": f"bytes={have}-"} if have else {}
    if have and version:
        wanted["IfMatch"] = version
    if known_version:
        wanted["IfNoneMatch"] = known_version
    try:
        answer = s3_client(store, bucket).get_object(Bucket=bucket, Key=key, **wanted)
    except ClientError as e:
        raise _s3_refusal(url, have, e) from None
    except BotoCoreError as e:
        raise OSError(str(e)) from None
    return Answer(_S3Body(answer["Body"]), have, have + answer["ContentLength"], answer.get("ETag"))


def _s3_refusal(url: str, have: int, error: Any) -> Exception:
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status == 304:
        return UnchangedError()
    if status in (412, 416) and have:
        found = error.response["Error"].get("ActualObjectSize")
        return Whole() if status == 416 and found == str(have) else Stale()
    if status in BUSY:
        return OSError(f"the server answered {code}")
    return WeightsError(f"{url}: {code}: {error.response['Error'].get('Message', '')}")


class _S3Body:
    """boto3's stream with the errors of a file."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int) -> bytes:
        from botocore.exceptions import BotoCoreError

        try:
            return bytes(self._body.read(size))
        except BotoCoreError as e:
            raise OSError(str(e)) from None

    def close(self) -> None:
        self._body.close()


def _ask_object(url: str, have: int, version: str | None, known_version: str | None, store: StoreSettings) -> Answer:
    import obstore
    from obstore.exceptions import BaseError

    options: dict[str, Any] = {"range": {"offset": have}} if have else {}
    if have and version:
        options["if_match"] = version
    if known_version:
        options["if_none_match"] = known_version
    scheme, bucket, key = split_object_url(url)
    try:
        refuse_key(key)
        client = object_store(scheme, bucket, store)
        if have:  # nothing may be asked for behind the end
            there = obstore.head(client, key)
            if int(there["size"]) <= have:
                raise Whole if int(there["size"]) == have and version in (None, quoted(there["e_tag"])) else Stale
        answer = obstore.get(client, key, options=options or None)  # type: ignore[arg-type]
    except (BaseError, OSError, ValueError) as e:
        raise _object_refusal(url, have, e) from None
    return Answer(_ObjectBody(answer), have, int(answer.meta["size"]), quoted(answer.meta["e_tag"]) or None)


def _object_refusal(url: str, have: int, error: Exception) -> Exception:
    failure = read_failure(error)
    if failure.kind == "unchanged":
        return UnchangedError()
    if have and failure.kind in ("condition", "range"):
        return Stale()
    if failure.kind in ("timeout", "dns", "lost") or failure.http_status in BUSY:
        return OSError(failure.text)
    return WeightsError(f"{url}: {failure.text}")


class _ObjectBody:
    """obstore's stream, with `read(n)` and the errors of a file."""

    def __init__(self, answer: Any) -> None:
        self._chunks, self._rest = answer.stream(min_chunk_size=1), b""  # as they come, so that a cut loses none

    def read(self, size: int) -> bytes:
        from obstore.exceptions import BaseError

        if not self._rest:
            try:
                self._rest = bytes(next(self._chunks, b""))
            except (BaseError, OSError) as e:
                raise OSError(read_failure(e).text) from None
        head, self._rest = self._rest[:size], self._rest[size:]
        return head

    def close(self) -> None:
        self._chunks = iter(())
