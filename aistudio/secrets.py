"""Knows what a secret looks like: names of headers and settings, values, credentials in URLs. Nothing else decides it.

Run records, submitted jobs, manifest snapshots and messages all ask here, so that what one refuses no other writes
down.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from aistudio.errors import ConfigError

HIDDEN = "***"  # stands for a secret that was not stored

# Names are matched anywhere: X-Api-Key, sessionToken, db_passwd. A tokenizer is no token, an author no authorisation.
_NAME = re.compile(
    r"auth(?!ors?\b)|cookie|secret|passw|passphrase|pwd\b|credential|key(?!words?\b)|token(?!izer)|signature|session",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bBearer\s+\S|\bBasic\s+[A-Za-z0-9+/=]{8}|X-Amz-(Signature|Credential)="
    r"|://[^/\s:@]+:[^/\s@]+@|BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_[A-Za-z0-9]{20}|\bhf_[A-Za-z0-9]{20}"
)
_CREDENTIALS = re.compile(r"((?:^|(?<=[^A-Za-z0-9+.-]))[A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#\"'<>]*)@")
CREDENTIALS_HINT = r"://[^\s/?#]*@"  # for a cheap look before `redact_credentials` reads each text
_QUERY = re.compile(r"([?#])([^\s\"'<>?#]*=[^\s\"'<>?#]*)")
# Presigned addresses: these belong to the signature (S3, Google, Alibaba, Tencent; Azure's `sig`), whatever they say.
_SIGNED_NAME = re.compile(r"x-(amz|goog|oss|cos)-.*|sig", re.IGNORECASE)
_BESIDE_SIGNATURE = frozenset(("expires", "policy", "googleaccessid", "st", "se", "ske", "skt"))  # when, and for whom

_MAP_OF_ADDRESSES = "download.url_map"  # its keys are addresses, which may well be named like a secret
_NOTHING = ("", "{}", "[]", "null", "None")


def is_secret_name(name: str) -> bool:
    """Whether what has this name (a header, a setting) is a secret.

    >>> [is_secret_name(n) for n in ("X-Credential", "X-Passwd", "Authorization", "tokenizer", "Accept")]
    [True, True, True, False, False]
    """
    return _NAME.search(name) is not None


def redact(text: str) -> str:
    """Replace user and password of every URL in a text, and in its queries the values of signatures, tokens and keys.

    For what is shown or recorded. Addresses that are still to be asked for take `redact_credentials`.

    >>> redact("see http://u:p@h/x")
    'see http://***@h/x'
    >>> redact("https://h/m.csv?part=2&X-Amz-Date=20261126&X-Amz-Signature=0a1b")
    'https://h/m.csv?part=2&X-Amz-Date=***&X-Amz-Signature=***'
    """
    text = redact_credentials(text)
    return _QUERY.sub(lambda m: m[1] + _shown_query(m[2]), text) if "=" in text else text


def redact_credentials(text: str) -> str:
    """Replace user and password of every URL in a text; queries stay, so that a presigned address can be asked for."""
    return _CREDENTIALS.sub(rf"\1{HIDDEN}@", text) if "@" in text else text


def _shown_query(query: str) -> str:
    """Return `a=1&b=2` with the values of what looks like a secret replaced."""
    parts = re.split("([&;])", query)
    names = [unquote(part.partition("=")[0]) for part in parts]
    secret = [bool(_SIGNED_NAME.fullmatch(name)) or is_secret_name(name) for name in names]
    signed = any(secret)
    for i, name in enumerate(names):
        head, eq, value = parts[i].partition("=")
        if value and (secret[i] or (signed and name.lower() in _BESIDE_SIGNATURE)):
            parts[i] = f"{head}{eq}{HIDDEN}"
    return "".join(parts)


def redacted(value: Any) -> Any:
    """Return plain data with every text in it redacted."""
    if isinstance(value, dict):
        return {redacted(k): redacted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(v) for v in value]
    return redact(value) if isinstance(value, str) else value


def hidden_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return headers with the values of secret ones replaced."""
    return {name: HIDDEN if is_secret_name(name) or _VALUE.search(value) else value for name, value in headers.items()}


def shown_address(url: str) -> str:
    """Return an address without user, password and query: presigned addresses carry keys there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?…' if parts.query else ''}"


def refuse_secrets(items: Iterable[str]) -> None:
    """Refuse `key=value` items that look like a secret: they would become part of a job's command or files.

    Raises:
        ConfigError: names the key, never the value.
    """
    for item in items:
        key, eq, value = item.partition("=")
        named = not key.startswith(_MAP_OF_ADDRESSES) and (key.endswith("headers") or is_secret_name(key))
        if (eq and value not in _NOTHING and named) or _VALUE.search(item):
            shown = key if eq and not _VALUE.search(key) else "a flag"
            raise ConfigError(
                f"{shown}: looks like a secret, and a job's command line and files are open to everyone who can see "
                "the cluster's dashboard. Give it to the nodes instead: an instance role, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in the environment in which Ray starts there (docs/cluster.md)"
            )
