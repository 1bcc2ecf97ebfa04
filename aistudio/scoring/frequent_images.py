"""Pictures of frequent addresses, those on more rows than a shard holds: fetched and encoded once for the whole run.

Their first rows lie in shards of their own (runs/address_order.py), which are scored before the others begin. Such a
shard leaves what came of its pictures, failures and exact vectors included, in `by_address/frequent/`; the other shards
take it from there. That only saves work: what is damaged or not there a shard fetches for itself.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.scoring.image_source import ImageRow, Request
from aistudio.scoring.packing import pack_images, unpack_images
from aistudio.store import Store

_KEPT = 64  # shards of first rows whose pictures a worker holds: some hundred kB each


class FrequentImages:
    """Leaves and takes the pictures of frequent addresses. Its calls may come from several threads."""

    def __init__(self, run: Store, shards: Sequence[str], attempt: int | None) -> None:
        """Prepare to leave and to take.

        Args:
            shards: of first rows, whose pictures are there, or are this attempt's to find.
            attempt: number of an attempt that scores failed rows again; None: the rows are scored.
        """
        self._run, self._shards, self._attempt = run, frozenset(shards), attempt
        self._addresses: dict[Request, str] | None = None
        self._reading = threading.Lock()
        self._read = lru_cache(_KEPT)(self._read_outcomes)

    def leave(self, shard: str, requests: Sequence[Request], images: Iterable[ImageRow]) -> None:
        """Store what came of a shard's pictures, if it is one of first rows.

        A model's failure is not passed on: the next one may be luckier.
        """
        if shard not in self._shards:
            return
        outcomes = [image._replace(given=True) for image in images if image.status != Status.MODEL_ERROR]
        packed = pack_images(shard, outcomes)
        addresses = [requests[image.number] for image in outcomes]
        for i, name in enumerate(("image_url", "fallback_url")):
            packed = packed.append_column(name, pa.array([[pair[i] for pair in addresses]], pa.list_(pa.string())))
        sink = BytesIO()
        pq.write_table(packed, sink, compression="zstd", write_page_checksum=True)
        self._run.write_bytes(layout.frequent_key(shard, self._attempt), sink.getvalue())

    def of(self, shard: str, requests: Sequence[Request]) -> dict[int, ImageRow]:
        """Return what came of a shard's pictures elsewhere, by number."""
        if shard in self._shards:
            return {}
        wanted = defaultdict(list)
        known = self._known()
        for number, request in enumerate(requests):
            if request in known:
                wanted[known[request]].append(number)
        found = {}
        for there, numbers in wanted.items():
            outcomes = self._outcomes(there)
            found.update({n: outcomes[requests[n]]._replace(number=n) for n in numbers if requests[n] in outcomes})
        return found

    def _known(self) -> dict[Request, str]:
        """Frequent addresses, each with the shard of its first row."""
        with self._reading:
            if self._addresses is None:
                self._addresses = {}
                for shard in sorted(self._shards):
                    try:
                        rows = self._run.read_table(layout.manifest_key(shard), ["image_url", "fallback_url"])
                    except StoreError:
                        continue  # found and told by the ledger
                    pairs = zip(rows["image_url"].to_pylist(), rows["fallback_url"].to_pylist(), strict=True)
                    self._addresses.update(dict.fromkeys(pairs, shard))
            return self._addresses

    def _outcomes(self, shard: str) -> dict[Request, ImageRow]:
        try:
            return self._read(layout.frequent_key(shard, self._attempt))
        except Exception:  # noqa: BLE001 - whatever the file holds, or there is none: its pictures can be fetched
            return {}

    def _read_outcomes(self, key: str) -> dict[Request, ImageRow]:
        packed = self._run.read_table(key, verify=True)
        _, images = unpack_images(packed)
        pairs = zip(*(packed[name][0].as_py() for name in ("image_url", "fallback_url")), strict=True)
        counted_there = (image._replace(fetched=False, cache=None, decode_s=0.0) for image in images)
        return dict(zip(pairs, counted_there, strict=True))
