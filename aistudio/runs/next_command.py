"""The command that a user types next, whole and quoted: what opens a run in a bucket is part of it."""

import shlex

from aistudio.config import StoreSettings
from aistudio.places import in_bucket
from aistudio.secrets import redact

_OPENING = (
    "endpoint_url",
    "region",
    "gs_endpoint_url",
    "az_endpoint_url",
    "az_account",
)  # settings without which a run in a bucket cannot be read


def next_command(verb: str, run: str, store: StoreSettings | None = None, *flags: str) -> str:
    """Return `python -m aistudio <verb> --run <run>` with `flags` and the settings that open the run.

    >>> next_command("report", "s3://b/r", StoreSettings(endpoint_url="http://h:9000"))
    'python -m aistudio report --run s3://b/r --set store.endpoint_url=http://h:9000'
    >>> next_command("report", "my runs/r", StoreSettings(region="eu-west-1"))
    "python -m aistudio report --run 'my runs/r'"
    """
    which = "--runs" if verb == "compare" else "--run"
    return shlex.join(["python", "-m", "aistudio", verb, which, run, *flags, *_opening(run, store)])


def _opening(run: str, store: StoreSettings | None) -> list[str]:
    if store is None or not in_bucket(run):
        return []
    given = {name: getattr(store, name) for name in _OPENING}
    return [part for name, value in given.items() if value for part in ("--set", f"store.{name}={redact(value)}")]
