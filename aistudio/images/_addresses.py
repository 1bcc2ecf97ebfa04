"""Which IP addresses a download may connect to, checked where the connection is made.

The resolver hands aiohttp only addresses that passed; aiohttp connects to exactly these, so a name that answers
differently the second time (DNS rebinding) gains nothing. Literal addresses never reach a resolver: `check_literal`
looks at them, in every spelling that the C library accepts.
"""

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052: an IPv4 address in the last 32 bits. Behind DNS64 every IPv4 site looks like this, so look inside.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
SETTING = "download.allow_private_addresses: true permits it"


class BlockedAddress(OSError):
    """The address is not one on the public internet. An OSError so that aiohttp hands it through unharmed."""


def is_blocked(address: Address) -> bool:
    """Whether an address is loopback, link-local, private, shared (100.64/10), multicast, reserved or unspecified.

    IPv4 inside IPv6 (mapped, NAT64, 6to4, Teredo) is judged by the IPv4 address.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded_ipv4(address)
        if inner is not None:
            return is_blocked(inner)
        if address in _NAT64_LOCAL or address.is_site_local:
            return True
    return not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def parse_literal(host: str) -> Address | None:
    """The address that `host` spells, decimal, octal, hex and short forms (127.1, 0x7f000001) included; else None."""
    try:
        return ipaddress.ip_address(host.rstrip("."))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, UnicodeError, ValueError):
        return None


def check_literal(host: str) -> None:
    """Raises BlockedAddress when `host` spells a blocked address; a name passes (the resolver will look)."""
    address = parse_literal(host)
    if address is not None and is_blocked(address):
        raise BlockedAddress(f"{host} is not a public address ({SETTING})")


class PublicResolver(AbstractResolver):
    """aiohttp's own resolver, minus blocked addresses; a name with none left raises BlockedAddress."""

    def __init__(self) -> None:
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [r for r in found if not is_blocked(ipaddress.ip_address(r["host"]))]
        if found and not allowed:
            raise BlockedAddress(f"{host} resolves to {found[0]['host']}, not a public address ({SETTING})")
        return allowed

    async def close(self) -> None:
        await self._inner.close()
