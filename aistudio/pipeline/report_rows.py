"""How a report reads a run: one light pass over all score files, then only the rows that a page shows.

Never the whole run in memory: the scan keeps counts and samples, `fetch` reads the files of the wanted rows
one at a time, `sample_vectors` reads at most a few hundred files.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aistudio.errors import StoreError
from aistudio.reports.failures import FailureTally
from aistudio.runs import layout
from aistudio.schema import EMBEDDING, Status, encoder_column, is_vector_column, vector_matrix
from aistudio.store import Store
from aistudio.values import table_rows

_FAILURE_COLUMNS = ["row_id", "item_id", "image_url", "status", "error", "http_status"]
_MAX_MAP_FILES = 400  # most score files that the map's sample comes from, evenly spread

Place = tuple[str, int]  # score file key, row index in it


@dataclass
class Scan:
    """What one pass over the light columns of all score files found."""

    files: list[str]
    ok_rows: list[int] = field(default_factory=list)  # per file
    counts: Counter[str] = field(default_factory=Counter)
    failures: FailureTally = field(default_factory=FailureTally)
    places: dict[str, Place] = field(default_factory=dict)  # of the row_ids asked for


def scan_scores(store: Store, wanted_ids: set[str]) -> Scan:
    """Counts, failure samples, and where the rows with `wanted_ids` are."""
    scan = Scan(layout.score_keys(store))
    ids = pa.array(sorted(wanted_ids), pa.string())
    for key in scan.files:
        table = store.read_table(key, _FAILURE_COLUMNS, verify=True)
        for entry in pc.value_counts(table["status"]).to_pylist():
            scan.counts[entry["values"]] += entry["counts"]
        ok = pc.equal(table["status"], Status.OK.value)
        scan.ok_rows.append(pc.sum(ok).as_py() or 0)
        scan.failures.add(table_rows(table.filter(pc.invert(ok))))
        if len(ids):
            found = np.flatnonzero(pc.is_in(table["row_id"], value_set=ids).to_numpy(zero_copy_only=False))
            for i, row_id in zip(found.tolist(), table["row_id"].take(found).to_pylist(), strict=True):
                scan.places[row_id] = (key, i)
    return scan


def fetch(store: Store, places: set[Place]) -> Iterator[tuple[Place, dict[str, Any], bytes | None]]:
    """(place, stored fields, thumbnail) of each place, one score file at a time.

    A place that is not there any more (scores written again since the metrics) is left out.
    """
    by_file: dict[str, list[int]] = {}
    for key, i in sorted(places):
        by_file.setdefault(key, []).append(i)
    for key, rows in by_file.items():
        if not store.exists(key):
            continue
        names = [n for n in store.read_metadata(key)[0].names if not is_vector_column(n)]
        table = store.read_table(key, names, verify=True)
        rows = [i for i in rows if 0 <= i < table.num_rows]
        for i, row in zip(rows, table_rows(table.take(rows)), strict=True):
            thumbnail = row.pop("thumbnail", None)
            yield (key, i), row, thumbnail


def sample_vectors(
    store: Store, scan: Scan, most: int, encoder: str | None = None
) -> tuple[np.ndarray, list[dict[str, Any]], list[bytes | None]]:
    """Vectors float32 (N, D), fields and thumbnails of at most `most` ok rows, evenly spread over the run."""
    chosen = [i for i, n in enumerate(scan.ok_rows) if n]
    if sum(scan.ok_rows) > most and len(chosen) > _MAX_MAP_FILES:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen), _MAX_MAP_FILES, endpoint=False).astype(int)]
    available = sum(scan.ok_rows[i] for i in chosen)
    vectors, rows, thumbnails = [], [], []
    for i in chosen:
        table = store.read_table(scan.files[i], verify=True)
        column = _map_column(table.column_names, encoder)
        if column is None:
            break
        good = pc.and_(pc.equal(table["status"], Status.OK.value), pc.is_valid(table[column]))
        index = np.flatnonzero(good.to_numpy(zero_copy_only=False))
        share = min(1.0, most / max(available, 1))
        index = index[np.linspace(0, len(index), int(np.ceil(len(index) * share)), endpoint=False).astype(int)]
        part = table.take(index)
        vectors.append(vector_matrix(part[column]).astype(np.float32))
        part = part.drop_columns([c for c in part.column_names if is_vector_column(c)])
        for row in table_rows(part):
            thumbnails.append(row.pop("thumbnail", None))
            rows.append(row)
    if not vectors:
        return np.zeros((0, 0), np.float32), [], []
    matrix = np.concatenate(vectors)
    keep = np.linspace(0, len(rows), min(len(rows), most), endpoint=False).astype(int)  # rounding up gave a few more
    return matrix[keep], [rows[i] for i in keep], [thumbnails[i] for i in keep]


def _map_column(names: list[str], encoder: str | None) -> str | None:
    """The wanted encoder's vectors, else the first that there are."""
    wanted = EMBEDDING if encoder is None else encoder_column(encoder)
    return wanted if wanted in names else next((name for name in names if is_vector_column(name)), None)


def batches(store: Store, key: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A Parquet file in batches of bounded size; columns that it lacks are left out.

    Raises:
        StoreError: missing, damaged or not Parquet.
    """
    with store.open(key) as f:
        try:
            file = pq.ParquetFile(f, page_checksum_verification=True)
            names = file.schema_arrow.names
            yield from file.iter_batches(
                batch_size=65_536, columns=None if columns is None else [c for c in columns if c in names]
            )
        except (pa.ArrowException, OSError) as e:
            raise StoreError(f"{store.path(key)}: damaged or not Parquet: {e}") from None
