"""What `score` prints before and after: the plan of a dry run, the closing ledger, the way on after a stop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aistudio.catalogue import DATASET_FORMATS
from aistudio.config import EngineSettings
from aistudio.errors import TOO_MANY_FAILED, StoreError
from aistudio.pipeline.cluster import connect, missing_now
from aistudio.pipeline.early_ray import cluster_address
from aistudio.pipeline.first_look import dry_run_lines
from aistudio.pipeline.plan import Plan, Resources, local_resources, make_plan, memory_warning
from aistudio.pipeline.progress import duration, print_ledger, where_time_went
from aistudio.pipeline.surroundings import machine_warnings
from aistudio.run_record import RunRecord, Timings
from aistudio.runs import layout
from aistudio.runs.examples import examples
from aistudio.runs.failing import failed_share, too_many
from aistudio.runs.ledger import Ledger, count_stored, taken_over
from aistudio.runs.next_command import next_command
from aistudio.runs.second_thoughts import Change, change_lines, changes, next_for_failures
from aistudio.runs.shard_writer import AUTO_ROWS
from aistudio.store import Store
from aistudio.timings import Speed, speed

if TYPE_CHECKING:
    from aistudio.pipeline.score import Prepared, Result

_LEDGER_LIMIT_S = 3.0  # after Ctrl-C the process should end soon


def print_dry_run(prepared: "Prepared") -> None:
    """Stages, resources, counts and what will be written; no work is started, a cluster is only asked."""
    config = prepared.config
    resources, plan, missing = _planned(config.engine, prepared.pinned.num_bytes)
    passthrough = [f.name for f in prepared.columns.passthrough_fields] if prepared.columns else []
    weights = "" if prepared.to_fetch else ", weights"
    print(f"Dry run: configuration, manifest{weights} and output are in order. Nothing was started.\n")
    print(f"  manifest    {_manifest_size(prepared)}, format {config.manifest.format}")
    print(f"  kept beside the scores: {', '.join(passthrough) or 'nothing'}")
    for stage, info in prepared.models.items():
        print(f"  {stage:<11} {info.name} ({info.family}), fingerprint {(info.fingerprint or '')[:16]}")
    for file in prepared.to_fetch:
        size_mb = f"{file.size_bytes / 1e6:,.0f} MB" if file.size_bytes else "size unknown"
        print(f"  weights     {file.path} is not here: the run would fetch it ({size_mb})")
    for line in dry_run_lines(prepared):
        print(line)
    for line in prepared.base.lines() if prepared.base else ():
        print(f"  base        {line}; trust: {config.trust}")
    if config.engine.deduplicate == "run":
        print("  duplicates  the rows of one address go into one shard: fetched and encoded once over the whole run")
    print(f"  resources   {resources}")
    for line in plan.lines():
        print(f"  plan        {line}")
    for warning in _warnings(config.engine, plan, resources, prepared.pinned.num_bytes):
        print(f"  warning     {warning}")
    if missing:
        short = ", ".join(f"{n:g} {key}" for key, n in missing.items())
        limit_s = config.engine.scale_up_timeout_s if resources.can_grow else config.engine.schedule_timeout_s
        print(f"  warning     {short} are busy now: the run would wait up to {limit_s:g} s for them, then fail")
    wanted = config.engine.shard_rows
    shard_size = f"at most {AUTO_ROWS} rows each, fewer towards the end" if wanted == "auto" else f"{wanted} rows each"
    print(f"  shards      {shard_size}: one file in scores/, the unit of commit and resume")
    print(f"  writes      {config.output}/ run.json manifest/ scores/ texts/ rejected/")
    if prepared.record:
        print(f"  resumes     an earlier attempt is there (state: {prepared.record.state})")


def _manifest_size(prepared: "Prepared") -> str:
    """A folder's entry counts its files; of other manifests size is bytes, unknown to some servers."""
    files = prepared.files
    if prepared.config.manifest.format == "folder":
        return f"a folder of {sum(f.size for f in files):,} file(s)"
    if prepared.config.manifest.format in DATASET_FORMATS:
        return f"a data set of {sum(f.size for f in files):,} picture(s)"
    size = sum(max(f.size, 0) for f in files)
    unknown = sum(f.size < 0 for f in files)
    return f"{len(files)} file(s), {size:,} bytes" + (f" and {unknown} of unknown size" if unknown else "")


def _warnings(settings: EngineSettings, plan: Plan, resources: Resources, weights_bytes: int) -> list[str]:
    if cluster_address(settings) is not None:
        return []
    memory = memory_warning(plan, resources, weights_bytes)
    return [*machine_warnings(), *([memory] if memory else [])]


def _planned(settings: EngineSettings, weights_bytes: int) -> tuple[Resources, Plan, dict[str, float]]:
    """Resources, plan, and what is not free: of the cluster if there is one to join, else of this machine."""
    if cluster_address(settings) is None:
        resources = local_resources()
        return resources, make_plan(settings, resources, weights_bytes), {}
    with connect(settings) as resources:
        plan = make_plan(settings, resources, weights_bytes)
        return resources, plan, missing_now(plan.bundles())


