"""Makes the manifest snapshot of a run with Ray Data: one task for each group of manifest files.

What a task does to its files, and what a snapshot holds, is in runs/snapshot.py.
"""

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aistudio.catalogue import Columns, Reading
from aistudio.config import JobConfig
from aistudio.errors import ManifestError
from aistudio.pipeline.start_up import announce
from aistudio.pipeline.tasks import RayTasks
from aistudio.run_record import DuplicateFacts
from aistudio.runs import layout
from aistudio.runs.address_order import order_rows
from aistudio.runs.attempts import refuse_if_fenced
from aistudio.runs.manifest_files import InputFile, is_web
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import (
    FIRST_FILE_DECIDES,
    ONE_TASK_FORMATS,
    NormaliseGroup,
    Snapshot,
    manifest_identity,
    refuse_duplicates,
)
from aistudio.secrets import redact
from aistudio.store import Store, open_store

_GROUP_BYTES = 256 << 20  # manifest bytes per task: some seconds of work each
_HERE_BYTES = 8 << 20  # about a second of reading
_HERE_ROWS = 50_000  # that the driver puts in order sooner than tasks would start
_THREADS = 16  # that delete files: a bucket takes its time for each
_TEXTS = ("csv", "tsv", "jsonl", "poi_recall", "ranking_pairs")
_TASK_RETRIES = 20  # Ray's own number is infinite: a file that kills its reader would never end


def make_snapshot(
    config: JobConfig, files: list[InputFile], columns: Columns, attempt: int, num_actors: int
) -> Snapshot:
    """Write the snapshot through Ray Data and return its index. `num_actors` share the shards.

    Raises:
        FencedError: an attempt newer than `attempt` owns the run folder.
        ManifestError: unreadable file, no usable row at all, row ids that occur twice (named).
    """
    store = open_store(config.output, config.store)
    groups = _groups(files, single=config.manifest.limit is not None or config.manifest.format in ONE_TASK_FORMATS)
    rows = [{"group": i, "first": g[0], "last": g[1]} for i, g in enumerate(groups)]
    share = num_actors if len(groups) == 1 else 0  # several groups: so much work that every actor gets its share
    discard_order(store)  # of an attempt that ended in the middle of it
    task = NormaliseGroup(config.model_dump(mode="json"), files, columns, len(groups) > 1 or len(files) > 1, share)
    shards: list[Shard] = []
    reasons: dict[str, int] = {}
    fields: set[tuple[tuple[str, str], ...]] = set()
    reading, num_bytes = Reading(), 0
    for row in _read(task, rows, here=len(rows) == 1 and _is_small(config, files)):
        shards += [Shard(*s) for s in json.loads(row["shards"])]
        fields.add(tuple((n, t) for n, t in json.loads(row["passthrough"])))
        reading = reading.plus(Reading(*json.loads(row["reading"])))
        num_bytes += int(row["num_bytes"])
        for reason, n in json.loads(row["reasons"]).items():
            reasons[reason] = reasons.get(reason, 0) + n
    shards.sort()
    if not shards:
        shown = redact(str(config.manifest.path))
        raise ManifestError(f"manifest.path: {shown}: no usable row; rejected: {reasons or 'none'}")
    if len(fields) > 1:
        raise ManifestError(f"manifest.path: the files have different columns: {sorted(fields)[:2]}")
    duplicates: DuplicateFacts | None = None
    if config.engine.deduplicate == "run":
        announce("putting the rows of one address together")
        shards, duplicates = _in_order(store, shards, num_bytes, config, num_actors)
    snapshot = Snapshot(
        shards=shards,
        passthrough=list(fields.pop()),
        num_rejected=sum(reasons.values()),
        rejected_reasons=reasons,
        identity=manifest_identity(config, files),
        reading={**reading._asdict(), "named": list(reading.named)},
        duplicates=duplicates,
    )
    if "row_id" in config.manifest.columns:
        refuse_duplicates(store, snapshot)
    refuse_if_fenced(store, attempt)
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    discard_order(store)
    return snapshot


def _in_order(
    store: Store, drafts: list[Shard], num_bytes: int, config: JobConfig, num_actors: int
) -> tuple[list[Shard], DuplicateFacts]:
    """Make the shards from their draft, the rows of one address in one of them."""
    import ray

    started = time.monotonic()
    here = sum(d.rows for d in drafts) <= _HERE_ROWS
    mapper: Mapper = InProcess() if here else RayTasks(max(1, int(ray.cluster_resources().get("CPU", 1))), gpu=False)
    found = order_rows(store, drafts, num_bytes, mapper, config.engine.shard_rows, num_actors)
    took = round(time.monotonic() - started, 2)
    return found.shards, DuplicateFacts(addresses=found.addresses, frequent=found.frequent, order_s=took)


def discard_order(store: Store) -> None:
    """Remove the files of the order by address, and what came of frequent ones: of no use to who is done with them."""
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(store.delete, [entry.key for entry in store.list(layout.ADDRESSES)]))


def _read(task: NormaliseGroup, rows: list[dict[str, int]], *, here: bool) -> Iterable[dict[str, Any]]:
    """Run the task on each group: in this process, or as Ray tasks."""
    if here:
        found = [task({name: [value] for name, value in row.items()}) for row in rows]
        return [{name: values[0] for name, values in row.items()} for row in found]
    import ray.data

    tasks = {"num_cpus": 0.5, "max_retries": _TASK_RETRIES}
    answers: Iterable[dict[str, Any]] = (
        ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(task, batch_size=1, **tasks).iter_rows()
    )
    return answers


def _is_small(config: JobConfig, files: list[InputFile]) -> bool:
    """Whether the driver reads it sooner than a task starts. Text alone: what Python parses cannot kill its process.

    A database is read by the driver too, which has its password, and so is the only archive at a web address.
    """
    if config.manifest.format == "sql":
        return True
    if config.manifest.format in FIRST_FILE_DECIDES and len(files) == 1 and is_web(files[0]):
        return True  # the driver has fetched it, to look into it
    sizes = [file.size for file in files]
    return config.manifest.format in _TEXTS and min(sizes) >= 0 and sum(sizes) <= _HERE_BYTES


def _groups(files: list[InputFile], single: bool) -> list[tuple[int, int]]:
    """Runs of consecutive files, as (first, last + 1), of about _GROUP_BYTES each."""
    if single:
        return [(0, len(files))]
    groups, first, size = [], 0, 0
    for i, file in enumerate(files):
        size += max(file.size, 0)
        if size >= _GROUP_BYTES:
            groups.append((first, i + 1))
            first, size = i + 1, 0
    if first < len(files):
        groups.append((first, len(files)))
    return groups
