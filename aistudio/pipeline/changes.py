"""What changed in the selection since another run -> a page with pictures, and the whole as a table.

Written into a folder of the later run, or another one; opens from disk. Needs no engine and no network.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from aistudio.config import ReportSettings
from aistudio.evaluation.compare import run_name
from aistudio.evaluation.image_changes import ItemChange
from aistudio.evaluation.selection_changes import Changes, selection_changes
from aistudio.pipeline.report_place import ReportPlace
from aistudio.pipeline.report_rows import fetch, scan_scores
from aistudio.reports import changes as page
from aistudio.reports.cards import deck_files
from aistudio.reports.page import Site, assets, render
from aistudio.reports.safe import csv_bytes
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.store import Store
from aistudio.values import column_values

_PAGE = "changes"
_ASSETS = ("app.css", "app.js", "theme.js", "notes.js", "lightbox.js", "cards.js")


class Written(NamedTuple):
    """What was found, and where it lies."""

    changes: Changes
    page: str  # path of its index.html
    tables: list[str]  # paths of the Parquet files
    is_local: bool


def write_changes(before: Store, now: Store, settings: ReportSettings, into: str | None = None) -> Written:
    """Compare the selections of two runs; write page and table.

    Args:
        into: folder or prefix for them; None: selection_changes/<name of the earlier run>/ in the later one.

    Raises:
        ConfigError: `into` holds something else.
        StoreError: a run has no selection, or a damaged one; the place cannot be written.
    """
    own = layout.selection_changes_folder(run_name(before).strip(".") or "run")
    place = ReportPlace(now, into, own)
    tables: list[str] = []

    def put(number: int, table: pa.Table) -> None:
        tables.append(f"changes/{number:05d}.parquet")
        place.put_table(tables[-1], table)
        columns = {name: column_values(table[name]) for name in table.column_names}
        place.put(f"changes_csv/{number:05d}.csv", csv_bytes(list(columns), list(zip(*columns.values(), strict=True))))

    try:
        found = selection_changes(before, now, settings.max_queries, put)
        html = _page(place, before, now, settings, found, len(tables))
        place.put(f"{_PAGE}.html", html)
        place.finish(html)
    finally:
        place.close()
    return Written(found, place.index, [place.path(t) for t in tables], place.store.is_local)


def _page(
    place: ReportPlace, before: Store, now: Store, settings: ReportSettings, found: Changes, num_tables: int
) -> bytes:
    pictures = _Pictures(place, {"before": before, "now": now}, found.shown, settings.images_per_query)
    most = settings.images_per_query
    cards = [page.item_card(item, order, most, pictures.of) for order, item in enumerate(found.shown)]
    for path, data in deck_files(page.deck(found.num_items["changed"], settings.queries_per_page), cards).items():
        place.put(path, data)
    for name, data in assets().items():
        if name in _ASSETS:
            place.put(f"assets/{name}", data)
    title = settings.title or now.root.rstrip("/").rpartition("/")[2]
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    reasons = page.reason_rows(found.reasons)
    main = sorted(reasons, key=lambda r: (r["side"] == page.SIDES["stays"], -r["images"]))[:3]
    return render(
        Site(title, now.root, recorded(now).state, at, (_PAGE,)), _PAGE, before=before.root, answer=found.answer,
        notes=found.notes, reasons=reasons, main=main, num_shown=len(cards),
        num_changed=found.num_items["changed"], csv_paths=[f"changes_csv/{i:05d}.csv" for i in range(num_tables)],
    )  # fmt: skip


class _Pictures:
    """Thumbnails and stored fields of the images on the page, of either run."""

    def __init__(self, place: ReportPlace, stores: dict[str, Store], items: list[ItemChange], most: int) -> None:
        self._found: dict[tuple[str, str], tuple[str | None, dict[str, Any]]] = {}
        for when, store in stores.items():
            wanted = {row_id for item in items for row_id in _row_ids(item, when, most)}
            places = set(scan_scores(store, wanted).places.values()) if wanted else set()
            for number, (_, fields, thumbnail) in enumerate(fetch(store, places)):
                path = f"thumbs/{when}/{number // 1000:03d}/{number % 1000:03d}.jpg" if thumbnail else None
                if path and thumbnail:
                    place.put(path, thumbnail)
                self._found[when, fields["row_id"]] = (path, fields)

    def of(self, when: str, row_id: str) -> tuple[str | None, dict[str, Any]]:
        return self._found.get((when, row_id), (None, {}))


def _row_ids(item: ItemChange, when: str, most: int) -> list[str]:
    """Rows that become a tile: what `item_card` shows, or a few more."""
    rows = [image.now if when == "now" else image.before for image in item.images]
    chosen = sorted((r for r in rows if r is not None and r.position is not None), key=lambda r: r.position or 0)
    return [r.row_id for r in chosen[:most]]
