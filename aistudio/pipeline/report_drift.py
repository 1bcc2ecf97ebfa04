"""The drift page of a report: this run against an earlier one, with pictures of new and gone items."""

from typing import Any

from aistudio.evaluation.drift import NOTICEABLE, SURE, drift, verdict
from aistudio.pipeline.report_place import ReportPlace
from aistudio.pipeline.report_rows import fetch, scan_scores
from aistudio.reports import drift as page
from aistudio.reports.figures import figure_files
from aistudio.store import Store


def write_drift(place: ReportPlace, earlier: Store, now: Store) -> dict[str, Any]:
    """Write the data and pictures of the page; returns what its template needs."""
    result = drift(earlier, now)
    shown = {"new": _with_pictures(place, now, result, "new"), "gone": _with_pictures(place, earlier, result, "gone")}
    figures = page.figures(result)
    for path, data in figure_files("drift", figures).items():
        place.put(path, data)
    place.put("data/drift-items.csv", page.items_csv(result))
    limits = {"noticeable": NOTICEABLE, "sure": f"{SURE:.0%}".replace("%", " %")}
    return {"result": result, "shown": shown, "figures": figures, **limits, **page.tables(result, verdict)}


def _with_pictures(place: ReportPlace, store: Store, result: dict[str, Any], change: str) -> list[dict[str, Any]]:
    items = result[change][: page.SHOWN]
    wanted = {item["row_id"] for item in items if item["row_id"]}
    found = scan_scores(store, wanted).places if wanted else {}
    names = {where: f"thumbs/drift/{change}-{i:02d}.jpg" for i, where in enumerate(found.values())}
    paths = {}
    for where, fields, thumbnail in fetch(store, set(found.values())):
        if thumbnail:
            place.put(names[where], thumbnail)
            paths[fields["row_id"]] = names[where]
    return [item | {"thumb": paths.get(item["row_id"])} for item in items]
