"""Is run B better than run A? Paired by query and by pair, from what `aggregate` stored of both.

Both runs answer the same questions, so differences are taken question by question: that takes out how hard each one
is. That needs the same gallery, judgements and items, so runs whose metrics were computed from something else are
refused (definition.py) or, with `recompute`, aggregated again over the images that are ok in both. Queries are paired
by query_id, pairs by pair_id; those that only one run has are counted and left out. Writes
metrics/[<name>/]compare_<name of A>.json into B:

    {"a", "b", "answer", "warnings", "queries": {"paired", "only_a", "only_b", "without_relevant"}, "pairs": {...},
     "metrics": {name: {"a", "b", "difference", "low", "high", "p_value", "p_holm", "wins", "ties", "losses", "n"}},
     "changed": [{"query_id", "text", "a", "b", "difference", "first_rank_a", "first_rank_b", "images_a", "images_b"}],
     "changed_metric": "map", "confidence", "samples", "definition"}

Metrics `<column>/<protocol>/<metric>` are paired within each notion and protocol that both have (`relevant_by`: their
counts), and each is a family of its own for Holm's correction. `difference` is B minus A; wins are the queries on which
B is better. `images_a`: the best images of the query in A, [{"row_id", "relevant"}]. Leaves out: the tests themselves
(metrics/significance.py).
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import MetricsSettings
from aistudio.errors import RunMismatchError, StoreError
from aistudio.evaluation.compare_notions import paired_notions
from aistudio.evaluation.definition import differences, of_about
from aistudio.evaluation.place import RECOMPUTED, folder_of
from aistudio.metrics.significance import bootstrap_means, holm, randomisation_test
from aistudio.runs import layout
from aistudio.runs.next_command import next_command
from aistudio.schema import Status
from aistudio.store import Store

PERMUTATIONS = 10_000
PERMUTED_VALUES = 100_000_000  # signs drawn per metric at most: fewer permutations for very many queries
MIN_PERMUTATIONS = 999
CHANGED = 50
CHANGED_IMAGES = 3  # of each run, per changed query
CHANGED_METRIC = "map"  # moves with every relevant image, not only with the first
MOST_LISTED = 20  # metrics in the answer
_FEW_UNITS = 30  # with fewer, only large differences stand out from chance
_NOT_METRICS = ("query_id", "item_id", "text", "image_url", "num_relevant", "first_rank")


def compare(
    a: Store, b: Store, settings: MetricsSettings, *, name: str | None = None, name_b: str | None = None,
    recompute: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Compare two aggregated runs and write the result into B.

    Args:
        a: the run to beat.
        b: the run in question.
        settings: bootstrap samples, confidence, seed, and the policy for queries without relevant images.
        name: of the aggregation in both runs; None: the first one of each.
        name_b: of that in B, where it is called otherwise; A and B may then be one run.
        recompute: aggregate both again as `settings` say, over the images that are ok in both.

    Returns:
        What the written file holds; see the module.

    Raises:
        RunMismatchError: the metrics of the two were computed from something else; names both.
        StoreError: a run has not been aggregated, or they share no query and no pair.
    """
    if recompute:
        name = _recompute(a, b, settings)
    names = (name, name_b or name)
    folders = (folder_of(a, names[0]), folder_of(b, names[1]))
    shown = [s.root if names[0] == names[1] else f"{s.root} ({n})" for s, n in zip((a, b), names, strict=True)]
    result: dict[str, Any] = {"a": shown[0], "b": shown[1], "answer": "", "warnings": [], "metrics": {}, "changed": []}
    queries = _joined(a, b, folders, "per_query", "query_id")
    if queries is None:
        missing = _missing(a, b, folders)
        first = next_command("aggregate", missing.root, missing.settings, *(("--name", name) if name else ()))
        raise StoreError(f"{missing.root} has no {layout.metrics_key('per_query.parquet', name)}; first: {first}")
    both, result["queries"] = queries
    result["definition"], result["warnings"] = _one_definition(a, b, folders)
    has = (both["num_relevant_a"] > 0) & (both["num_relevant_b"] > 0)
    result["queries"]["without_relevant"] = int((~has).sum())
    both = both if settings.no_relevant == "zero" else both[has]
    result["warnings"] += _text_warnings(both)
    values = {metric: (both[f"{metric}_a"], both[f"{metric}_b"]) for metric in _metrics(both)}
    result["changed_metric"], result["changed"] = CHANGED_METRIC, _changed(both)
    _add_images(result["changed"], a, b, folders)
    pairs = _joined(a, b, folders, "pairs", "pair_id")
    if pairs is not None:
        joined, result["pairs"] = pairs
        values["pairwise_accuracy"] = (joined["correct_a"].astype(float), joined["correct_b"].astype(float))
    notions, counts = paired_notions(a, b, folders, settings.no_relevant)
    families = [values, *notions.values()]
    if counts:
        result["relevant_by"] = counts
    if not any(len(v) for family in families for v, _ in family.values()):
        raise StoreError(f"{a.root} and {b.root} share no query with a relevant image and no pair: nothing to compare")
    for family in families:
        result["metrics"] |= _measure(family, settings)
    result |= {"confidence": settings.confidence, "samples": settings.bootstrap_samples}
    result["answer"] = answer(result["metrics"], settings.confidence)
    other = run_name(a) if names[0] == names[1] else f"{run_name(a)}_{names[0]}"
    b.write_json(layout.comparison_key(other, folders[1]), result)
    return result


