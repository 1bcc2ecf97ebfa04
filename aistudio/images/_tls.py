"""The authorities whose certificates are trusted: the system's, or those that the environment names."""

import os
import ssl
from pathlib import Path

from aistudio.storable import error_text

_OF_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OF_OTHERS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # looked at as requests does, where OpenSSL's are not set


class UnusableAuthorities(ValueError):
    """The environment names certificates that cannot be read; the text names the variable."""


def named_authorities() -> tuple[str, str] | None:
    """(variable, path) of the authorities that the environment names; None when the system's are used."""
    found = ((name, os.environ.get(name, "")) for name in (*_OF_OPENSSL, *_OF_OTHERS))
    return next(((name, path) for name, path in found if path), None)


def tls_context() -> ssl.SSLContext | None:
    """A context that trusts the authorities that the environment names; None: aiohttp's own, with the system's.

    OpenSSL reads its own two variables by itself, but says nothing when they lead nowhere.

    Raises:
        UnusableAuthorities: the file or folder is missing, or no certificates are in it.
    """
    named = named_authorities()
    if named is None:
        return None
    name, path = named
    folder = path if name == "SSL_CERT_DIR" or Path(path).is_dir() else os.environ.get("SSL_CERT_DIR") or None
    if name in _OF_OPENSSL and folder is not None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=None if folder == path else path, capath=folder)
    except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
        reason = getattr(e, "strerror", None) or error_text(e)
        text = f"{name}={path}: not readable as certificates (PEM): {reason}; correct or unset it"
        raise UnusableAuthorities(text) from None
    return ssl.create_default_context() if name in _OF_OPENSSL else context
