"""Google Cloud Storage and Azure Blob Storage by obstore: one client, one splitter of addresses, one reading of errors.

Credentials come from each service's ordinary chain (docs/storage.md), never from settings. S3 is not read through
obstore (s3.py): one key such as `a//b` ends its listing of a bucket, and `/a` would be read as `a`.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.secrets import redact
from aistudio.storable import error_text

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("gs", "az")
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")

_CAUSE = re.compile(r'(?:message|error): "([^"]{1,200})"|(InvalidCertificate\([^)]*\)|TimedOut|IncompleteBody)')

Kind = Literal[
    "missing",
    "denied",
    "exists",
    "condition",
    "unchanged",
    "range",
    "bad_key",
    "timeout",
    "dns",
    "tls",
    "lost",
    "refused",
]


class Failure(NamedTuple):
    """What an exception of obstore means: `lost` and `timeout` are worth another try where nobody tried again yet."""

    kind: Kind
    text: str  # one line, without signatures
    http_status: int | None
    retried: bool  # obstore has used up its own tries


def split_object_url(url: str) -> tuple[str, str, str]:
    """(scheme, bucket, key) of `gs://bucket/key` or `az://container/key`; the key is "" for a bare bucket.

    Raises:
        ValueError: another scheme, or no bucket.
    """
    scheme, sep, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() not in SCHEMES or not sep or not bucket:
        raise ValueError(f"{url!r}: expected gs://bucket/key or az://container/key")
    return scheme.lower(), bucket, key


def refuse_key(key: str) -> None:
    """Refuse a key that obstore would not address, or would address as another object (`/a` as `a`).

    Raises:
        ValueError: says which part of the key it is.
    """
    for part in key.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"the key {key!r} has the part {part!r} between slashes, which cannot be addressed")
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", key):
        raise ValueError(f"the key {key!r} holds a control character or half a character")


def object_store(scheme: str, bucket: str, settings: StoreSettings, timeout_s: float | None = None) -> "ObjectStore":
    """A client of one bucket, thread-safe. Busy answers (429, 5xx) and lost connections are tried again
    `settings.retries` times; each wait lasts at most `timeout_s`, by default `settings.timeout_s`. Proxies come from
    the environment, further authorities from the first of CA_VARIABLES.

    Raises:
        StoreError: settings or credentials that cannot be used.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore

    endpoint = ((settings.gs_endpoint_url if scheme == "gs" else settings.az_endpoint_url) or "").rstrip("/")
    common: dict[str, Any] = {
        "client_options": _client_options(endpoint, timeout_s or settings.timeout_s),
        "retry_config": {
            "max_retries": settings.retries,
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    }
    if f"{scheme}://{bucket}" in settings.public_buckets:
        common["skip_signature"] = True
    try:
        if scheme == "gs":
            return GCSStore(bucket, config={"base_url": endpoint} if endpoint else None, **common)
        config = {"account_name": settings.az_account, "endpoint": endpoint}
        return AzureStore(bucket, config={k: v for k, v in config.items() if v}, **common)  # type: ignore[arg-type]
    except (BaseError, OSError, ValueError) as e:
        raise StoreError(f"{scheme}://{bucket}: {read_failure(e).text}") from None


def _client_options(endpoint: str, timeout_s: float) -> dict[str, Any]:
    wait = timedelta(seconds=timeout_s)
    # `timeout` would bound a whole body; each wait is bounded by `read_timeout`.
    options: dict[str, Any] = {"connect_timeout": wait, "read_timeout": wait, "timeout": timedelta(days=1)}
    options["allow_http"] = endpoint.startswith("http://")
    named = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)
    if named is not None and Path(named).is_file():
        options["root_certificate"] = Path(named).read_bytes()
    return options


def read_failure(e: Exception) -> Failure:
    """Translate an exception that a call to obstore raised."""
    from obstore import exceptions as found

    whole = str(e)
    short, _, chain = whole.partition("\n\nDebug source")
    if "HTTP error" in short and (causes := [a or b for a, b in _CAUSE.findall(chain)]):
        short += f": {causes[-1]}"  # only the chain of causes says why a request could not be sent
    text = error_text(redact(short), 400)
    match = re.search(r"status code: (\d{3})", whole)
    status = int(match[1]) if match else None
    kinds: dict[type[Exception], Kind] = {
        FileNotFoundError: "missing",
        found.PermissionDeniedError: "denied",
        found.UnauthenticatedError: "denied",
        found.AlreadyExistsError: "exists",
        found.PreconditionError: "condition",
        found.NotModifiedError: "unchanged",
        found.InvalidPathError: "bad_key",
        ValueError: "bad_key",
    }
    kind = next((kind for cls, kind in kinds.items() if isinstance(e, cls)), None)
    if kind is None:
        kind = _generic(status, short, chain)
    return Failure(kind, text, status, re.search(r"after \d+ retries", whole) is not None)


def _generic(status: int | None, short: str, chain: str) -> Kind:
    known: dict[int | None, Kind] = {401: "denied", 403: "denied", 416: "range"}
    if status is not None:
        return known.get(status, "refused")
    signs: dict[str, Kind] = {
        "kind: Timeout|TimedOut|timed out": "timeout", "dns error": "dns", "InvalidCertificate|certificate": "tls",
    }  # fmt: skip
    found = next((kind for sign, kind in signs.items() if re.search(sign, chain)), None)
    return found or ("lost" if "HTTP error" in short else "refused")


def quoted(etag: str | None) -> str:
    """An ETag in its quotes; Azure's listing leaves them out."""
    return etag if not etag or etag.startswith(('"', "W/")) else f'"{etag}"'  # type: ignore[return-value]
