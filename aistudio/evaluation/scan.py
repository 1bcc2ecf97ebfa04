"""What `aggregate` reads of all score files beside vectors: status, items' texts, rows that can be queries, pairs.

Leaves out: vectors (search/gallery.py), what a query is (queries.py), pairs (pairs.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.evaluation.definition import RowsDigest, digest_rows
from aistudio.runs import layout
from aistudio.schema import Status, has_text
from aistudio.search.gallery import ID_STEP, File
from aistudio.search.given_lists import RowScores
from aistudio.search.keyed import KeyedTable, row_keys
from aistudio.store import Store
from aistudio.values import column_values

NOT_COMPARED = "not_compared"  # stands for the status of an ok row that the gallery is to go without
PAIR_COLUMNS = ("pair_id", "side", "ctr")
_NUMERIC = (pa.types.is_integer, pa.types.is_floating)
_PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean)
SLICE = "slice:"  # before the name of a slice column among the rows of pairs, which have columns of their own


@dataclass
class Scan:
    """What the cheap columns of some score files hold."""

    status: Counter[str]
    queries: pd.DataFrame  # a row per (item_id, text), in manifest order; see `merge_queries`
    pairs: pd.DataFrame | None  # rows that belong to an A/B pair
    images: "Drawn" = field(default_factory=lambda: Drawn())
    gallery: RowsDigest = field(default_factory=RowsDigest)
    without_text: int = 0  # ok rows without a text


class Asked(NamedTuple):
    """What a scan needs besides the settings."""

    left_out: pa.Array | None = None  # row ids that are not in the gallery although they are ok
    pairs: KeyedTable | None = None  # of metrics.pairs; None: the manifest's own columns
    scores: RowScores | None = None  # somebody else's, in place of the run's own


@dataclass
class Drawn:
    """Ok rows that are queries, when images are: of more than max_queries those of the lowest hashes."""

    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    num_all: int = 0


def merge_drawn(parts: Sequence[Drawn], at_most: int | None) -> Drawn:
    """Merge the samples of several files; ids ascend if the files are given in order."""
    ids, values = (np.concatenate([getattr(p, name) for p in parts]) for name in ("ids", "hashes"))
    chosen = draw(values, at_most)
    return Drawn(ids[chosen], values[chosen], sum(p.num_all for p in parts))


def hashes(names: pd.Series, seed: int) -> NDArray[np.uint64]:
    """A number of 64 bits for each name, the same in every run: another run of the manifest draws the same queries."""
    values = names.to_numpy(object)
    return pd.util.hash_array(values, hash_key=f"{seed % 10**16:016d}", categorize=False)


def draw(values: NDArray[np.uint64], at_most: int | None) -> NDArray[np.int64]:
    """Places of the `at_most` lowest hashes, upwards; all of them for None."""
    if at_most is None or len(values) <= at_most:
        return np.arange(len(values))
    return np.sort(np.argsort(values, kind="stable")[:at_most])


def score_files(store: Store) -> list[File]:
    """Raises StoreError when the run has no scores."""
    keys = layout.score_keys(store)
    if not keys:
        raise StoreError(f"{store.root}: no scores/*.parquet: not a run folder, or nothing has been scored yet")
    return list(enumerate(keys))


NOTHING_MORE = Asked()


def scan_files(files: Sequence[File], store: Store, settings: MetricsSettings, asked: Asked = NOTHING_MORE) -> Scan:
    """Read everything but vectors and thumbnails of some files."""
    status: Counter[str] = Counter()
    slices, queries, pairs, images = settings.slices, [], [], [Drawn()]
    gallery, without_text = RowsDigest(), 0
    for number, key in files:
        wanted = ["row_id", "item_id", "image_url", "text", "status", "rank_score", "recall_score", *PAIR_COLUMNS]
        wanted += [*slices, *(asked.pairs.columns if asked.pairs else ())]
        table = store.read_table(key, list(dict.fromkeys(wanted)), verify=True)
        missing = [c for c in slices if c not in table.column_names]
        if missing:
            known = ", ".join(c for c in store.read_metadata(key)[0].names if c not in ("embedding", "thumbnail"))
            raise ConfigError(f"metrics.slices: {missing[0]} is not a column of {store.path(key)}; known: {known}")
        numeric = {c: any(test(table.schema.field(c).type) for test in _NUMERIC) for c in slices}
        says = has_text(table["text"]).to_numpy()
        frame = _frame(table)
        frame["recall_score"] = frame["recall_score"].where(says)  # older runs have a score of the empty text
        if asked.scores is not None:
            frame["recall_score"], frame["rank_score"] = np.nan, asked.scores.of_file(number, len(frame))
        if asked.left_out is not None:
            out = pc.is_in(table["row_id"], value_set=asked.left_out).to_numpy() & (frame["status"] == Status.OK.value)
            frame.loc[out, "status"] = NOT_COMPARED
        good = frame[frame["status"] == Status.OK.value]
        gallery += digest_rows(good["row_id"], good["image_url"], good["item_id"])
        without_text += int((~says & (frame["status"] == Status.OK.value)).sum())
        status.update(frame["status"].tolist())
        queries.append(_by_query(frame, numeric))
        if settings.query == "image":
            ok = np.flatnonzero(frame["status"] == Status.OK.value)
            drawn = Drawn(number * ID_STEP + ok, hashes(frame["row_id"].iloc[ok], settings.seed), len(ok))
            images = [merge_drawn([*images, drawn], settings.max_queries)]
        frame = frame.assign(**{f"{SLICE}{c}": frame[c] for c in slices})
        frame["id"] = number * ID_STEP + np.arange(len(frame))
        if (rows := _pair_rows(frame, table, asked.pairs)) is not None:
            pairs.append(rows)
    merged = merge_queries(queries, slices)
    whole = pd.concat(pairs, ignore_index=True) if pairs else None
    return Scan(status, merged, whole, images[0], gallery, without_text)


def _pair_rows(frame: pd.DataFrame, table: pa.Table, given: KeyedTable | None) -> pd.DataFrame | None:
    """The rows that belong to a pair, by the manifest's columns or by a file of pairs; None where there are no such."""
    if given is not None:
        keys = row_keys({c: table[c].combine_chunks() for c in given.columns}, given.columns)
        own = frame.drop(columns=[c for c in PAIR_COLUMNS if c in frame]).assign(key=keys.to_pylist())
        rows = own.merge(given.frame[["key", *PAIR_COLUMNS]], on="key").drop(columns="key")
        return rows if len(rows) else None
    if not set(PAIR_COLUMNS) <= set(frame.columns):
        return None
    named = frame["pair_id"].notna() & (frame["pair_id"].astype(str).str.strip() != "")
    return frame[named]


