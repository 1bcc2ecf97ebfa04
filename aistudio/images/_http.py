"""One try at one http(s) URL: connect, follow redirects by hand so that each hop is checked, read the body.

Retries, fallbacks and the number of requests in flight are the caller's (download.py).
"""

import asyncio
import inspect
import os
import socket
import ssl
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from aistudio.config import DownloadSettings
from aistudio.images._addresses import BlockedAddress, PublicResolver, check_literal
from aistudio.images._body import ACCEPT_ENCODING, read_body
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images._netrc import Netrc
from aistudio.images._proxies import Proxies, UnusableProxy
from aistudio.images._retry import parse_retry_after
from aistudio.images._tls import UnusableAuthorities, named_authorities, tls_context
from aistudio.images.urls import MAX_LOCATION_CHARS, BadURL, parse_http_url
from aistudio.images.validators import Validators
from aistudio.schema import Status
from aistudio.secrets import redact
from aistudio.storable import error_text

_NOT_MODIFIED = 304
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})  # Request Timeout, Too Early, Too Many Requests; and all from 500 on
_DNS_TTL_S = 60  # a run asks the same few CDN names millions of times
_MAX_FIELD_BYTES = 262_144  # of a header field, as browsers take; aiohttp's 8,190 is less than signed addresses have
_MAX_FIELDS = 256


def _field_limit(session: type) -> dict[str, Any]:
    """How many header fields an answer may have, for an aiohttp that can be told (3.11 cannot)."""
    return {"max_headers": _MAX_FIELDS} if "max_headers" in inspect.signature(session).parameters else {}


