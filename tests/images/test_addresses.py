"""_addresses.py: every spelling of every address that must not be connected to."""

import asyncio
import ipaddress
import socket

import pytest

from aistudio.images._addresses import BlockedAddress, PublicResolver, check_literal, is_blocked, parse_literal

BLOCKED = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:db8::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "172.15.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::",
]


@pytest.mark.parametrize("text", BLOCKED)
def test_blocked(text: str) -> None:
    assert is_blocked(ipaddress.ip_address(text))
    with pytest.raises(BlockedAddress, match="allow_private_addresses"):
        check_literal(text)


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert not is_blocked(ipaddress.ip_address(text))
    check_literal(text)


@pytest.mark.parametrize(
    "text", ["2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.1.", "0"]
)
def test_other_spellings(text: str) -> None:
    with pytest.raises(BlockedAddress):
        check_literal(text)


def test_zone_index() -> None:
    with pytest.raises(BlockedAddress):
        check_literal("fe80::1%1")


@pytest.mark.parametrize("name", ["localhost", "example.com", "1.2.3.4.example", "0x7f000001.example", "..", "a" * 300])
def test_names_are_left_to_the_resolver(name: str) -> None:
    assert parse_literal(name) is None
    check_literal(name)


class _Answers:
    """A name server with canned answers, in the place of aiohttp's resolver."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    async def resolve(self, host: str, port: int, family: int) -> list[dict]:
        return [
            {"hostname": host, "host": h, "port": port, "family": family, "proto": 0, "flags": 0} for h in self.hosts
        ]

    async def close(self) -> None:
        pass


def _resolve(*answers: str) -> list[str]:
    async def run() -> list[str]:
        resolver = PublicResolver()
        resolver._inner = _Answers(*answers)
        return [r["host"] for r in await resolver.resolve("some.example", 80, socket.AF_UNSPEC)]

    return asyncio.run(run())


def test_resolver_hands_out_public_addresses_only() -> None:
    assert _resolve("10.0.0.1", "8.8.8.8", "::1") == ["8.8.8.8"]
    with pytest.raises(BlockedAddress, match=r"some\.example resolves to 10\.0\.0\.1, not a public address"):
        _resolve("10.0.0.1", "::1")