def _frame(table: pa.Table) -> pd.DataFrame:
    """As pandas has it; columns of the user's whose type pandas may not take whole are columns of Python values."""
    odd = [f.name for f in table.schema if not any(test(f.type) for test in (*_NUMERIC, *_PLAIN))]
    frame: pd.DataFrame = table.drop_columns(odd).to_pandas()
    for name in odd:
        frame[name] = pd.Series(column_values(table[name]), dtype=object)
    return frame


def _by_query(frame: pd.DataFrame, numeric: dict[str, bool]) -> pd.DataFrame:
    """Rows per query: counts, and for each slice column sum and count, or the value and whether there are others."""
    groups = frame.groupby(["item_id", "text"], sort=False, dropna=False)
    out = groups.size().to_frame("num_rows")
    out["num_ok"] = (frame["status"] == Status.OK.value).groupby([frame["item_id"], frame["text"]], sort=False).sum()
    for column, is_number in numeric.items():
        if is_number:
            numbers = frame[column].astype(np.float64).groupby([frame["item_id"], frame["text"]], sort=False)
            out[f"{column}:sum"], out[f"{column}:count"] = numbers.sum(), numbers.count()
        else:
            text = frame[column].map(lambda v: None if v is None or v != v else str(v)).astype(object)
            by = text.groupby([frame["item_id"], frame["text"]], sort=False)
            out[f"{column}:first"], out[f"{column}:other"] = by.first(), by.nunique(dropna=False) > 1
    return out.reset_index()


def merge_queries(frames: Sequence[pd.DataFrame], slices: Sequence[str]) -> pd.DataFrame:
    """The same for several files: item_id, text, num_rows, num_ok and the slice columns' parts."""
    whole = pd.concat(frames, ignore_index=True)
    groups = whole.groupby(["item_id", "text"], sort=False)
    out = groups[[c for c in whole if c in ("num_rows", "num_ok") or str(c).endswith((":sum", ":count"))]].sum()
    for column in slices:
        if f"{column}:first" in whole:
            first = groups[f"{column}:first"]
            out[f"{column}:first"] = first.first()
            out[f"{column}:other"] = groups[f"{column}:other"].any() | (first.nunique(dropna=False) > 1)
    return out.reset_index()
