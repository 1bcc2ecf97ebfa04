"""Pictures in Google Cloud Storage and Azure: blocking reads by obstore, meant for a thread pool."""

import threading
from typing import TYPE_CHECKING

from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images.validators import entity_tag, http_date
from aistudio.objects import Failure, object_store, read_failure, refuse_key
from aistudio.schema import Status
from aistudio.storable import error_text

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_NOT_MODIFIED = 304
_STATUS = {
    "missing": Status.NOT_FOUND,
    "denied": Status.ACCESS_DENIED,
    "bad_key": Status.BAD_URL,
    "timeout": Status.TIMEOUT,
    "dns": Status.DNS_ERROR,
    "tls": Status.TLS_ERROR,
    "lost": Status.CONNECTION_ERROR,
}


class ObjectReader:
    """Reads objects with one client per bucket and process, made when the first one of it is asked for.

    obstore retries by itself (store.retries), bodies that break off too, and bounds each wait (store.timeout_s).
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], ObjectStore] = {}

    def read(self, scheme: str, bucket: str, key: str, max_bytes: int, known: str | None = None) -> Fetched:
        """An object of at most `max_bytes`, unless its entity tag is the `known` one. Raises FetchFailed."""
        import obstore
        from obstore.exceptions import BaseError, NotModifiedError

        try:
            refuse_key(key)
            tag = entity_tag(known)
            answer = obstore.get(self._client(scheme, bucket), key, options={"if_none_match": tag} if tag else None)
            size = int(answer.meta["size"])  # known before the body is read
            if size > max_bytes:
                text = f"the object has {size:,} bytes; download.max_bytes is {max_bytes:,}"
                raise FetchFailed(Status.TOO_LARGE, text)
            body = bytes(answer.bytes())
        except NotModifiedError:
            return Fetched(Status.OK, http_status=_NOT_MODIFIED, etag=known, not_modified=True)
        except StoreError as e:
            raise FetchFailed(Status.ACCESS_DENIED, error_text(e, 400)) from e
        except (BaseError, OSError, ValueError) as e:
            raise _failed(f"{scheme}://{bucket}/{key}", read_failure(e)) from e
        if len(body) < size:
            text = f"the body ended early: {len(body):,} of {size:,} bytes"
            raise FetchFailed(Status.CONNECTION_ERROR, text, retry=True)
        if not body:
            raise FetchFailed(Status.EMPTY, "the object is empty")
        last_modified = http_date(answer.meta["last_modified"])
        return Fetched(
            Status.OK, num_bytes=len(body), body=body, etag=answer.meta["e_tag"], last_modified=last_modified
        )

    def _client(self, scheme: str, bucket: str) -> "ObjectStore":
        with self._lock:
            client = self._clients.get((scheme, bucket))
            if client is None:
                client = self._clients[scheme, bucket] = object_store(scheme, bucket, self._settings)
            return client


def _failed(address: str, failure: Failure) -> FetchFailed:
    status = _STATUS.get(failure.kind, Status.HTTP_ERROR if failure.http_status else Status.CONNECTION_ERROR)
    return FetchFailed(status, error_text(f"{address}: {failure.text}", 400), http_status=failure.http_status)
