"""Stored rows and metrics -> `<run>/report/`, or another folder, that opens from disk.

Which pages there are depends on what the run folder holds. How they look is the reports room's business;
here the rows are streamed in and the files written out. Needs no engine and no network.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from aistudio._backends import Entry
from aistudio.config import MetricsSettings, ReportSettings
from aistudio.errors import StoreError
from aistudio.evaluation import place as aggregations
from aistudio.evaluation.definition import differences, of_about
from aistudio.pipeline import report_alike_page
from aistudio.pipeline.report_alike import Alike, choose_alike
from aistudio.pipeline.report_choice import Items, Pairs, Queries, choose_items, choose_pairs, choose_queries
from aistudio.pipeline.report_decoded import write_decoded
from aistudio.pipeline.report_drift import write_drift
from aistudio.pipeline.report_place import ReportPlace
from aistudio.pipeline.report_rows import Place, fetch, sample_vectors, scan_scores
from aistudio.pipeline.report_searches import Search, choose_searches
from aistudio.pipeline.report_similar import choose_similar, similar_files
from aistudio.reports import (
    compare,
    composed,
    curves,
    embedding_map,
    gallery,
    overview,
    pairs,
    searches,
    selection,
    slices,
)
from aistudio.reports.aggregations import aggregation_table, given_columns
from aistudio.reports.cards import Card, Deck, deck_files
from aistudio.reports.figures import figure_files
from aistudio.reports.notions import notion_files, notion_tables, split_rows
from aistudio.reports.page import PAGES, Site, assets, render
from aistudio.reports.safe import csv_bytes
from aistudio.reports.summary import markdown
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.schema import RESERVED_COLUMNS
from aistudio.store import Store

_REJECTS = 50
TSNE_IMAGES = 5_000  # its time grows a little faster than their number: 24 s of one core
_PAPER_FORMATS = ("poi_recall", "ranking_pairs")  # manifests of the paper's experiments


def write_report(store: Store, settings: ReportSettings) -> str:
    """Write the report of the run in `store` into its report/ and return the path of its index.html.

    Raises:
        StoreError: the folder holds no run, or cannot be read or written.
    """
    return write_report_to(ReportPlace(store), store, settings)


def write_report_to(
    place: ReportPlace, store: Store, settings: ReportSettings, against: Store | None = None, name: str | None = None,
    *, metrics: MetricsSettings | None = None, beside: Sequence[Store] = (),
) -> str:  # fmt: skip
    """Write the report of the run in `store` to a place of its own.

    Args:
        against: an earlier run, for the page of differences from it.
        name: the aggregation whose metrics, queries and pairs are shown; None: the run's first one.
        metrics: what makes a similar item right (`relevant_by`), and intervals; None: the defaults.
        beside: other runs, whose searches of similar items stand beside this run's.

    Raises:
        ConfigError: a run lacks a column of metrics.relevant_by.
        StoreError: as `write_report`, also of the other runs; the run has no aggregation of that name.
    """
    if not store.exists(layout.RUN):
        raise StoreError(f"{store.root}: no run.json here; a report needs a run folder made by `score`")
    for other in beside:
        if not other.exists(layout.RUN):
            raise StoreError(f"{other.root}: no run.json here; --beside takes run folders made by `score`")
    try:
        report = _Report(store, settings, place, against, aggregations.folder_of(store, name))
        report.alike = choose_alike(store, beside, settings, metrics or MetricsSettings())
        report.alike_metrics = metrics or MetricsSettings()
        report.write()
    finally:
        place.close()
    return place.index


class _Report:
    """One report in the making: what was read, what is to be fetched, what was written."""

    def __init__(
        self, store: Store, settings: ReportSettings, place: ReportPlace, against: Store | None, folder: str | None
    ) -> None:
        self.store, self.settings, self.place, self.against = store, settings, place, against
        self.folder = folder  # of the aggregation that is shown
        self.run = recorded(store)
        self.metrics = _json(store, self._metrics_key("metrics.json")) or {}
        self.fields: dict[Place, dict[str, Any]] = {}
        self.thumbs: dict[Place, str] = {}
        self.alike, self.alike_metrics = Alike(), MetricsSettings()
        self.pictures = report_alike_page.Pictures(self.put)
        self.cropped: set[Place] = set()  # pictures of which crops are shown

    def write(self) -> None:
        queries = choose_queries(self.store, self.settings, self.folder)
        pairs_shown = choose_pairs(self.store, self.settings, self.folder)
        items = choose_items(self.store, self.settings)
        self.compared = {e.key: self.store.read_json(e.key) for e in _comparisons(self.store)}
        found = choose_searches(self.store, self.settings)
        self.searches = {
            "searches": [s for s in found if not s.composed],
            "composed": [s for s in found if s.composed],
        }
        row_ids = pairs_shown.row_ids() | items.row_ids(self.settings.images_per_query)
        row_ids |= {r for data in self.compared.values() for r in compare.row_ids(data)}
        row_ids = row_ids.union(self.alike.row_ids(self.store), *(search.row_ids() for search in found))
        self.scan = scan_scores(self.store, row_ids)
        self.cropped = report_alike_page.query_places(self.alike, self.store, self.scan.places)
        self._fetch(queries.places() | {*self.scan.places.values()})
        self.pages = ["index"]
        self._cards("gallery", *self._gallery(queries))
        self._cards("pairs", *self._pair_cards(pairs_shown))
        self._cards("selection", *self._selection_cards(items))
        for page, of_page in self.searches.items():
            self._cards(page, *self._search_cards(page, of_page))
        self._cards("alike", *self._alike_cards())
        shown, on_map = self._map()
        self.decoded = write_decoded(self.store, self.run, self.scan, self.settings.decoded_pictures, self.put)
        self.pages += ["decoded"] if self.decoded else []
        self.similar = self._similar(on_map)
        self._render(shown)
        self.place.finish(self.index)

    def _metrics_key(self, file: str) -> str:
        return layout.metrics_key(file, self.folder)

    def put(self, path: str, data: bytes) -> None:
        self.place.put(path, data)

    def put_all(self, files: dict[str, bytes]) -> None:
        for path, data in files.items():
            self.put(path, data)

    def _fetch(self, places: set[Place]) -> None:
        numbers = {key: i for i, key in enumerate(self.scan.files)}
        for place, fields, thumbnail in fetch(self.store, places):
            self.fields[place] = fields
            if thumbnail:
                path = f"thumbs/{numbers.get(place[0], 99_999):05d}/{place[1]}.jpg"
                self.thumbs[place] = path
                self.put(path, thumbnail)
            if place in self.cropped:
                self.pictures.add_crops(self.store, self.thumbs.get(place), fields, thumbnail)

    # --- pages ---------------------------------------------------------------------------------------------

    def _picture(self, place: Place | None, row: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        known = {k: row.get(k) for k in ("row_id", "item_id", "image_url")}  # when its score row is gone
        return (None, known) if place is None else (self.thumbs.get(place), self.fields.get(place, known))

    def _gallery(self, queries: Queries) -> tuple[Deck, list[Card]]:
        cards = []
        for position, query in queries.shown.items():
            rows = []
            for row in queries.images.get(query["query_id"], []):
                thumb, fields = self._picture((row["file"], row["row_index"]), row)
                rows.append(row | {"thumb": thumb, "fields": fields})
            card = gallery.query_card(query, position, queries.quality, rows, self.settings.images_per_query)
            cards.append(card)
        return gallery.deck(queries.total, self.settings.queries_per_page, queries.quality), cards

    def _pair_cards(self, chosen: Pairs) -> tuple[Deck, list[Card]]:
        cards = []
        for position, row in enumerate(chosen.shown):
            for side in ("a", "b"):
                row_id = row.get(f"row_id_{side}")
                picture = self._picture(self.scan.places.get(row_id or ""), {"row_id": row_id})
                row[f"thumb_{side}"], row[f"fields_{side}"] = picture
            cards.append(pairs.pair_card(row, position))
        return pairs.deck(chosen.total, self.settings.queries_per_page), cards

    def _selection_cards(self, items: Items) -> tuple[Deck, list[Card]]:
        cards = []
        for position, (item_id, rows) in enumerate(items.shown.items()):
            for row in rows:
                row["thumb"], row["fields"] = self._picture(self.scan.places.get(row["row_id"]), row)
            cards.append(selection.item_card(item_id, rows, position, self.settings.images_per_query))
        return selection.deck(items.total, self.settings.queries_per_page), cards

    def _pictures(self, row_id: str) -> str | None:
        place = self.scan.places.get(row_id)
        return None if place is None else self.thumbs.get(place)

    def _search_cards(self, page: str, found: list[Search]) -> tuple[Deck, list[Card]]:
        cards = []
        for search in found:
            for position, query in search.shown.items():
                picture = self._query_picture(search, query, position)
                shown = search.results.get(query["query_id"], []), search.left_out.get(query["query_id"], [])
                for row in (*shown[0], *shown[1]):
                    row["thumb"], row["fields"] = self._picture(self.scan.places.get(row["row_id"]), row)
                cards.append(searches.query_card(search.name, query, position, picture, *shown))
        total = sum(search.total for search in found)
        return searches.deck([s.name for s in found], total, self.settings.queries_per_page, page), cards

    def _alike_cards(self) -> tuple[Deck, list[Card]]:
        for row_id in self.alike.row_ids(self.store):
            place = self.scan.places.get(row_id)
            if place in self.fields:
                self.pictures.add(self.store, self.thumbs.get(place), self.fields[place], None)
        report_alike_page.read_others(self.alike, self.store, self.pictures)
        return report_alike_page.cards(self.alike, self.pictures, self.settings.queries_per_page)

    def _alike(self) -> dict[str, Any]:
        """Return the part of the similar-items page before its cards; writes its figures and CSV files."""
        shown = report_alike_page.context(self.alike, self.alike_metrics)
        self.put_all(figure_files("alike", shown["figures"]))
        self.put_all({table["csv_path"]: table["csv"] for table in shown["tables"]})
        return shown

    def _composed(self) -> dict[str, Any]:
        """Return the part of the composed page before its cards; writes its curves and the table's CSV."""
        found = self.searches["composed"]
        figures = composed.figures({search.name: search.curve for search in found})
        changes = composed.table([row for search in found for row in search.changes])
        if figures:
            self.put_all(figure_files("composed", figures))
        if changes:
            self.put(changes["csv_path"], changes["csv"])
        return {"searches": [search.summary for search in found], "figures": figures, "changes": changes}

    def _query_picture(self, search: Search, query: dict[str, Any], position: int) -> dict[str, Any]:
        """The query's picture: a fresh one is stored with the query, others are rows of the run."""
        if thumbnail := query.pop("thumbnail", None):
            path = f"thumbs/search_{search.name}/{position}.jpg"
            self.put(path, thumbnail)
            return {"thumb": path, "fields": {}}
        place = self.scan.places.get(query["row_id"] or "") if search.own else None
        thumb, fields = self._picture(place, query)
        return {"thumb": thumb, "fields": fields if place else {}}

    def _cards(self, page: str, deck: Deck, cards: list[Card]) -> None:
        if cards:
            self.pages.append(page)
            self.put_all(deck_files(deck, cards))

    def _similar(self, on_map: list[str]) -> bool:
        """Write the stored neighbours of the pictures on cards and map; whether there are any."""
        on_cards = [fields["row_id"] for fields in self.fields.values()]
        found = choose_similar(self.store, [*on_cards, *on_map], self.settings.similar_pictures)
        if not found.of:
            return False
        self._fetch(found.places() - self.fields.keys())
        self.put_all(similar_files(found, self.thumbs, self.fields))
        return True

    def _map(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Write the map; returns what its page says and the row_ids of its pictures."""
        if not self.settings.map_images:
            return None, []
        layout = self.settings.map_layout
        most = self.settings.map_images if layout == "pca" else min(TSNE_IMAGES, self.settings.map_images)
        vectors, rows, thumbnails = sample_vectors(self.store, self.scan, most, self.settings.encoder)
        if len(rows) < 3:
            return None, []
        own = [n for n in rows[0] if n not in RESERVED_COLUMNS]
        known = [*own, "text", "item_id", "recall_score", "rank_score", "width", "height", "num_bytes"]
        total = self.scan.counts.get("ok", 0)
        files, shares = embedding_map.map_files(vectors, rows, thumbnails, known, total, layout)
        self.put_all(files)
        self.pages.append("map")
        facts = {"shown": len(rows), "total": total, "layout": layout, "variance": f"{100 * sum(shares):.0f} %"}
        return facts, [row["row_id"] for row in rows]

    def _put_metrics(
        self, site: Site, about: dict[str, Any], confidence: str, rows: list[dict[str, Any]], **parts: Any
    ) -> None:
        notes, shown = about.get("notes") or [], about.get("name")
        others = [n for n in aggregations.names(self.store) if n != shown]
        any_paper = any(r["paper"] is not None for r in rows)
        classes = _pylist(self.store, self._metrics_key("classes.parquet"))
        notions = notion_tables(self.metrics, classes, about)
        self.put_all(notion_files(self.metrics, classes, about))
        rows = split_rows(rows, about)
        given = given_columns(rows, _given(self.store, about))
        self.put("metrics.html", render(
            site, "metrics", rows=rows, confidence=confidence, any_paper=any_paper, **parts,
            notes=notes, shown=shown, others=others, aggregations=aggregation_table(_aggregations(self.store)),
            given=given, notions=notions,
        ))  # fmt: skip
        columns = ["name", "value", "low", "high", "n", "paper"]
        theirs = ([cell and cell["value"] for cell in r["given"]] for r in rows)
        lines = ([*(r[c] for c in columns), *cells] for r, cells in zip(rows, theirs, strict=True))
        self.put("data/metrics.csv", csv_bytes([*columns, *(g["name"] for g in given)], lines))

    def _render(self, map_facts: dict[str, Any] | None) -> None:
        run, settings, store = self.run, self.settings, self.store
        config, confidence_level = run.config, run.setting("metrics", "confidence")
        confidence = f"{100 * float(0.95 if confidence_level is None else confidence_level):g}"
        failures = self.scan.failures.groups()
        examples = {g["status"]: _example(g["samples"]) for g in failures}
        ledger = overview.ledger(run, dict(self.scan.counts), examples)
        of_paper = run.setting("manifest", "format") in _PAPER_FORMATS
        rows = overview.metric_rows(self.metrics, settings.paper, of_paper=of_paper)
        about = _json(store, self._metrics_key("about.json")) or {}
        figures = curves.figures(_json(store, self._metrics_key("curves.json")) or {})
        sliced = slices.slice_tables(_pylist(store, self._metrics_key("slices.parquet")))
        comparisons = [
            compare.comparison(key, data, self._pictures)
            for key, data in self.compared.items()
        ]  # fmt: skip
        rejects = self._rejects() if ledger["rejected"] else []
        present = {"metrics": rows, "failures": failures or rejects, "compare": comparisons}
        self.pages += [page for page, content in present.items() if content]
        self.pages += ["drift"] if self.against else []
        site = self._site()
        throughput = overview.throughput(run)
        speed = overview.speed(run, ledger["total"], settings.price_per_hour)
        front = [throughput] if throughput else []

        self.put_all(figure_files("index", front) | figure_files("metrics", figures))
        self.index = render(
            site, "index", ledger=ledger, headline=overview.headline(rows), confidence=confidence, figures=front,
            speed=speed, shares=overview.time_shares(run), facts=overview.facts(run), source=overview.source(run),
            models=overview.model_names(run), warnings=overview.warnings(run, about),
            config=yaml.safe_dump(config, allow_unicode=True) if config else "",
        )  # fmt: skip
        if rows:
            self._put_metrics(site, about, confidence, rows=rows, figures=figures, slices=sliced)
        for table in sliced:
            self.put(table["csv_path"], table["csv"])
        if "failures" in self.pages:
            self.put("failures.html", render(
                site, "failures", groups=failures, failed=ledger["failed"], total=ledger["total"], rejects=rejects,
                rejected=ledger["rejected"],
            ))  # fmt: skip
        if comparisons:
            self.put("compare.html", render(site, "compare", comparisons=comparisons))
            self.put_all({c["csv_path"]: c["csv"] for c in comparisons if c["csv_path"]})
        if self.against:
            self.put("drift.html", render(site, "drift", **write_drift(self.place, self.against, store)))
        self._put_decoded(site)
        if map_facts:
            self.put("map.html", render(site, "map", **map_facts))
        about_selection = _json(store, layout.SELECTION_ABOUT) or {}
        more: dict[str, dict[str, Any]] = {
            "selection": {k: about_selection.get(k) for k in ("ordered_by", "num_doubtful")},
            "searches": {"searches": [s.summary for s in self.searches["searches"]]},
            "composed": self._composed(),
        }
        if "alike" in self.pages:
            more["alike"] = self._alike()
        for page in ("gallery", "pairs", "selection", "searches", "composed", "alike"):
            if page in self.pages:
                self.put(f"{page}.html", render(site, page, **more.get(page, {})))
        self.put_all({f"assets/{name}": data for name, data in assets().items()})
        self.put("report.md", markdown(site, ledger, split_rows(rows, about) or rows, speed, failures))

    def _put_decoded(self, site: Site) -> None:
        if self.decoded:
            self.put_all(figure_files("decoded", self.decoded["figures"]))
            self.put("decoded.html", render(site, "decoded", **self.decoded))

    def _site(self) -> Site:
        title = self.settings.title or self.store.root.rstrip("/").rsplit("/", 1)[-1]
        at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        pages = tuple(p for p in PAGES if p in self.pages)
        return Site(title, self.store.root, self.run.state, at, pages, similar=self.similar)

    def _rejects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for entry in self.store.list(layout.REJECTED):
            if len(found) < _REJECTS and entry.key.endswith(".parquet"):
                found += self.store.read_table(entry.key).slice(0, _REJECTS - len(found)).to_pylist()
        return found


def _example(samples: list[dict[str, Any]]) -> str:
    """The first error with the address that it is about."""
    row = next((s for s in samples if s["error"]), None)
    return "" if row is None else f"{row['error']} ({row['image_url']})"


def _comparisons(store: Store) -> list[Entry]:
    """Comparisons of the first aggregation, then those of the others."""
    found = [e for e in store.list(layout.METRICS) if "/compare_" in e.key and e.key.endswith(".json")]
    return sorted(found, key=lambda e: (e.key.count("/"), e.key))


def _aggregations(store: Store) -> dict[str, dict[str, Any]]:
    """Read metrics.json of each aggregation that was not made for a comparison."""
    names = [name for name in aggregations.names(store) if name != aggregations.RECOMPUTED]
    # An older run has its first one in metrics/ itself.
    folders = {name: aggregations.folder_of(store, name) for name in names}
    return {name: _json(store, layout.metrics_key("metrics.json", folder)) or {} for name, folder in folders.items()}


def _given(store: Store, shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the aggregations of somebody else's scores, and whether each was computed from what `shown` was."""
    found = {}
    for name in aggregations.names(store):
        about = _json(store, layout.metrics_key("about.json", name)) or {}
        if "given" in about and name != shown.get("name"):
            alike = not differences(of_about(shown)[0], of_about(about)[0])
            metrics = _json(store, layout.metrics_key("metrics.json", name)) or {}
            found[name] = {"metrics": metrics, "alike": alike}
    return found


def _json(store: Store, key: str) -> Any:
    return store.read_json(key) if store.exists(key) else None


def _pylist(store: Store, key: str) -> list[dict[str, Any]]:
    return store.read_table(key).to_pylist() if store.exists(key) else []
