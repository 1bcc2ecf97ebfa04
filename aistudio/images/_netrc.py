"""Credentials of image hosts from netrc, for URLs whose own were taken out before they were stored (`http://***@h/x`)."""

import base64
import netrc
import os
from contextlib import suppress
from pathlib import Path

from yarl import URL

from aistudio.images._fetched import FetchFailed
from aistudio.schema import Status
from aistudio.storable import error_text

_TAKEN_OUT = "***"  # what urls.redact leaves of user and password


class Netrc:
    """The file that NETRC names, else ~/.netrc; read when the first URL asks for it."""

    def __init__(self) -> None:
        self._path = Path(os.environ.get("NETRC") or "~/.netrc")
        with suppress(RuntimeError):  # a user without a home: no such file, then
            self._path = self._path.expanduser()
        self._entries: netrc.netrc | None = None

    def sign_in(self, url: URL) -> tuple[URL, str | None]:
        """The URL to ask for and its header `Authorization`; URLs without the mark come back as they are, None.

        Raises:
            FetchFailed: (bad_url) credentials are needed and netrc has none for the host.
        """
        if url.raw_user != _TAKEN_OUT:
            return url, None
        try:
            self._entries = self._entries or netrc.netrc(str(self._path))
            entry = self._entries.authenticators(url.host or "")
        except FileNotFoundError:
            entry = None
        except (OSError, UnicodeError, netrc.NetrcParseError) as e:
            raise FetchFailed(Status.BAD_URL, f"{self._path} cannot be read: {error_text(e)}") from None
        if entry is None:
            raise FetchFailed(
                Status.BAD_URL,
                "the URL's user and password are not stored; put them into ~/.netrc of the machines that download: "
                f"machine {url.host} login USER password PASSWORD",
            )
        return url.with_user(None), _basic(entry[0], entry[2] or "")


def _basic(user: str, password: str) -> str:
    """RFC 7617: in Latin-1, as servers have always taken it, where the characters allow."""
    both = f"{user}:{password}"
    try:
        data = both.encode("latin-1")
    except UnicodeEncodeError:
        data = both.encode()
    return f"Basic {base64.b64encode(data).decode()}"