class HttpClient:
    """aiohttp sessions of one event loop; made and closed inside it.

    Addresses are checked by the connector's resolver (see _addresses.py). With a proxy from the environment the
    proxy's own address is exempt, since the operator chose it; it resolves the names, so only addresses written
    out in a URL can be checked then. netrc is read only for URLs whose credentials were taken out (see _netrc.py).
    """

    def __init__(self, settings: DownloadSettings) -> None:
        self._settings = settings
        self._netrc = Netrc()
        self._proxies = Proxies() if settings.trust_env_proxy else Proxies({})
        self._tls: ssl.SSLContext | None = None
        self._tls_problem: str | None = None
        try:
            self._tls = tls_context()
        except UnusableAuthorities as e:  # said by each https row; all others do not need it
            self._tls_problem = str(e)
        resolver = None if settings.allow_private_addresses else PublicResolver()
        self._direct = self._session(resolver)
        self._proxied = self._session(None) if self._proxies else None

    def _session(self, resolver: PublicResolver | None) -> aiohttp.ClientSession:
        settings = self._settings
        return aiohttp.ClientSession(
            # limit=0: the caller bounds requests; a second queue in here would count against the time-outs.
            connector=aiohttp.TCPConnector(
                limit=0, resolver=resolver, ttl_dns_cache=_DNS_TTL_S, ssl=True if self._tls is None else self._tls
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
            ),
            headers={"User-Agent": settings.user_agent, "Accept-Encoding": ACCEPT_ENCODING},
            max_line_size=_MAX_FIELD_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
            **_field_limit(aiohttp.ClientSession),
        )

    async def close(self) -> None:
        await self._direct.close()
        if self._proxied is not None:
            await self._proxied.close()

    async def fetch(self, url: URL, known: Validators | None = None, *, own: bool = True) -> Fetched:
        """The image at `url`, one try, within timeout_s.

        Args:
            known: asks the address that gave these whether the picture is still the same (`Fetched.not_modified`).
            own: `url` is the row's own address, no fallback.

        Raises:
            FetchFailed: it is not to be had.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._follow(url, known, own)
        except FetchFailed:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as e:  # TimeoutError and ssl.SSLError are OSErrors
            raise _failure(e, self._settings) from e

    async def _follow(self, start: URL, known: Validators | None, own: bool) -> Fetched:
        url, headers = start, dict(self._settings.headers)
        cookies: dict[str, str] = {}
        for _ in range(self._settings.max_redirects + 1):
            if cookies:
                headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in cookies.items())
            asked = self._questions(known, None if own and url is start else redact(str(url)))
            async with self._get(url, headers | asked) as response:
                if response.status == _NOT_MODIFIED and asked:
                    return _unchanged(response, None if url is start else redact(str(url)), known)
                location = _location(response) if response.status in _REDIRECTS else None
                if location is None:
                    return await self._finish(response, None if url is start else redact(str(url)))
                target = _redirect_target(url, location)
                if (target.scheme, target.raw_host, target.port) != (url.scheme, url.raw_host, url.port):
                    # What was meant for one site (a token, its cookies) is not shown to the next one.
                    headers = {k: v for k, v in headers.items() if k.lower() not in ("authorization", "cookie")}
                    cookies = {}
                else:
                    # Some sites redirect to themselves until their cookie comes back.
                    cookies.update({m.key: m.coded_value for m in response.cookies.values()})
                url = target
        raise FetchFailed(
            Status.TOO_MANY_REDIRECTS,
            f"more than {self._settings.max_redirects} redirects (download.max_redirects), last to {url}",
        )

    def _questions(self, known: Validators | None, at: str | None) -> dict[str, str]:
        """Fields that ask the address `at` (None: the row's own) for news alone; only the one that gave `known`."""
        if known is None or known.final_url != at:
            return {}
        return known.questions({name.lower() for name in self._settings.headers})

    def _get(self, url: URL, headers: dict[str, str]) -> aiohttp.client._RequestContextManager:
        if not self._settings.allow_private_addresses:
            check_literal(url.raw_host or "")
        if url.scheme == "https" and self._tls_problem is not None:
            raise FetchFailed(Status.TLS_ERROR, self._tls_problem)
        try:
            proxy = self._proxies.of_url(url)
        except UnusableProxy as e:
            raise FetchFailed(Status.CONNECTION_ERROR, str(e)) from None
        session = self._direct if proxy is None or self._proxied is None else self._proxied
        url, authorization = self._netrc.sign_in(url)
        if authorization is not None:  # instead of what download.headers says
            others = {k: v for k, v in headers.items() if k.lower() != "authorization"}
            headers = others | {"Authorization": authorization}
        return session.get(url, headers=headers, allow_redirects=False, proxy=proxy)

    async def _finish(self, response: aiohttp.ClientResponse, final_url: str | None) -> Fetched:
        code = response.status
        if not 200 <= code < 300:
            raise FetchFailed(
                Status.HTTP_ERROR,
                error_text(f"the server answered {code} {reason_phrase(response)}", 200),
                http_status=code,
                retry=code in _TRY_AGAIN or code >= 500,
                retry_after_s=parse_retry_after(response.headers.get("Retry-After")),
                final_url=final_url,
            )
        try:
            body = await read_body(response, self._settings.max_bytes)
        except FetchFailed as e:
            e.final_url = final_url
            if code == 202 and e.status is Status.EMPTY:  # Accepted: "not made yet", as image services answer at first
                e.retry, e.retry_after_s = True, parse_retry_after(response.headers.get("Retry-After"))
            raise
        etag, last_modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        return Fetched(Status.OK, None, code, len(body), final_url, body, etag=etag, last_modified=last_modified)

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def reason_phrase(response: aiohttp.ClientResponse) -> str:
    """The reason phrase: UTF-8 where it is, else Latin-1, as servers of either kind send it."""
    raw = (response.reason or "").encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _unchanged(response: aiohttp.ClientResponse, final_url: str | None, known: Validators | None) -> Fetched:
    """The outcome of a conditional request whose picture is the known one; its answer may bring newer validators."""
    known = known or Validators()
    return Fetched(
        Status.OK,
        http_status=response.status,
        final_url=final_url,
        etag=response.headers.get("ETag") or known.etag,
        last_modified=response.headers.get("Last-Modified") or known.last_modified,
        not_modified=True,
    )


def _location(response: aiohttp.ClientResponse) -> str | None:
    """The Location field; bytes that are not UTF-8 are percent-encoded as they came, as browsers do."""
    raw = next((value for name, value in response.raw_headers if name.lower() == b"location"), None)
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(chr(b) if b < 0x80 else f"%{b:02X}" for b in raw)


def _redirect_target(url: URL, location: str) -> URL:
    try:
        if len(location) > MAX_LOCATION_CHARS:
            raise BadURL(f"the address is longer than {MAX_LOCATION_CHARS:,} characters")
        joined = urljoin(str(url), location.strip())
        return parse_http_url(joined, quote_spaces=True)
    except (BadURL, ValueError) as e:
        raise FetchFailed(Status.BAD_URL, f"redirected to {redact(location)[:200]!r}: {error_text(e)}") from None


def _failure(e: Exception, settings: DownloadSettings) -> FetchFailed:
    """Which status an exception of aiohttp or the system is, and whether another try may help."""
    certificate = isinstance(e, aiohttp.ClientConnectorCertificateError)  # has no os_error, although its base does
    cause = e.os_error if isinstance(e, aiohttp.ClientConnectorError) and not certificate else e
    if isinstance(cause, BlockedAddress):
        return FetchFailed(Status.BLOCKED_ADDRESS, str(cause))
    if isinstance(e, TimeoutError):
        return FetchFailed(Status.TIMEOUT, _timeout_text(e, settings), retry=True)
    if isinstance(e, aiohttp.ClientProxyConnectionError):
        return FetchFailed(Status.CONNECTION_ERROR, f"the proxy cannot be reached: {_text(cause)}", retry=True)
    if isinstance(e, aiohttp.ClientHttpProxyError):
        text = error_text(f"the proxy answered {e.status} {redact(e.message)}")
        return FetchFailed(Status.CONNECTION_ERROR, text, retry=e.status >= 500)
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        again = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
        return FetchFailed(Status.DNS_ERROR, f"{e.host}: {_text(cause)}", retry=again)
    if isinstance(e, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch | ssl.SSLError):
        return FetchFailed(Status.TLS_ERROR, _tls_text(getattr(e, "certificate_error", cause)))
    if isinstance(e, aiohttp.InvalidURL) or not isinstance(e, aiohttp.ClientError | OSError):
        return FetchFailed(Status.BAD_URL, f"not a URL that can be requested: {_text(e)}")
    if isinstance(e, aiohttp.ClientResponseError):
        return FetchFailed(Status.CONNECTION_ERROR, f"the answer is not valid HTTP: {_text(e)}", retry=True)
    if isinstance(e, aiohttp.ClientPayloadError):
        return FetchFailed(Status.CONNECTION_ERROR, f"the body ended early: {_text(e)}", retry=True)
    reason = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else _text(cause)
    return FetchFailed(Status.CONNECTION_ERROR, f"the connection failed: {reason}", retry=True)


def _tls_text(e: object) -> str:
    named = named_authorities()
    trusted = f"; trusted are the authorities of {named[0]}={named[1]}" if named else ""
    return _text(e) + trusted


def _timeout_text(e: TimeoutError, settings: DownloadSettings) -> str:
    if isinstance(e, aiohttp.ConnectionTimeoutError):
        return f"no connection within {settings.connect_timeout_s:g} s (download.connect_timeout_s)"
    if isinstance(e, aiohttp.SocketTimeoutError):
        return f"silence for {settings.read_timeout_s:g} s (download.read_timeout_s)"
    return f"not done within {settings.timeout_s:g} s (download.timeout_s)"


def _text(e: object) -> str:
    return error_text(redact(str(e)) or type(e).__name__)
