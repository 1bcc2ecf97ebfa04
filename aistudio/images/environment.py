"""What the environment must allow before rows are fetched by http and https; asked before a run starts anything."""

from collections.abc import Collection, Iterable, Mapping

from aistudio.config import DownloadSettings
from aistudio.errors import ConfigError
from aistudio.images._proxies import Proxies, UnusableProxy
from aistudio.images._tls import UnusableAuthorities, tls_context
from aistudio.images.urls import map_url

_SCHEMES = frozenset({"http", "https"})


def http_schemes(urls: Iterable[str | None], url_map: Mapping[str, str]) -> frozenset[str]:
    """Those of "http" and "https" that `urls`, rewritten by `url_map`, are fetched by; stops once it has seen both."""
    seen: set[str] = set()
    for url in urls:
        scheme = map_url(url.strip(), url_map).partition(":")[0].lower() if url else ""
        if scheme in _SCHEMES:
            seen.add(scheme)
            if seen == _SCHEMES:
                break
    return frozenset(seen)


def check_environment(settings: DownloadSettings, schemes: Collection[str]) -> None:
    """See that the proxies and certificates which the environment names can be used for these schemes.

    Args:
        settings: of the downloads; `trust_env_proxy: false` leaves proxies out.
        schemes: "http", "https" or both, as `http_schemes` finds them; with none (files, S3) nothing is looked at.

    Raises:
        ConfigError: one sentence that names the variable. The rows concerned would all fail with it.
    """
    try:
        if settings.trust_env_proxy:
            proxies = Proxies()
            for scheme in sorted(_SCHEMES & set(schemes)):
                proxies.of_scheme(scheme)
        if "https" in schemes:
            tls_context()
    except (UnusableProxy, UnusableAuthorities) as e:
        raise ConfigError(str(e)) from None
