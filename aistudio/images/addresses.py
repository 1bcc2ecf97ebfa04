"""Looks at image addresses before a run: what they are, whether their hosts have an address, and one that may be used.

Nothing is downloaded. Names are resolved as the downloader would, a bounded number of hosts in a bounded time; behind a
proxy they are not, because there the proxy resolves them.
"""

import ipaddress
import socket
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from aistudio.config import DownloadSettings
from aistudio.images._addresses import SETTING, BlockedAddress, check_literal, is_blocked, parse_literal
from aistudio.images._proxies import Proxies
from aistudio.images.urls import BadURL, Target, parse_target
from aistudio.schema import Status
from aistudio.secrets import redact

MAX_HOSTS = 50  # names that are looked up
LOOKUP_S = 5.0  # for all of them

Request = tuple[str, str | None]  # image_url, fallback_url


class Problem(NamedTuple):
    """Why some of the rows would fail."""

    status: Status
    reason: str
    rows: int
    example: str  # an address


class Look(NamedTuple):
    """What was found about some rows' addresses."""

    rows: int
    kinds: dict[str, int]  # http, file, s3, gs, az, hf, other -> rows, by image_url
    hosts: list[tuple[str, int]]  # most frequent first
    problems: list[Problem]  # most rows first; a row counts once
    note: str  # what was not looked at, "" for nothing

    @property
    def failing(self) -> int:
        """Rows that would fail."""
        return sum(p.rows for p in self.problems)


def look_at(requests: Sequence[Request], settings: DownloadSettings) -> Look:
    """Look at the addresses of some rows. A row with a good fallback does not fail."""
    targets = [[_parsed(url, settings) for url in request if url] for request in requests]
    hosts = Counter(t.url.host or "" for some in targets for t in some[:1] if isinstance(t, Target) and t.url)
    refused, note = _refused_hosts([h for h, _ in hosts.most_common(MAX_HOSTS)], settings)
    kinds: Counter[str] = Counter()
    found: Counter[tuple[Status, str]] = Counter()
    examples: dict[tuple[Status, str], str] = {}
    for request, some in zip(requests, targets, strict=True):
        kinds[some[0].scheme if isinstance(some[0], Target) else "other"] += 1
        reasons = [_reason(target, refused) for target in some]
        if all(reasons) and (first := reasons[0]):
            found[first] += 1
            examples.setdefault(first, redact(request[0]))
    problems = [Problem(*key, rows, examples[key]) for key, rows in found.most_common()]
    return Look(len(requests), dict(kinds.most_common()), hosts.most_common(), problems, note)


def _parsed(url: str, settings: DownloadSettings) -> Target | str:
    try:
        return parse_target(url, settings.url_map)
    except BadURL as e:
        return str(e)


def _reason(target: Target | str, refused: dict[str, tuple[Status, str]]) -> tuple[Status, str] | None:
    """Why an address would fail, None where nothing speaks against it."""
    if isinstance(target, str):
        return Status.BAD_URL, target
    if target.url is not None:
        return refused.get(target.url.host or "")
    if target.path is not None and target.scheme == "file" and not _is_there(target.path):
        return Status.NOT_FOUND, f"no such file (looked from {Path.cwd()})"
    return None


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _refused_hosts(hosts: Sequence[str], settings: DownloadSettings) -> tuple[dict[str, tuple[Status, str]], str]:
    refused: dict[str, tuple[Status, str]] = {}
    names = []
    for host in hosts:
        if parse_literal(host) is None:
            names.append(host)
        elif not settings.allow_private_addresses:
            try:
                check_literal(host)
            except BlockedAddress as e:
                refused[host] = (Status.BLOCKED_ADDRESS, str(e))
    if not names:
        return refused, ""
    if settings.trust_env_proxy and _has_proxy():
        return refused, "names of hosts are resolved by the proxy, so they were not looked up"
    pool = ThreadPoolExecutor(min(16, len(names)), thread_name_prefix="dns")
    waiting = {name: pool.submit(_resolve, name) for name in names}
    wait(waiting.values(), LOOKUP_S)
    pool.shutdown(wait=False, cancel_futures=True)
    late = 0
    for name, future in waiting.items():
        if not future.done() or future.cancelled():
            late += 1
        elif (problem := _judged(name, future.result(), settings)) is not None:
            refused[name] = problem
    return refused, f"{late} of {len(names)} hosts were not looked up within {LOOKUP_S:g} s" if late else ""


def _resolve(name: str) -> list[str] | str:
    """The addresses of a host, or why there are none."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as e:
        return getattr(e, "strerror", None) or str(e)


def _judged(name: str, found: list[str] | str, settings: DownloadSettings) -> tuple[Status, str] | None:
    if isinstance(found, str):
        return Status.DNS_ERROR, f"{name} cannot be resolved: {found}"
    blocked = [a for a in found if is_blocked(ipaddress.ip_address(a.partition("%")[0]))]
    if settings.allow_private_addresses or len(blocked) < len(found):
        return None
    return Status.BLOCKED_ADDRESS, f"{name} resolves to {blocked[0]}, not a public address ({SETTING})"


def _has_proxy() -> bool:
    return bool(Proxies())
