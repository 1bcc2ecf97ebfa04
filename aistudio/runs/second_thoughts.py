"""Failed rows and the commands that may mend them: what a changed setting would change, and what to do next."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aistudio.config import JobConfig, StoreSettings
from aistudio.run_record import RunRecord
from aistudio.runs.next_command import next_command
from aistudio.runs.record import without_secrets
from aistudio.schema import Status
from aistudio.secrets import HIDDEN

_SLOW = (Status.TIMEOUT, Status.CONNECTION_ERROR)
_REFUSED = (Status.HTTP_ERROR, Status.ACCESS_DENIED)
# Settings that decide which rows fail and are no part of a run's identity -> the statuses that they may change.
CHANGES: dict[str, tuple[Status, ...]] = {
    "download.allow_private_addresses": (Status.BLOCKED_ADDRESS,),
    "download.timeout_s": (Status.TIMEOUT,),
    "download.connect_timeout_s": (Status.TIMEOUT,),
    "download.read_timeout_s": (Status.TIMEOUT,),
    "download.retries": (*_SLOW, Status.DNS_ERROR, Status.HTTP_ERROR),
    "download.backoff_s": (*_SLOW, Status.HTTP_ERROR),
    "download.backoff_max_s": (*_SLOW, Status.HTTP_ERROR),
    "download.max_redirects": (Status.TOO_MANY_REDIRECTS,),
    "download.max_bytes": (Status.TOO_LARGE,),
    "download.concurrency": (*_SLOW, Status.HTTP_ERROR),
    "download.per_host_concurrency": (*_SLOW, Status.HTTP_ERROR),
    "download.hosts": (*_SLOW, Status.HTTP_ERROR, Status.DNS_ERROR),
    "download.cache": (),  # a retry fetches anew, past the cache
    "download.cache_max_bytes": (),
    "download.cache_max_age_s": (),
    "download.user_agent": _REFUSED,
    "download.headers": _REFUSED,
    "download.trust_env_proxy": (*_SLOW, Status.DNS_ERROR, Status.TLS_ERROR),
    "download.url_map": tuple(s for s in Status if s not in (Status.OK, Status.MODEL_ERROR)),
    "images.decode_timeout_s": (Status.UNSUPPORTED_IMAGE,),
    "store.endpoint_url": (Status.NOT_FOUND, Status.ACCESS_DENIED, Status.CONNECTION_ERROR),
    "store.region": (Status.NOT_FOUND, Status.ACCESS_DENIED, Status.HTTP_ERROR),
}


class Change(NamedTuple):
    """A setting that has another value than the run was made with."""

    setting: str
    value: Any
    statuses: dict[str, int]  # rows that failed with what it may change


def changes(record: RunRecord, config: JobConfig, counts: Mapping[str, int]) -> list[Change]:
    """List the changed settings that may give failed rows another outcome."""
    old, new = record.config, without_secrets(config)
    found = []
    for setting, statuses in CHANGES.items():
        section, _, key = setting.partition(".")
        before, now = (old.get(section) or {}).get(key), new[section].get(key)
        if key not in (old.get(section) or {}) or before == now:
            continue
        failed = {s.value: counts[s.value] for s in statuses if counts.get(s.value)}
        if failed:
            found.append(Change(setting, now, failed))
    return found


def change_lines(found: list[Change], run: str, store: StoreSettings | None = None) -> Iterator[str]:
    """Say which rows the changed settings would change, and the whole command that scores them again."""
    for change in found:
        rows = " and ".join(f"{n:,} row{'s' if n != 1 else ''} failed with {s}" for s, n in change.statuses.items())
        yield f"{rows}, which {change.setting} changes"
    if found:
        overrides = [o for change in found for o in _overrides(change)]
        statuses = dict.fromkeys(s for change in found for s in change.statuses)
        yield f"next: {retry_command(run, list(statuses), overrides, store)}"


def retry_command(run: str, statuses: list[str], overrides: list[str], store: StoreSettings | None = None) -> str:
    """Return the whole command that scores failed rows again."""
    flags = [part for status in statuses for part in ("--status", status)]
    flags += [part for override in overrides for part in ("--set", override)]
    return next_command("retry", run, store, *flags)


def _overrides(change: Change) -> Iterator[str]:
    """The setting as `--set` takes it; secrets are to be filled in."""
    if isinstance(change.value, dict) and change.setting == "download.headers":
        for name, value in change.value.items():
            yield f"{change.setting}.{name}={'...' if value == HIDDEN else _yaml(value)}"
        return
    yield f"{change.setting}={_yaml(change.value)}"


def _yaml(value: Any) -> str:
    """On one line, as YAML reads it back."""

    return json.dumps(value, ensure_ascii=False)


# What may mend the failures of a status, most hopeful first: words, and the settings that go with a retry.
_MENDING: dict[str, tuple[str, list[str]]] = {
    Status.BLOCKED_ADDRESS: ("if these are your own hosts", ["download.allow_private_addresses=true"]),
    Status.TIMEOUT: ("with more time, or later", ["download.timeout_s=60"]),
    Status.CONNECTION_ERROR: ("when the hosts answer again", []),
    Status.DNS_ERROR: ("when the names can be resolved", []),
    Status.TOO_LARGE: ("with room for larger files", ["download.max_bytes=100000000"]),
    Status.TOO_MANY_REDIRECTS: ("with more redirects", ["download.max_redirects=10"]),
    Status.ACCESS_DENIED: ("with credentials that may read them", []),
    Status.TLS_ERROR: ("when the certificates are in order", []),
    Status.MODEL_ERROR: ("after what the errors say is mended", []),
}


def next_for_failures(counts: Mapping[str, int], run: str, store: StoreSettings | None = None) -> str | None:
    """Return the best next command for the failed rows, with words; None where no row failed.

    A status that a retry may mend goes first, the most frequent of them; the others need another manifest, and the
    report says which rows those are.
    """
    failed = {s: n for s, n in counts.items() if s != Status.OK and n}
    if not failed:
        return None
    hopeful = [s for s in sorted(failed, key=lambda s: -failed[s]) if s in _MENDING]
    most = max(failed, key=lambda s: failed[s])
    if hopeful and failed[hopeful[0]] * 4 >= failed[most]:
        status = hopeful[0]
        words, overrides = _MENDING[status]
        again = retry_command(run, [status], overrides, store)
        return f"{_rows(failed[status])} failed with {status}; {words}: {again}"
    report = next_command("report", run, store)
    return f"{_rows(failed[most])} failed with {most}; which ones, and what to do: {report}"


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
