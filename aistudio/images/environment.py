"""What the environment must allow before rows are fetched by http and https; asked before a run starts anything."""

from collections.abc import Iterable

from yarl import URL

from aistudio.config import DownloadSettings
from aistudio.errors import ConfigError
from aistudio.images._proxies import Proxies, UnusableProxy
from aistudio.images._tls import UnusableAuthorities, tls_context
from aistudio.images.urls import BadURL, parse_target


def check_environment(settings: DownloadSettings, urls: Iterable[str | None]) -> None:
    """See that the proxies and certificates which the environment names can be used for these images.

    Args:
        settings: of the downloads; `trust_env_proxy: false` leaves proxies out, `url_map` says where images really are.
        urls: image_url and fallback_url of the rows, or of the first of them. Local files, S3, texts that are no
            address and hosts that NO_PROXY names need nothing; each site is looked at once.

    Raises:
        ConfigError: one sentence that names the variable. The rows concerned would all fail with it.
    """
    proxies = Proxies() if settings.trust_env_proxy else Proxies({})
    seen: set[tuple[str, str | None, int | None]] = set()
    try:
        for url in filter(None, (_http_url(text, settings) for text in urls)):
            site = (url.scheme, url.raw_host, url.port)
            if site in seen:
                continue
            if url.scheme == "https" and not any(scheme == "https" for scheme, _, _ in seen):
                tls_context()
            seen.add(site)
            proxies.of_url(url)
    except (UnusableProxy, UnusableAuthorities) as e:
        raise ConfigError(str(e)) from None


def _http_url(text: str | None, settings: DownloadSettings) -> URL | None:
    try:
        return parse_target(text, settings.url_map).url if text else None
    except BadURL:
        return None
