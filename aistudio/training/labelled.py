"""Labels of images, and who is trained on and who judged by, from a column or from a table of one's own.

A row without a label that is needed has a problem, which is counted. The table's rows are found by row_id.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.config.train import TrainSettings
from aistudio.config.train_data import RolesSettings
from aistudio.config.train_similar import LabelledData
from aistudio.errors import ConfigError
from aistudio.search.keyed import read_text_table
from aistudio.store import open_store
from aistudio.training.dataset import Dataset
from aistudio.training.sources import Source
from aistudio.training.split import known_contents

NO_LABEL = "it has no label"
_SHOWN = 3


@dataclass(frozen=True)
class Roles:
    """The table of roles: the role of each row_id, and its label where the table has the column `data.label`."""

    settings: RolesSettings
    role: dict[str, str]
    label: dict[str, str] | None

    @property
    def digest(self) -> str:
        """Return a digest of the table."""
        lines = sorted(f"{key}\0{role}\0{(self.label or {}).get(key)}" for key, role in self.role.items())
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Labels:
    """Where labels are found. `column`: of the manifest, None where the table of roles has it or none is named."""

    column: str | None
    needed: bool
    roles: Roles | None

    def part(self, source: Source, validation: bool) -> Source:
        """Return the rows of a source that are trained on, or judged by, with their labels."""
        what = f"{source.identity} {self.needed} {validation} {self.roles.digest if self.roles else ''}"
        identity = hashlib.sha256(what.encode()).hexdigest()
        return LabelledSource(identity, source.name, source.label, None, source, self, validation)

    @property
    def splits(self) -> bool:
        """Is there a table that says which rows are for what?"""
        return self.roles is not None


def open_labels(data: LabelledData, settings: TrainSettings, *, needed: bool) -> Labels:
    """Read the table of roles, if there is one.

    Raises:
        ConfigError: no label is named although one is needed, or the table lacks a column or names a row twice.
    """
    if needed and data.label is None:
        raise ConfigError("data.label: name the column whose values say which images are alike; of a folder: folder")
    if data.roles is None:
        return Labels(data.label, needed, None)
    frame = read_text_table(data.roles.path, "data.roles.path", open_store(".", settings.store))
    for setting, column in (("key", data.roles.key), ("column", data.roles.column)):
        if column not in frame:
            raise ConfigError(
                f"data.roles.{setting}: {data.roles.path} has no column {column}; found {', '.join(map(str, frame))}"
            )
    keys = frame[data.roles.key].astype(str)
    if twice := keys[keys.duplicated()].tolist():
        raise ConfigError(f"data.roles.path: {data.roles.path} names {twice[0]} twice; one row has one role")
    label = dict(zip(keys, frame[data.label], strict=True)) if data.label in frame else None
    roles = Roles(data.roles, dict(zip(keys, frame[data.roles.column], strict=True)), label)
    return Labels(None if label is not None else data.label, needed, roles)


@dataclass(frozen=True)
class LabelledSource(Source):
    """The rows of another source that have one of the roles; a missing label is a problem where it is needed."""

    inner: Source = None  # type: ignore[assignment]  # always given; dataclasses want a default after a default
    labels: Labels = None  # type: ignore[assignment]
    validation: bool = False

    def tables(self) -> Iterator[pa.Table]:
        names: list[str] = []
        found = 0
        for table in self.inner.tables():
            if self.labels.roles is not None:
                names += table["row_id"].to_pylist()[: _SHOWN - len(names)] if len(names) < _SHOWN else []
                table, known = self._chosen(table, self.labels.roles)
                found += known
            yield self._checked(table) if self.labels.needed else table
        if self.labels.roles is not None and not found and names:
            roles = self.labels.roles
            raise ConfigError(
                f"data.roles: {roles.settings.path} names none of the rows of {self.name}: its column "
                f"{roles.settings.key} has {', '.join(list(roles.role)[:_SHOWN])}; row ids are {', '.join(names)}"
            )

    def count(self) -> int | None:
        return None if self.labels.roles is not None else self.inner.count()

    def _chosen(self, table: pa.Table, roles: Roles) -> tuple[pa.Table, int]:
        """Return the rows of this part; and how many rows of the table have any role."""
        wanted = set(roles.settings.validation if self.validation else roles.settings.train)
        ids = table["row_id"].to_pylist()
        role = [roles.role.get(row_id) for row_id in ids]
        if roles.label is not None:
            label = pa.array([roles.label.get(row_id) for row_id in ids], pa.string())
            table = table.set_column(table.column_names.index("label"), "label", label)
        rejected = [i is not None for i in table["problem"].to_pylist()]  # counted once, with what is trained on
        mine = [
            r in wanted or (bad and not i and not self.validation)
            for r, i, bad in zip(role, ids, rejected, strict=True)
        ]
        return table.filter(pa.array(mine, pa.bool_())), sum(r is not None for r in role)

    def _checked(self, table: pa.Table) -> pa.Table:
        problem = [
            NO_LABEL if p is None and not (label or "").strip() else p
            for p, label in zip(table["problem"].to_pylist(), table["label"].to_pylist(), strict=True)
        ]
        return table.set_column(table.column_names.index("problem"), "problem", pa.array(problem, pa.string()))


@dataclass(frozen=True)
class LabelledRows:
    """N usable rows of a data set: their numbers, images, labels, and the hashes that mark copies of an image."""

    row: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.object_]  # "" where there is none
    content: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def classes(self) -> dict[str, int]:
        """Rows of each label, most first."""
        return dict(Counter(self.label.tolist()).most_common())

    @property
    def digest(self) -> str:
        """Return a digest of these labels."""
        hashed = pd.util.hash_array(self.label, categorize=False) if len(self) else np.empty(0, np.uint64)
        return hashlib.sha256(self.row.tobytes() + hashed.tobytes()).hexdigest()


def labelled_rows(data: Dataset, usable: NDArray[np.bool_], left_out: list[str]) -> LabelledRows:
    """Return the usable rows whose label is not left out."""
    row = np.flatnonzero(usable)
    label = np.array([v or "" for v in data.readable(row, "label")], object)
    kept = ~np.isin(label.astype(str), left_out) if left_out else np.ones(len(row), bool)
    row = row[kept]
    content = data.column("content")[row]
    content = np.where(known_contents(content), content, row.astype(np.uint64))  # else each its own
    return LabelledRows(row, data.column("image")[row], label[kept], content)