def print_summary(result: "Result", store: Store, output: str, *, next_step: bool = True) -> None:
    """The ledger, the speed, where the time went, what the texts and the failed rows mean, the next commands."""
    ledger, record = result.ledger, result.record
    changed = changes(record, result.config, ledger.counts) if result.did_nothing and result.config else []
    if result.did_nothing:
        left = "" if changed else "; nothing to do"
        print(f"This run is finished{left} ({output}).")
    print_ledger(ledger.counts, examples(store, ledger), ledger.num_manifest, ledger.num_rejected)
    for line in reading_lines(ledger.reading):
        print(line)
    if not result.did_nothing:
        _print_speed(record)
    for column, methods in ledger.crops.items():
        print(f"{column}: {', '.join(f'{method} {n:,}' for method, n in sorted(methods.items()))} row(s)")
    for line in delta_lines(ledger, record):
        print(line)
    if shared := duplicates_line(ledger, record):
        print(shared)
    _print_texts(ledger, record)
    if ledger.complete:
        print(f"rows in = rows out: {ledger.num_manifest:,} = {ledger.num_stored:,}")
        _print_next(result, changed, output, next_step)
    else:
        print(f"The ledger does NOT add up: {ledger.num_missing:,} rows missing, {ledger.num_doubled:,} doubled")
        for problem in ledger.problems[:10]:
            print(f"  {problem}")


def _print_speed(record: RunRecord) -> None:
    if not record.work or not record.work[-1].timings.wall_s:
        return
    last = record.work[-1]
    print(speed_line(speed(last.timings), again=last.kind == "retry"))
    print(where_time_went(last.timings, record.sources))
    if cached := cache_line(last.timings, record.facts.get("byte_cache")):
        print(cached)
    for fact, value in record.facts.items():
        if fact.startswith("batch_size") or fact == "canaries":
            print(f"{fact}: {value}")
        elif fact == "slowest_host":
            print(f"slowest host: {value}")
        elif fact == "wrong_workers":
            print(f"workers replaced because their numbers were wrong: {value}")


def delta_lines(ledger: Ledger, record: RunRecord) -> list[str]:
    """Say what was taken from the base run, and what of it is gone; [] for a run without a base."""
    delta = record.delta
    if delta.base is None:
        return []
    lines = [f"taken over from {delta.base}: {taken_over(ledger.reused) or 'no row'}"]
    if delta.pictures:
        lines.append(f"its pictures were scored anew: {delta.pictures}")
    if delta.gone:
        lines.append(f"rows of it that are gone: {delta.gone:,}, listed in {layout.GONE}")
    if problem := record.facts.get("base"):
        lines.append(f"warning: some of it could not be read: {problem}")
    return lines


def duplicates_line(ledger: Ledger, record: RunRecord) -> str | None:
    """Say how many rows shared pictures over the whole run; None for a run that did not put them together."""
    addresses, frequent = record.duplicates.addresses, record.duplicates.frequent
    if addresses is None:
        return None
    shared = f"{ledger.num_manifest - addresses:,} rows shared a picture with another"
    among = f"; {frequent:,} of the addresses stand on more rows than a shard holds" if frequent else ""
    total = f"{ledger.num_manifest:,} rows have {addresses:,} addresses"
    return f"duplicates: {total}, each fetched and encoded once: {shared}{among}"


def speed_line(found: Speed, *, again: bool = False) -> str:
    """How long an attempt took: start-up and steady work apart, and a rate where there was enough of that."""
    rows = "" if found.rows is None else f" for {found.rows:,} row{'s' if found.rows != 1 else ''}"
    line = f"{duration(found.wall_s or 0)} wall{rows}{' scored again' if again else ''}"
    if found.startup_s is None or found.steady_s is None or not found.rows:
        return line
    line += f": {found.startup_s:.1f} s of start-up to the first rows, {found.steady_s:.1f} s of steady work"
    if found.images_per_s is None:
        return f"{line}, too short to tell a rate"
    return f"{line} at {found.images_per_s:.1f} images/s"


def cache_line(timings: Timings, problem: str | None) -> str | None:
    """Say what came from the byte cache; None for a run without one."""
    had, same, missed, failed = timings.cache_hit, timings.cache_same, timings.cache_miss, timings.cache_failed
    total = had + same + missed + failed
    if not total:
        return None
    asked = f", {same:,} more after its server was asked" if same else ""
    line = f"byte cache: {had:,} of {total:,} images without a request{asked}"
    if failed:
        line += f"; warning: {failed:,} could not be kept" + (f" ({problem})" if problem else "")
    return line


def _print_texts(ledger: Ledger, record: RunRecord) -> None:
    if ledger.num_without_text and "recall" in (record.models or ("recall",)):  # old or cut records name none
        n = ledger.num_without_text
        print(f"without a text: {n:,} ok row{'s have' if n != 1 else ' has'} no recall_score and no text query")
    if record.texts.warning:
        print(f"warning: {record.texts.warning}")


def _print_next(result: "Result", changed: list[Change], output: str, next_step: bool) -> None:
    limit = result.config.engine.max_failed_share if result.config else None
    counts = result.ledger.counts
    if too_many(counts, limit):
        print(
            f"{failed_share(counts):.0%} of the rows failed, more than engine.max_failed_share ({limit:g}): exit code "
            f"{TOO_MANY_FAILED}, although everything is stored"
        )
    store = result.config.store if result.config else None
    for line in change_lines(changed, output, store):
        print(line)
    if not changed and (advice := next_for_failures(counts, output, store)):
        print(advice)
    if next_step and not changed:
        print(f"next: {next_command('aggregate', output, store)}")


def exit_code(result: "Result") -> int:
    """0 done; 1 the ledger does not add up; 3 more rows failed than engine.max_failed_share."""
    if not result.ledger.complete:
        return 1
    limit = result.config.engine.max_failed_share if result.config else None
    return TOO_MANY_FAILED if too_many(result.ledger.counts, limit) else 0


def reading_lines(reading: Mapping[str, Any]) -> list[str]:
    """Say what became of the manifest's lines, and which records look as if a quote had swallowed lines."""
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
