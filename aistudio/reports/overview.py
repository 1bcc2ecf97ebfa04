"""What the overview shows: facts of the run, the ledger, headline metrics, throughput, cost.

Takes run.json and metrics.json as they were stored and tolerates what is missing: an older run, or one
that stopped half-way, still gets a page.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from aistudio.reports.failures import ADVICE
from aistudio.reports.figures import Figure, Series
from aistudio.reports.page import count, duration
from aistudio.run_record import ModelFacts, RunRecord
from aistudio.timings import Speed, scoring_work
from aistudio.timings import speed as run_speed

# Names under which the paper reports what we call otherwise.
PAPER_NAMES = {"hit_rate@5": "recall@5", "pairwise_accuracy": "AUC"}

_EXPLAINED: tuple[tuple[str, str], ...] = (  # metric name (pattern) -> what it says, in one line
    (r"hit_rate@(\d+)", "queries with a right image among the first {0}"),
    (r"recall@(\d+)", "share of a query's right images among the first {0}"),
    (r"precision@(\d+)", "share of right images among the first {0}"),
    (r"ndcg@(\d+)", "graded order of the first {0}, discounted by rank"),
    (r"map@(\d+)", "average precision of the first {0}, mean over queries"),
    (r"cmc@(\d+)", "rank-{0} identification"),
    (r"map", "average precision, mean over queries"),
    (r"mrr", "one over the rank of the first right image"),
    (r"r_precision", "precision at as many images as are right"),
    (r"median_rank", "rank of the first right image, median"),
    (r"pairwise_accuracy", "pairs ordered as their click rates are"),
    (r"pairwise_accuracy_ties_half", "the same, equal scores counting half"),
    (r"roc_auc", "a clicked image scores above an unclicked one"),
    (r"average_precision", "area under the precision-recall curve"),
    (r"log_loss", "of the predicted winner; lower is better"),
    (r"ece", "expected calibration error; lower is better"),
    (r"kendall_tau", "agreement of two orders, per item"),
    (r"ctr_lift", "click rate of the chosen image over the shown one"),
)
_HEADLINE = ("hit_rate@5", "recall@5", "map", "ndcg@10", "mrr", "pairwise_accuracy", "roc_auc", "ctr_lift")
_UNBOUNDED = ("median_rank", "log_loss", "ctr_lift", "kendall_tau")  # not on a scale from 0 to 1


def explain(metric: str) -> str:
    """One line that says what a metric measures; "" for a name that is not ours."""
    for pattern, text in _EXPLAINED:
        if m := re.fullmatch(pattern, metric):
            return text.format(*m.groups())
    return ""


def metric_rows(metrics: dict[str, Any], paper: dict[str, float], *, of_paper: bool = True) -> list[dict[str, Any]]:
    """All metrics of metrics.json (`{name: {value, low, high, n}}`) as rows of a table, in stored order.

    `of_paper`: the run is one of the paper's experiments, so that its names mean something to the reader.
    """
    names = PAPER_NAMES if of_paper or paper else {}
    rows = []
    for name, m in metrics.items():
        if not isinstance(m, dict):
            continue
        bounded = name not in _UNBOUNDED
        row = {"name": name, "explained": explain(name), "paper": paper.get(name), "bounded": bounded}
        row |= {k: m.get(k) for k in ("value", "low", "high", "n")}
        row["paper_name"] = names.get(name)
        rows.append(row)
    return rows


def headline(rows: list[dict[str, Any]], most: int = 6) -> list[dict[str, Any]]:
    """The few metrics worth a large figure: those the paper reports first, then the usual ones, then any."""
    known = {r["name"]: r for r in rows if r["value"] is not None}
    order = [n for n in known if known[n]["paper"] is not None]
    order += [n for n in _HEADLINE if n in known and n not in order]
    order += [n for n in known if n not in order and len(order) < min(most, 3)]
    return [known[n] for n in order[:most]]


def ledger(run: RunRecord, counts: dict[str, int], examples: dict[str, str]) -> dict[str, Any]:
    """Rows by status, and whether they add up.

    Args:
        run: run.json; `rows` says how many the manifest had.
        counts: stored rows per status.
        examples: status -> one error text.
    """
    total = sum(counts.values())
    expected = run.rows.manifest
    statuses = sorted(counts, key=lambda s: (s != "ok", -counts[s], s))
    return {
        "total": total,
        "ok": counts.get("ok", 0),
        "failed": total - counts.get("ok", 0),
        "expected": expected,
        "rejected": run.rows.rejected or 0,
        "adds_up": expected is None or expected == total,
        "rows": [
            {"status": s, "rows": counts[s], "meaning": ADVICE.get(s, ("",))[0], "example": examples.get(s, "")}
            for s in statuses
        ],
    }


def facts(run: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what was run, as groups of (label, value); nothing is shown for what is not recorded."""
    data: list[tuple[str, Any]] = [
        ("manifest", _joined(run.setting("manifest", "path"))),
        ("format", run.setting("manifest", "format")),
        ("command", " ".join(run.command)),
        ("fingerprint", _short(run.fingerprint)),
        ("different addresses", run.duplicates.addresses),
        ("of these, on more rows than a shard holds", run.duplicates.frequent or None),
    ]
    cropped = [(column, _joined(methods)) for column, methods in run.crops.items()]
    delta = [
        *run.delta.as_json().items(),
        *((f"rows reused: {how}", n) for how, n in run.reused.items() if how != "no"),
    ]
    when = [("started", run.started_at), ("finished", run.finished_at), ("attempt", run.attempt or None)]
    where = [(k, _joined(v)) for k, v in run.host.as_json().items()]
    groups: list[tuple[str, Sequence[tuple[str, Any]]]] = [("Data", data)]
    groups += [(_role(role), _model(model)) for role, model in run.models.items()]
    groups += [
        ("Cropped to the object (rows)", cropped),
        ("From the base run", [(k, _short(v) if k == "fingerprint" else v) for k, v in delta]),
        ("When", when),
        ("Where", where),
        ("Versions", list(run.versions.items())),
    ]
    shown = [(title, [(k.replace("_", " "), str(v)) for k, v in rows if v not in (None, "")]) for title, rows in groups]
    return [(title, rows) for title, rows in shown if rows]