def answer(metrics: dict[str, dict[str, Any]], confidence: float) -> str:
    """Say in a sentence which run is better, or that the difference may be chance."""
    usual = (*(m for m in (CHANGED_METRIC, "pairwise_accuracy") if m in metrics), *_first_notion(metrics))
    main = next(iter(usual), next(iter(metrics)))
    m = metrics[main]
    shown = f"{main} {m['a']:.4f} in A, {m['b']:.4f} in B, over {m['n']:,} {'pairs' if 'pair' in main else 'queries'}"
    sure = [n for n, x in metrics.items() if x["p_holm"] <= 1 - confidence and x["difference"]]
    up, down = ([n for n in sure if (metrics[n]["difference"] > 0) is better] for better in (True, False))
    if not sure:
        few = f"; {m['n']} are too few to tell a small difference" if m["n"] < _FEW_UNITS else ""
        same = all(not x["difference"] and not x["wins"] for x in metrics.values())
        return f"{'A and B do not differ' if same else 'The difference may be chance'}: {shown}{few}."
    if up and down:
        return f"B is better in {_listed(up)} and worse in {_listed(down)}: {shown}."
    word, which = ("better", up) if up else ("worse", down)
    return f"B is {word} than A in {len(which)} of {len(metrics)} metrics, in the others it may be chance: {shown}."


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _first_notion(metrics: dict[str, dict[str, Any]]) -> list[str]:
    return [m for m in metrics if m.endswith(f"/{CHANGED_METRIC}")][:1]


def _recompute(a: Store, b: Store, settings: MetricsSettings) -> str:
    """Aggregate both runs under the name RECOMPUTED, over the images that are ok in both."""
    first, second = _good_rows(a), _good_rows(b)
    for store, own, other in ((a, first, second), (b, second, first)):
        only = own.filter(pc.invert(pc.is_in(own["identity"], value_set=other["identity"].combine_chunks())))
        from aistudio.evaluation.aggregate import aggregate  # half of compare's start-up, and seldom wanted

        aggregate(store, settings, name=RECOMPUTED, left_out=only["row_id"].combine_chunks())
    return RECOMPUTED


def _good_rows(store: Store) -> pa.Table:
    """row_id of the ok rows, and their identity: row_id and address."""
    parts = []
    for key in layout.score_keys(store):
        table = store.read_table(key, ["row_id", "image_url", "status"])
        table = table.filter(pc.equal(table["status"], Status.OK.value))
        identity = pc.binary_join_element_wise(table["row_id"], table["image_url"], " ")
        parts.append(pa.table({"row_id": table["row_id"], "identity": identity}))
    if not parts:
        raise StoreError(f"{store.root}: no scores/*.parquet: not a run folder, or nothing has been scored yet")
    return pa.concat_tables(parts)


def _one_definition(a: Store, b: Store, folders: tuple[str | None, str | None]) -> tuple[dict[str, Any], list[str]]:
    """Check that both were computed from the same data; warn where that is not recorded. Raises RunMismatchError."""
    found = []
    warnings = []
    for which, store, folder in (("A", a, folders[0]), ("B", b, folders[1])):
        key = layout.metrics_key("about.json", folder)
        known, complete = of_about(store.read_json(key) if store.exists(key) else {})
        found.append(known)
        if not complete:
            warnings.append(
                f"{which} was aggregated by an older version, which did not record what its metrics were computed from "
                "(judgements, sample, gallery, items): whether both runs were asked the same is not checked. Run "
                f"`{next_command('aggregate', store.root, store.settings)}` again to be sure"
            )
    if different := differences(*found):
        lines = "\n  ".join(different)
        raise RunMismatchError(
            f"the metrics of A ({a.root}) and B ({b.root}) were computed from different things, so their difference "
            f"would say nothing of the models:\n  {lines}\n"
            "aggregate both alike, or let compare do it: --recompute computes both again with A's settings, over the "
            "images that are ok in both"
        )
    return found[1], warnings


def _text_warnings(both: pd.DataFrame) -> list[str]:
    if "text_a" not in both or "text_b" not in both:
        return []
    other = int((both["text_a"] != both["text_b"]).sum())
    if not other:
        return []
    return [f"{other:,} of {len(both):,} queries have another text in B: the difference is that of texts and models"]


