"""A grid: independent trainings one after the other, each in a folder of its own, and one table of all of them.

Every training starts from a fresh model and its own seed, and can be taken up again by itself. One that fails does not
end the others. Means and spreads are over trainings that differ in the seed alone.
"""

import csv
import io
import json
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aistudio.config.train import TrainSettings
from aistudio.config.train_grid import SEED, GridRun
from aistudio.errors import AIStudioError
from aistudio.reports.page import Site, assets, render
from aistudio.secrets import redact
from aistudio.storable import error_text
from aistudio.store import Store
from aistudio.training import layout
from aistudio.training.programs import Finished, open_output

TrainOne = Callable[[GridRun], Finished]
SHOWN_METRICS = 6  # of the printed and the HTML table; the CSV files have all


class Outcome(NamedTuple):
    """One training of the grid; `problem` where it failed."""

    run: GridRun
    record: dict[str, Any] | None
    problem: str | None


class Group(NamedTuple):
    """Trainings that differ in the seed alone."""

    values: dict[str, Any]  # without the seed
    metrics: dict[str, list[float]]
    seconds: list[float]


def run_grid(
    runs: Sequence[GridRun], root: TrainSettings, train: TrainOne, say: Callable[[str], None]
) -> list[Outcome]:
    """Train all of them, writing the table after each.

    Args:
        root: settings whose `output` is the folder of the grid.
        train: trains one.
    """
    store, outcomes = open_output(root), list[Outcome]()
    for number, run in enumerate(runs, 1):
        say(f"grid {number}/{len(runs)}: {run.name}")
        try:
            outcomes.append(Outcome(run, train(run).record, None))
        except AIStudioError as e:
            outcomes.append(Outcome(run, None, redact(error_text(e))))
            say(f"failed: {outcomes[-1].problem}")
        write_tables(store, outcomes, len(runs))
    return outcomes


def state_lines(runs: Sequence[GridRun]) -> list[str]:
    """Say of each training whether it is finished, begun or to come, for a dry run."""
    lines = [f"grid: {len(runs)} trainings"]
    for run in runs:
        store = open_output(run.settings)
        found = store.read_json(layout.TRAIN)["state"] if store.exists(layout.TRAIN) else "to come"
        lines.append(f"  {run.name}: {'begun' if found == 'running' else found}")
    return lines


def groups_of(outcomes: Sequence[Outcome]) -> list[Group]:
    """Put finished trainings together that differ in the seed alone, the best mean of the chosen metric first."""
    found: dict[str, Group] = {}
    for run, record, _ in outcomes:
        if record is None:
            continue
        values = {key: value for key, value in run.values.items() if key != SEED}
        group = found.setdefault(json.dumps(values), Group(values, {}, []))
        for name, value in record["best"]["metrics"].items():
            group.metrics.setdefault(name, []).append(value)
        group.seconds.append(record["seconds"])
    metric, sign = _metric(outcomes)
    return sorted(found.values(), key=lambda g: sign * statistics.fmean(g.metrics.get(metric) or [0.0]))


def summary_lines(outcomes: Sequence[Outcome], folder: str) -> list[str]:
    """Return the table as Markdown, where it is stored, and what failed."""
    failed = [f"failed: {o.run.name}: {o.problem}" for o in outcomes if o.problem]
    return [
        _markdown(outcomes),
        f"tables: {folder}/grid.csv, grid_summary.csv, grid.md; page: {folder}/report/index.html",
        *failed,
    ]


def write_tables(store: Store, outcomes: Sequence[Outcome], num_runs: int) -> None:
    """Write grid.csv (a row for each training), grid_summary.csv (for each combination), grid.md and the page."""
    keys = list(outcomes[0].run.values)
    names = _metric_names(outcomes)
    rows = [["run", *keys, "state", "steps", "best_step", "seconds", *names]]
    for run, record, problem in outcomes:
        known = [run.name, *(_shown(run.values[k]) for k in keys)]
        if record is None:
            rows.append([*known, f"failed: {problem}", *[""] * (3 + len(names))])
            continue
        best = record["best"]
        numbers = [best["metrics"].get(name, "") for name in names]
        rows.append([*known, "finished", record["steps"], best["step"], record["seconds"], *numbers])
    store.write_bytes("grid.csv", _csv(rows))
    groups, own = groups_of(outcomes), [k for k in keys if k != SEED]
    columns = [f"{name}_{what}" for name in names for what in ("mean", "std", "min", "max")]
    summary: list[list[Any]] = [[*own, "trainings", "seconds_mean", *columns]]
    for group in groups:
        spread = [x for name in names for x in _spread(group.metrics.get(name, []))]
        summary.append(
            [*(_shown(group.values[k]) for k in own), len(group.seconds), statistics.fmean(group.seconds), *spread]
        )
    store.write_bytes("grid_summary.csv", _csv(summary))
    store.write_bytes("grid.md", (_markdown(outcomes) + "\n").encode())
    for name, body in _page(store, outcomes, num_runs).items():
        store.write_bytes(layout.report_key(name), body)


def _page(store: Store, outcomes: Sequence[Outcome], num_runs: int) -> dict[str, bytes]:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    state = "complete" if len(outcomes) == num_runs else "running"
    site = Site("Grid of trainings", store.root, state, made, ("grid",))
    head, *rows = _table(outcomes)
    failed = [(o.run.name, o.problem) for o in outcomes if o.problem]
    each = [
        (o.run.name, f"../{o.run.name}/report/index.html", o.record["best"]["metrics"].get(_metric(outcomes)[0]))
        for o in outcomes if o.record
    ]  # fmt: skip
    body = render(
        site, "grid", head=head, rows=rows, failed=failed, each=each, metric=_metric(outcomes)[0], num_runs=num_runs
    )
    return {f"assets/{name}": asset for name, asset in assets().items()} | {"grid.html": body, "index.html": body}


def _table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return head and rows: values, number of trainings, minutes, mean ± standard deviation of the first metrics."""
    keys = [k for k in outcomes[0].run.values if k != SEED]
    names = _metric_names(outcomes)[:SHOWN_METRICS]
    table = [[*keys, "trainings", "minutes", *names]]
    for group in groups_of(outcomes):
        shown = [_mean_and_spread(group.metrics.get(name, [])) for name in names]
        minutes = f"{statistics.fmean(group.seconds) / 60:.1f}"
        table.append([*(_shown(group.values[k]) for k in keys), str(len(group.seconds)), minutes, *shown])
    return table


def _markdown(outcomes: Sequence[Outcome]) -> str:
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in _table(outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _metric(outcomes: Sequence[Outcome]) -> tuple[str, int]:
    """Return the metric that chose the weights, and -1 where higher is better."""
    record = next((o.record for o in outcomes if o.record is not None), None)
    if record is None:
        return "", -1
    return str(record["metric"]), -1 if record.get("higher_is_better", True) else 1


def _metric_names(outcomes: Sequence[Outcome]) -> list[str]:
    """Return all measured metrics, the one that chose the weights first."""
    names = dict.fromkeys(n for o in outcomes if o.record for n in o.record["best"]["metrics"])
    chosen = _metric(outcomes)[0]
    return sorted(names, key=lambda name: name != chosen)


def _spread(values: list[float]) -> list[float | str]:
    if not values:
        return ["", "", "", ""]
    return [statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else "", min(values), max(values)]


def _mean_and_spread(values: list[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _csv(rows: list[list[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()
