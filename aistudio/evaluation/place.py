"""Where an aggregation's files go: metrics/<name>/, and metrics/ itself for the first one of a run.

A run keeps several aggregations beside each other (text and image queries, several qrels). The first one's files lie in
metrics/ too, where they always lay; aggregating again under its name replaces both.
"""

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aistudio.errors import ConfigError, StoreError
from aistudio.runs import layout
from aistudio.store import Store

RECOMPUTED = "compared"  # what `compare` computes over a part of the gallery; never a run's first aggregation
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Place:
    """The folders that an aggregation writes each of its files to."""

    store: Store
    name: str
    is_first: bool

    @property
    def folders(self) -> tuple[str | None, ...]:
        """Names for `layout.metrics_key`; None is metrics/ itself."""
        return (self.name, None) if self.is_first else (self.name,)

    def write_table(self, file: str, table: pa.Table) -> None:
        """Write a Parquet file."""
        for folder in self.folders:
            self.store.write_table(layout.metrics_key(file, folder), table)

    def write_json(self, file: str, value: Any) -> None:
        """Write a JSON file."""
        for folder in self.folders:
            self.store.write_json(layout.metrics_key(file, folder), value)

    def delete(self, file: str) -> None:
        """Delete a file of an earlier aggregation under this name, if there is one."""
        for folder in self.folders:
            self.store.delete(layout.metrics_key(file, folder))

    def earlier(self) -> dict[str, Any] | None:
        """Return about.json of the aggregation that this one replaces, None where there is none."""
        for folder in self.folders:
            key = layout.metrics_key("about.json", folder)
            if self.store.exists(key):
                return dict(self.store.read_json(key))
        return None


def place_for(store: Store, name: str) -> Place:
    """Return the place of the aggregation `name`. Raises ConfigError for a name that is none."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name {name}: expected small letters, digits and _, a letter first, 31 at most")
    first = first_name(store)
    return Place(store, name, name != RECOMPUTED and first in (None, name))


def first_name(store: Store) -> str | None:
    """Return the name of the aggregation in metrics/ itself, None where there is none yet."""
    key = layout.metrics_key("about.json")
    if not store.exists(key):
        return None
    about = store.read_json(key)
    return str(about.get("name") or about.get("query") or "text")


def folder_of(store: Store, name: str | None) -> str | None:
    """Return the folder to read an aggregation from: None (metrics/ itself) for the first one and for no name.

    Raises:
        StoreError: the run has no aggregation of that name.
    """
    if name is None or (name == first_name(store) and name != RECOMPUTED):
        return None
    if not store.exists(layout.metrics_key("metrics.json", name)):
        known = ", ".join(names(store)) or "none"
        raise StoreError(f"{store.root}: no aggregation {name!r}; there: {known}")
    return name


def names(store: Store) -> list[str]:
    """List the aggregations of a run, the first one first."""
    first = first_name(store)
    found = {e.key.split("/")[1] for e in store.list(layout.METRICS) if e.key.count("/") > 1}
    complete = sorted(n for n in found if n != first and store.exists(layout.metrics_key("metrics.json", n)))
    return ([first] if first else []) + complete
