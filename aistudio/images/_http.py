"""One try at one http(s) URL: connect, follow redirects by hand so that each hop is checked, read the body.

Retries, fallbacks and the number of requests in flight are the caller's (download.py).
"""

import asyncio
import os
import socket
import ssl
import urllib.request
from types import TracebackType
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from aistudio.config import DownloadSettings
from aistudio.errors import ConfigError
from aistudio.images._addresses import BlockedAddress, PublicResolver, check_literal
from aistudio.images._body import ACCEPT_ENCODING, read_body
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images._netrc import Netrc
from aistudio.images._retry import parse_retry_after
from aistudio.images.urls import BadURL, parse_http_url, redact
from aistudio.schema import Status

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DNS_TTL_S = 300  # a run asks the same few CDN names millions of times


class HttpClient:
    """aiohttp sessions of one event loop; made and closed inside it.

    Addresses are checked by the connector's resolver (see _addresses.py). With a proxy from the environment the
    proxy's own address is exempt, since the operator chose it; it resolves the names, so only addresses written
    out in a URL can be checked then. netrc is read only for URLs whose credentials were taken out (see _netrc.py).
    """

    def __init__(self, settings: DownloadSettings) -> None:
        self._settings = settings
        self._netrc = Netrc()
        self._proxies = env_proxies() if settings.trust_env_proxy else {}
        resolver = None if settings.allow_private_addresses else PublicResolver()
        self._direct = self._session(resolver)
        self._proxied = self._session(None) if self._proxies else None

    def _session(self, resolver: PublicResolver | None) -> aiohttp.ClientSession:
        settings = self._settings
        return aiohttp.ClientSession(
            # limit=0: the caller bounds requests; a second queue in here would count against the time-outs.
            connector=aiohttp.TCPConnector(limit=0, resolver=resolver, ttl_dns_cache=_DNS_TTL_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
            ),
            headers={"User-Agent": settings.user_agent, "Accept-Encoding": ACCEPT_ENCODING},
        )

    async def close(self) -> None:
        await self._direct.close()
        if self._proxied is not None:
            await self._proxied.close()

    async def fetch(self, url: URL) -> Fetched:
        """The image at `url`, one try, within timeout_s. Raises FetchFailed."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._follow(url)
        except FetchFailed:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as e:  # TimeoutError and ssl.SSLError are OSErrors
            raise _failure(e, self._settings) from e

    async def _follow(self, start: URL) -> Fetched:
        url, headers = start, dict(self._settings.headers)
        cookies: dict[str, str] = {}
        for _ in range(self._settings.max_redirects + 1):
            if cookies:
                headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in cookies.items())
            async with self._get(url, headers) as response:
                location = response.headers.get("Location") if response.status in _REDIRECTS else None
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

    def _get(self, url: URL, headers: dict[str, str]) -> aiohttp.client._RequestContextManager:
        if not self._settings.allow_private_addresses:
            check_literal(url.raw_host or "")
        proxy = self._proxy_for(url)
        session = self._direct if proxy is None or self._proxied is None else self._proxied
        url, auth = self._netrc.sign_in(url)
        return session.get(url, headers=headers, allow_redirects=False, proxy=proxy, auth=auth)

    def _proxy_for(self, url: URL) -> str | None:
        if not self._proxies:
            return None
        host = f"{url.raw_host}:{url.port}"
        if urllib.request.proxy_bypass_environment(host, self._proxies):  # type: ignore[attr-defined]  # not in typeshed
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")

    async def _finish(self, response: aiohttp.ClientResponse, final_url: str | None) -> Fetched:
        code = response.status
        if not 200 <= code < 300:
            raise FetchFailed(
                Status.HTTP_ERROR,
                f"the server answered {code} {response.reason or ''}".rstrip()[:200],
                http_status=code,
                retry=code == 429 or code >= 500,
                retry_after_s=parse_retry_after(response.headers.get("Retry-After")),
                final_url=final_url,
            )
        try:
            body = await read_body(response, self._settings.max_bytes)
        except FetchFailed as e:
            e.final_url = final_url
            raise
        return Fetched(Status.OK, None, code, len(body), final_url, body)

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def env_proxies() -> dict[str, str]:
    """HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as urllib reads them; empty without a proxy.

    Raises:
        ConfigError: a proxy of a kind that aiohttp cannot use.
    """
    found = {
        k: v for k, v in urllib.request.getproxies_environment().items() if k in ("http", "https", "all", "no") and v
    }
    for name in {"http", "https", "all"} & found.keys():
        if "://" not in found[name]:
            found[name] = f"http://{found[name]}"
        if not found[name].startswith(("http://", "https://")):
            raise ConfigError(
                f"{name.upper()}_PROXY={redact(found[name])}: only http:// and https:// proxies can be used; "
                "unset it, or set download.trust_env_proxy: false"
            )
    return found if found.keys() - {"no"} else {}


def _redirect_target(url: URL, location: str) -> URL:
    try:
        joined = urljoin(str(url), location.strip())
        return parse_http_url(joined, quote_spaces=True)
    except (BadURL, ValueError) as e:
        raise FetchFailed(Status.BAD_URL, f"redirected to {redact(location)[:200]!r}: {e}") from None


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
        return FetchFailed(Status.CONNECTION_ERROR, f"the proxy answered {e.status} {e.message}", retry=e.status >= 500)
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        again = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
        return FetchFailed(Status.DNS_ERROR, f"{e.host}: {_text(cause)}", retry=again)
    if isinstance(e, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch | ssl.SSLError):
        return FetchFailed(Status.TLS_ERROR, _text(getattr(e, "certificate_error", cause)))
    if isinstance(e, aiohttp.InvalidURL) or not isinstance(e, aiohttp.ClientError | OSError):
        return FetchFailed(Status.BAD_URL, f"not a URL that can be requested: {_text(e)}")
    if isinstance(e, aiohttp.ClientResponseError):
        return FetchFailed(Status.CONNECTION_ERROR, f"the answer is not valid HTTP: {_text(e)}", retry=True)
    if isinstance(e, aiohttp.ClientPayloadError):
        return FetchFailed(Status.CONNECTION_ERROR, f"the body ended early: {_text(e)}", retry=True)
    reason = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else _text(cause)
    return FetchFailed(Status.CONNECTION_ERROR, f"the connection failed: {reason}", retry=True)


def _timeout_text(e: TimeoutError, settings: DownloadSettings) -> str:
    if isinstance(e, aiohttp.ConnectionTimeoutError):
        return f"no connection within {settings.connect_timeout_s:g} s (download.connect_timeout_s)"
    if isinstance(e, aiohttp.SocketTimeoutError):
        return f"silence for {settings.read_timeout_s:g} s (download.read_timeout_s)"
    return f"not done within {settings.timeout_s:g} s (download.timeout_s)"


def _text(e: object) -> str:
    return redact(" ".join(str(e).split()))[:300] or type(e).__name__