def warnings(run: RunRecord, about: dict[str, Any]) -> list[str]:
    """Return what a reader must know first: texts that mean nothing, rows without one, too many failures."""
    found = [run.texts.warning, about.get("not_computed")]
    without = about.get("rows_without_text")
    if without and not about.get("not_computed") and "recall" in (run.models or ("recall",)):
        found.append(f"{count(without)} ok rows have no text: they have no recall_score and are no query")
    return [text for text in found if text]


def source(run: RunRecord) -> str:
    """The manifest's path; "a manifest" when it is not recorded."""
    return _joined(run.setting("manifest", "path")) or "a manifest"


def model_names(run: RunRecord) -> str:
    """The models in words: `a` or `a and b`; "" when none is recorded."""
    return " and ".join(model.name for model in run.models.values() if model.name)


def _role(role: str) -> str:
    encoder = role.removeprefix("encoders.")
    return f"{role.capitalize()} model" if encoder == role else f"Encoder {encoder}"


def _model(model: ModelFacts) -> list[tuple[str, Any]]:
    shown = {k: v for k, v in model.as_json().items() if not isinstance(v, dict | list)}
    return [(k, _short(v) if k.endswith("fingerprint") else v) for k, v in shown.items()]


def _short(digest: object) -> str | None:
    text = str(digest or "")
    return None if not text else text if len(text) <= 20 else f"{text[:16]}…"


def _joined(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def throughput(run: RunRecord, bins: int = 60) -> Figure | None:
    """Rows per second over time from the timeline of run.json; None when there are fewer than three points.

    Rows are committed a shard at a time, so the rate is taken over bins of equal time, each at least
    as long as the mean gap between two commits.
    """
    line = [p for p in run.timeline if len(p) >= 2]
    if len(line) < 3 or line[-1][0] <= line[0][0]:
        return None
    bins = max(2, min(bins, len(line) // 2))
    start, step = line[0][0], (line[-1][0] - line[0][0]) / bins
    done = [_interpolate(line, start + i * step) for i in range(bins + 1)]
    points = [[round(start + (i + 0.5) * step, 3), (done[i + 1] - done[i]) / step] for i in range(bins)]
    return Figure(
        "throughput", "Throughput", "rows finished per second, over the run", "line", "seconds since the start",
        "rows per second", [Series("rows/s", points, area=True)], x_min=0,
    )  # fmt: skip


def _interpolate(line: Sequence[Sequence[float]], t: float) -> float:
    for (t0, n0, *_), (t1, n1, *_) in itertools.pairwise(line):
        if t <= t1:
            return n0 + (n1 - n0) * ((t - t0) / (t1 - t0) if t1 > t0 else 1.0)
    return line[-1][1]


def time_shares(run: RunRecord) -> list[dict[str, Any]]:
    """Say where the time went: the steps, longest first, with their share of the longest."""
    spent = {step: seconds for step, seconds in run.timings.steps().items() if seconds > 0}
    longest = max(spent.values(), default=0.0)
    total = sum(spent.values())
    return [
        {"name": k.replace("_", " "), "time": duration(v), "width": 100 * v / longest, "share": 100 * v / total}
        for k, v in sorted(spent.items(), key=lambda kv: -kv[1])
    ]


def speed(run: RunRecord, total: int, price_per_hour: float | None) -> list[tuple[str, str, str]]:
    """(label, value, note) of wall time, steady rate and what a million images cost at a price per hour.

    Start-up is no part of a rate, and a rate of a few seconds no prediction: then the wall time stands alone.
    """
    found = run_speed(run.timings)
    rate = found.images_per_s
    cards = []
    if found.wall_s:
        cards.append(_wall(run, total, found))
    if rate:
        steady = f"images per second, over {duration(found.steady_s)} of steady work"
        cards.append(("Rate", f"{rate:,.1f}" if rate < 1000 else count(rate), steady))
    if rate and found.predicts:
        cards.append(("A million images", duration(1e6 / rate), "at this rate, start-up left out"))
        if price_per_hour is not None:
            cost = price_per_hour * 1e6 / rate / 3600
            cards.append(("Cost of a million", f"{cost:,.2f}", f"at {price_per_hour:g} per hour"))
    return cards


def _wall(run: RunRecord, total: int, found: Speed) -> tuple[str, str, str]:
    """The wall time of all attempts at scoring that are known, and how many rows it is the time of."""
    wall_s, rows, attempts = scoring_work(run.work) or (found.wall_s, found.rows, 1)
    own = count(total) if rows is None or rows >= total else f"{count(rows)} of {count(total)}"
    note = f"{own} rows" + (f" in {attempts} attempts" if attempts > 1 else "")
    if rows is not None and rows < total:
        note += "; the time of the others is not known"
    elif attempts == 1 and found.startup_s is not None:
        note += f", {duration(found.startup_s)} of it start-up"
    return "Wall time", duration(wall_s), note
