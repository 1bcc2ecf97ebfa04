"""What `score` prints before and after: the plan of a dry run, the closing ledger, the way on after a stop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aistudio.config import EngineSettings
from aistudio.errors import StoreError
from aistudio.pipeline.cluster import cluster_address, connect, missing_now
from aistudio.pipeline.plan import Plan, Resources, local_resources, make_plan
from aistudio.pipeline.progress import duration, print_ledger, where_time_went
from aistudio.runs import layout
from aistudio.runs.ledger import Ledger, count_stored
from aistudio.runs.shard_writer import AUTO_ROWS
from aistudio.store import Store

if TYPE_CHECKING:
    from aistudio.pipeline.score import Prepared, Result

_LEDGER_LIMIT_S = 3.0  # who pressed Ctrl-C wants to be gone


def print_dry_run(prepared: "Prepared") -> None:
    """Stages, resources, counts and what will be written; no work is started, a cluster is only asked."""
    config = prepared.config
    resources, plan, missing = _planned(config.engine)
    size = sum(max(f.size, 0) for f in prepared.files)
    passthrough = [f.name for f in prepared.columns.passthrough_fields] if prepared.columns else []
    print("Dry run: configuration, manifest, weights and output are in order. Nothing was started.\n")
    print(f"  manifest    {len(prepared.files)} file(s), {size:,} bytes, format {config.manifest.format}")
    print(f"  kept beside the scores: {', '.join(passthrough) or 'nothing'}")
    for stage, info in prepared.models.items():
        print(f"  {stage:<11} {info['name']} ({info['family']}), fingerprint {info['fingerprint'][:16]}")
    print(f"  resources   {resources}")
    for line in plan.lines():
        print(f"  plan        {line}")
    if missing:
        short = ", ".join(f"{n:g} {key}" for key, n in missing.items())
        limit_s = config.engine.scale_up_timeout_s if resources.can_grow else config.engine.schedule_timeout_s
        print(f"  warning     {short} short at this moment: the run would wait {limit_s:g} s for room, then give up")
    wanted = config.engine.shard_rows
    shard_size = f"at most {AUTO_ROWS} rows each, fewer towards the end" if wanted == "auto" else f"{wanted} rows each"
    print(f"  shards      {shard_size}: one file in scores/, the unit of commit and resume")
    print(f"  writes      {config.output}/ run.json manifest/ scores/ texts/ rejected/")
    if prepared.record:
        print(f"  resumes     an earlier attempt is there (state: {prepared.record['state']})")


def _planned(settings: EngineSettings) -> tuple[Resources, Plan, dict[str, float]]:
    """Resources, plan, and what is not free: of the cluster if there is one to join, else of this machine."""
    if cluster_address(settings) is None:
        resources = local_resources()
        return resources, make_plan(settings, resources), {}
    with connect(settings) as resources:
        plan = make_plan(settings, resources)
        return resources, plan, missing_now(plan.bundles())


def print_summary(result: "Result", store: Store, output: str, *, next_step: bool = True) -> None:
    """The ledger, the speed, where the time went, the next command."""
    ledger, record = result.ledger, result.record
    if result.did_nothing:
        print(f"This run is finished; nothing to do ({output}).")
    print_ledger(ledger.counts, examples(store, ledger), ledger.num_manifest, ledger.num_rejected)
    for line in reading_lines(ledger.reading):
        print(line)
    timings = record.get("timings", {})
    if not result.did_nothing and timings.get("wall_s"):
        rate, first = timings.get("images_per_s"), timings.get("first_row_s")
        print(f"{duration(timings['wall_s'])} wall, {rate} images/s, first row after {first} s")
        print(where_time_went(timings))
        for fact, found in record.get("facts", {}).items():
            if fact.startswith("batch_size"):
                print(f"{fact}: {found}")
    if ledger.complete:
        print(f"rows in = rows out: {ledger.num_manifest:,} = {ledger.num_stored:,}")
        if next_step:
            print(f"next: python -m jobs.aggregate --run {output}")
    else:
        print(f"The ledger does NOT add up: {ledger.num_missing:,} rows missing, {ledger.num_doubled:,} doubled")
        for problem in ledger.problems[:10]:
            print(f"  {problem}")


def reading_lines(reading: Mapping[str, Any]) -> list[str]:
    """What the manifest's lines became, and records that look as if a quote had swallowed lines; [] of older runs."""
    if not reading.get("lines"):
        return []
    parts = [f"{reading['records']:,} became rows", f"{reading['rejected']:,} rejected"]
    if reading["others"]:
        parts.append(f"{reading['others']:,} header or empty")
    if reading["continued"]:
        parts.append(f"{reading['continued']:,} inside quoted fields that began on a line before")
    lines = [f"manifest: {reading['lines']:,} lines read: {', '.join(parts)}"]
    if reading["suspicious"]:
        lines.append(
            f"warning: {reading['suspicious']:,} records look as if a quote that never closes had swallowed the lines "
            f"behind it: {', '.join(reading['named'])}; if so, see manifest.quoting"
        )
    return lines


def print_stopped(store: Store, command: str) -> None:
    """After Ctrl-C or SIGTERM: the ledger so far and how to go on. Takes seconds, whatever the size of the run."""
    print("\nStopped. What is stored is whole.")
    try:
        so_far = count_stored(store, _LEDGER_LIMIT_S)
        if so_far.num_counted:
            print_ledger(so_far.counts, {}, so_far.num_manifest, 0)
        if so_far.num_counted < so_far.num_stored:
            print(f"(statuses of {so_far.num_counted:,} rows; there was no time to count the others)")
        print(f"{so_far.num_stored:,} of {so_far.num_manifest:,} rows are stored.")
    except StoreError:
        print("The manifest snapshot was not finished; nothing is scored yet.")
    print(f"resume: {command}")


def examples(store: Store, ledger: Ledger) -> dict[str, str]:
    """For each failed status one error text, from the first files that have it."""
    wanted = {s for s in ledger.counts if s != "ok"}
    found: dict[str, str] = {}
    for entry in store.list(layout.SCORES):
        if not wanted - found.keys():
            break
        try:
            table = store.read_table(entry.key, ["status", "error"])
        except StoreError:
            continue  # the ledger names it
        for status, error in zip(table["status"].to_pylist(), table["error"].to_pylist(), strict=True):
            if status != "ok":
                found.setdefault(status, error or "")
    return found