def _add_images(changed: list[dict[str, Any]], a: Store, b: Store, folders: tuple[str | None, str | None]) -> None:
    """The best images of each changed query, as A and as B has them."""
    ids = pa.array([c["query_id"] for c in changed], pa.string())
    for side, store, folder in (("a", a, folders[0]), ("b", b, folders[1])):
        key = layout.metrics_key("top.parquet", folder)
        if not changed or not store.exists(key):
            continue
        table = store.read_table(key, ["query_id", "rank", "row_id", "relevant", "part"])
        wanted = pc.and_(pc.is_in(table["query_id"], value_set=ids), pc.equal(table["part"], "top"))
        of: dict[str, list[dict[str, Any]]] = {}
        for row in table.filter(pc.and_(wanted, pc.less_equal(table["rank"], CHANGED_IMAGES))).to_pylist():
            of.setdefault(row["query_id"], []).append({k: row[k] for k in ("row_id", "relevant")})
        for c in changed:
            c[f"images_{side}"] = of.get(c["query_id"], [])


def run_name(store: Store) -> str:
    """Last part of the run folder's path, safe in a file name."""
    name = store.root.rstrip("/").rpartition("/")[2]
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "run"


def _joined(
    a: Store, b: Store, folders: tuple[str | None, str | None], table: str, key: str
) -> tuple[pd.DataFrame, dict[str, int]] | None:
    """Rows of both runs, with `_a` and `_b` columns, and how many each has alone. None: a run lacks the table."""
    paths = [layout.metrics_key(f"{table}.parquet", folder) for folder in folders]
    places = list(zip((a, b), paths, strict=True))
    if not all(store.exists(path) for store, path in places):
        return None
    frames = [store.read_table(path, verify=True).to_pandas().set_index(key, drop=False) for store, path in places]
    both = frames[0].merge(frames[1], left_index=True, right_index=True, suffixes=("_a", "_b"))
    counts = {"paired": len(both), "only_a": len(frames[0]) - len(both), "only_b": len(frames[1]) - len(both)}
    return both.reset_index(drop=True), counts


def _missing(a: Store, b: Store, folders: tuple[str | None, str | None]) -> Store:
    places = zip((a, b), folders, strict=True)
    return next(s for s, folder in places if not s.exists(layout.metrics_key("per_query.parquet", folder)))


def _metrics(both: pd.DataFrame) -> list[str]:
    """Metrics that both runs have. cmc@K is hit_rate@K: counting it twice would only cost the others in Holm's test."""
    names = [str(c)[:-2] for c in both if str(c).endswith("_a")]
    return [n for n in names if n not in _NOT_METRICS and not n.startswith("cmc@") and f"{n}_b" in both]


def _measure(values: dict[str, tuple[pd.Series, pd.Series]], settings: MetricsSettings) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, (column_a, column_b) in values.items():
        first, second = column_a.to_numpy(float), column_b.to_numpy(float)
        difference = second - first
        if not len(difference):
            continue
        samples = min(PERMUTATIONS, max(MIN_PERMUTATIONS, PERMUTED_VALUES // len(difference)))
        how = (settings.bootstrap_samples, settings.confidence, settings.seed)
        interval = bootstrap_means(difference[:, None], *how)[0]
        found[name] = {
            "a": float(first.mean()), "b": float(second.mean()),
            "difference": interval.value, "low": interval.low, "high": interval.high,
            "p_value": randomisation_test(difference, samples, settings.seed),
            "wins": int((difference > 0).sum()), "ties": int((difference == 0).sum()),
            "losses": int((difference < 0).sum()), "n": len(difference),
        }  # fmt: skip
    for name, corrected in zip(found, holm([m["p_value"] for m in found.values()]), strict=True):
        found[name]["p_holm"] = float(corrected)
    return found


def _changed(both: pd.DataFrame) -> list[dict[str, Any]]:
    """The queries that changed most, the largest change first, gains and losses alike; unchanged ones never."""
    if f"{CHANGED_METRIC}_a" not in both or not len(both):
        return []
    difference = both[f"{CHANGED_METRIC}_b"] - both[f"{CHANGED_METRIC}_a"]
    order = np.argsort(-difference.abs().to_numpy(), kind="stable")[:CHANGED]
    return [
        {
            "query_id": row["query_id_a"],
            "text": row["text_a"],
            "a": float(row[f"{CHANGED_METRIC}_a"]),
            "b": float(row[f"{CHANGED_METRIC}_b"]),
            "difference": float(difference.iloc[i]),
            "first_rank_a": _rank(row["first_rank_a"]),
            "first_rank_b": _rank(row["first_rank_b"]),
        }
        for i, row in ((i, both.iloc[i]) for i in order)
        if difference.iloc[i] != 0
    ]


def _rank(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
