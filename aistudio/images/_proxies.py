"""Proxies of the environment: which one a URL goes through, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

import ipaddress
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from yarl import URL

from aistudio.images._addresses import Address, parse_literal
from aistudio.secrets import redact

_SEPARATOR = re.compile(r"[,\s]+")
_BRACKETS = re.compile(r"\[([^\]]*)\](/\d+)?(?::(\d+))?")


class UnusableProxy(ValueError):
    """A proxy that cannot be used; the text names the variable and the way out."""


class Proxies:
    """The proxies that the environment names when this is made; NO_PROXY as curl, Go and requests together read it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: values of http, https, all and no; by default what urllib finds (lower case comes first)."""
        found = urllib.request.getproxies_environment() if environment is None else environment
        self._found = {k: v.strip() for k, v in found.items() if k in ("http", "https", "all") and v.strip()}
        self._direct = tuple(filter(None, map(_entry, _SEPARATOR.split(found.get("no", "")))))

    def __bool__(self) -> bool:
        """Whether any proxy is named."""
        return bool(self._found)

    def of_scheme(self, scheme: str) -> str | None:
        """The proxy for http or https; ALL_PROXY counts only where there is none for the scheme itself.

        Raises:
            UnusableProxy: a kind that cannot be used (SOCKS), or no address.
        """
        name = scheme if scheme in self._found else "all"
        return _usable(name, self._found[name]) if name in self._found else None

    def of_url(self, url: URL) -> str | None:
        """The proxy for `url`, None for a direct connection. Raises UnusableProxy as `of_scheme`."""
        if not self._found or self.passes_by(url.raw_host or "", url.port):
            return None
        return self.of_scheme(url.scheme)

    def passes_by(self, host: str, port: int | None) -> bool:
        """Whether NO_PROXY names the host: itself, its domain (`corp`, `.corp`, `*.corp`), its network, its port."""
        host = host.lower().strip("[]").rstrip(".")
        address = parse_literal(host)
        return any(entry.matches(host, address, port) for entry in self._direct)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str  # lower case, ASCII; a pattern where it holds *
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    port: int | None

    def matches(self, host: str, address: Address | None, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if address is not None and self.network is not None:
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            return address in self.network or (mapped is not None and mapped in self.network)
        if "*" in self.name:
            return fnmatchcase(host, self.name)
        return host == self.name or (address is None and host.endswith("." + self.name))


def _entry(text: str) -> _Entry | None:
    """One entry of NO_PROXY; None for one that means nothing."""
    text = text.partition("://")[2].partition("/")[0] if "://" in text else text
    if match := _BRACKETS.fullmatch(text):
        host, port = match[1] + (match[2] or ""), match[3]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, None
    if port is not None and not (port.isascii() and port.isdigit()):
        return None
    try:
        network = ipaddress.ip_network(host.partition("%")[0], strict=False)
    except ValueError:
        network = None
    name = host.lower().removeprefix("*.").strip(".") or host
    return _Entry(_ascii(name), network, None if port is None else int(port[:6])) if name else None


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    try:
        return URL.build(scheme="http", host=name).raw_host or name
    except (ValueError, UnicodeError):
        return name


def _usable(name: str, value: str) -> str:
    address = value if "://" in value else f"http://{value}"
    shown = f"{name.upper()}_PROXY={redact(address)}"
    if not address.lower().startswith(("http://", "https://")):
        raise UnusableProxy(
            f"{shown}: only http:// and https:// proxies can be used; unset it, or set download.trust_env_proxy: false"
        )
    try:
        host, _ = URL(address).host, URL(address).port
    except (ValueError, UnicodeError):
        host = None
    if not host:
        raise UnusableProxy(f"{shown}: expected http://host:port; correct or unset it")
    return address
