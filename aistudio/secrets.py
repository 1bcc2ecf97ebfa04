"""Knows what a secret looks like: names of headers and settings, values, credentials in URLs. Nothing else decides it.

Run records, submitted jobs, manifest snapshots and messages all ask here, so that what one refuses no other writes
down.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from aistudio.errors import ConfigError

HIDDEN = "***"  # stands for a secret that was not stored

# Names are matched anywhere: X-Api-Key, sessionToken, db_passwd. A tokenizer is no token.
_NAME = re.compile(
    r"auth|cookie|secret|passw|passphrase|pwd\b|credential|key|token(?!izer)|signature|session", re.IGNORECASE
)
_VALUE = re.compile(
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bBearer\s+\S|\bBasic\s+[A-Za-z0-9+/=]{8}|X-Amz-(Signature|Credential)="
    r"|://[^/\s:@]+:[^/\s@]+@|BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_[A-Za-z0-9]{20}|\bhf_[A-Za-z0-9]{20}"
)
_CREDENTIALS = re.compile(r"((?:^|(?<=[^A-Za-z0-9+.-]))[A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#\"'<>]*)@")
CREDENTIALS_HINT = r"://[^\s/?#]*@"  # for a cheap look before `redact` reads each text

_MAP_OF_ADDRESSES = "download.url_map"  # its keys are addresses, which may well be named like a secret
_NOTHING = ("", "{}", "[]", "null", "None")


def is_secret_name(name: str) -> bool:
    """Whether what has this name (a header, a setting) is a secret.

    >>> [is_secret_name(n) for n in ("X-Credential", "X-Passwd", "Authorization", "tokenizer", "Accept")]
    [True, True, True, False, False]
    """
    return _NAME.search(name) is not None


def redact(text: str) -> str:
    """Replace user and password of every URL in a text.

    >>> redact("see http://u:p@h/x")
    'see http://***@h/x'
    """
    return _CREDENTIALS.sub(rf"\1{HIDDEN}@", text) if "@" in text else text


def redacted(value: Any) -> Any:
    """Return plain data with the credentials of every URL in it replaced."""
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
