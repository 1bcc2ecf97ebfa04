"""The page of similar items: what was read (report_alike.py) -> pictures, cards, tables and figures of the report."""

from collections.abc import Callable
from typing import Any

from aistudio.config import MetricsSettings
from aistudio.evaluation.same_value import class_rows, confusion, curve_points, metric_rows
from aistudio.pipeline.report_alike import Alike, Lists, in_turn
from aistudio.pipeline.report_rows import Place, fetch, scan_scores
from aistudio.reports import alike as page
from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.figures import Figure
from aistudio.schema import CROP_PREFIX, crop_column
from aistudio.store import Store

FIRST = 10  # first results that the table of classes counts
CLASSES = 12  # of that table
Put = Callable[[str, bytes], None]


class Pictures:
    """Pictures on the page by run and row: path inside the report, stored fields, and crops by column."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._known: dict[tuple[str, str], tuple[str | None, dict[str, Any]]] = {}
        self._crops: dict[tuple[str, str], dict[str, str]] = {}

    def of(self, store: Store, row: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Path and fields; what is known of a row whose scores are gone."""
        known = {k: row.get(k) for k in ("row_id", "item_id", "image_url")}
        return self._known.get((store.root, str(row.get("row_id"))), (None, known))

    def crops(self, store: Store, row_id: str | None) -> dict[str, str]:
        """Paths of what was cut out of a row's picture, by column."""
        return self._crops.get((store.root, str(row_id)), {})

    def add(self, store: Store, path: str | None, fields: dict[str, Any], thumbnail: bytes | None) -> None:
        """Note a picture that is in the report."""
        self._known[store.root, fields["row_id"]] = path, fields
        self.add_crops(store, path, fields, thumbnail)

    def add_crops(self, store: Store, path: str | None, fields: dict[str, Any], thumbnail: bytes | None) -> None:
        """Cut out what models were shown and write it."""
        for column in (name for name in fields if name.startswith(CROP_PREFIX)):
            cut = page.crop_of(thumbnail, fields, column) if thumbnail and path else None
            if cut and path:
                name = f"{path.removesuffix('.jpg')}-{column}.jpg"
                self._put(name, cut)
                self._crops.setdefault((store.root, fields["row_id"]), {})[column] = name

    def read(self, store: Store, row_ids: set[str], folder: str) -> None:
        """Read pictures of another run and write them below a folder of thumbs/."""
        places = scan_scores(store, row_ids).places if row_ids else {}
        for number, (_, fields, thumbnail) in enumerate(fetch(store, set(places.values()))):
            path = f"thumbs/{folder}/{number:06d}.jpg" if thumbnail else None
            if path and thumbnail:
                self._put(path, thumbnail)
            self.add(store, path, fields, thumbnail)


def read_others(found: Alike, own: Store, pictures: Pictures) -> None:
    """Read the pictures of the other runs on the page."""
    others = [store for store in found.stores() if store.root != own.root]
    for number, store in enumerate(others):
        pictures.read(store, found.row_ids(store), f"beside-{number}")


def cards(found: Alike, pictures: Pictures, per_page: int) -> tuple[Deck, list[Card]]:
    """The cards of the queries that are shown, in the order of the page's first sorting."""
    judged = any(one.judged for one in found.lists)
    turns = {place: turn for turn, place in enumerate(in_turn(max(found.shown, default=-1) + 1))}
    made = [_card(found, pictures, place, query, turns[place]) for place, query in found.shown.items()]
    made.sort(key=lambda card: card.sort[0])
    classes = list(dict.fromkeys(card.facet for card in made if card.facet))
    names = [one.name for one in found.lists]
    deck = page.deck(sorted(classes)[: CLASSES * 20], names, found.total, per_page, judged=judged)
    return deck, made


def _card(found: Alike, pictures: Pictures, place: int, query: dict[str, Any], turn: int) -> Card:
    values: dict[str, str | None] = {}
    thumb, fields = pictures.of(query["source"], query)
    tiles = [Tile(thumb, "", "query", "", None, "query", fields)]
    crops = pictures.crops(query["source"], query.get("row_id"))
    for column in dict.fromkeys(crop_column(one.role) for one in found.lists):
        if column in crops:
            method = (fields.get(column) or {}).get("method")
            said = f"cut out for {column.removeprefix(CROP_PREFIX)}: {method}"
            tiles.append(Tile(crops[column], "", said, "", None, said, {**fields, column: None}))
    rows: list[tuple[str, list[Tile]]] = []
    for one in found.lists:
        labels = _labels(one, query["query_id"], found.columns)
        values = values or labels[0]
        rows.append((one.name, _tiles(one, query["query_id"], labels[1], found.columns, pictures)))
    return page.query_card(query | {"turn": turn}, place, tiles, rows, values)


def _labels(one: Lists, query_id: str, columns: list[str]) -> tuple[dict[str, str | None], list[bool | None]]:
    """The query's value of each column, and of each place whether the result has that of the first column."""
    at = one.place.get(query_id)
    if at is None or not one.judged:
        return {}, []
    values = {}
    for column in columns:
        lists = one.judged[column]
        label = int(lists.label_Q[at])
        values[column] = lists.names[label] if label >= 0 else None
    first = one.judged[columns[0]] if columns else None
    right = [] if first is None or first.label_Q[at] < 0 else first.right_QK[at].tolist()
    return values, right


def _tiles(one: Lists, query_id: str, right: list[bool | None], columns: list[str], pictures: Pictures) -> list[Tile]:
    tiles = []
    for row in one.results.get(query_id, []):
        thumb, fields = pictures.of(one.store, row)
        known = right[row["rank"] - 1] if row["rank"] <= len(right) else None
        tiles.append(page.result_tile(row | {"thumb": thumb, "fields": fields}, known, columns[0] if columns else ""))
    return tiles


def context(found: Alike, metrics: MetricsSettings) -> dict[str, Any]:
    """Return the template's values beside the cards: tables, figures, confusions, notes."""
    judged = [one for one in found.lists if one.judged]
    tables, figures, classes = [], list[Figure](), []
    for position, column in enumerate(found.columns):
        of = {one.name: one.judged[column] for one in judged}
        depth = max((one.depth for one in judged), default=0)
        ks = sorted({k for k in (*metrics.k, depth) if k <= depth})
        table = page.metric_table(
            column, position, {name: metric_rows(lists, ks, metrics) for name, lists in of.items()}
        )
        tables += [table] if table else []
        curves = {metric: {name: curve_points(lists, metric) for name, lists in of.items()}
                  for metric in ("hit_rate", "recall")}  # fmt: skip
        figures += page.curve_figures(column, position, curves)
        for one in judged:
            rows = class_rows(one.judged[column], min(FIRST, one.depth))
            if rows:
                classes.append({"column": column, "search": one.name, "rows": rows, "header": list(rows[0])})
    if found.values is not None:
        texts = {column: found.values.texts(column).to_pylist() for column in found.columns}
        figures += page.distribution_figures(texts, found.values.images_per_item.tolist())
    return {"tables": tables, "figures": figures, "classes": classes, "confusions": _confusions(found, judged),
            "notes": found.notes, "confidence": f"{100 * metrics.confidence:g}"}  # fmt: skip


def _confusions(found: Alike, judged: list[Lists]) -> list[dict[str, Any]]:
    out = []
    for one in judged if found.columns else []:
        column, k = found.columns[0], min(FIRST, one.depth)
        names, rows = confusion(one.judged[column], k, CLASSES)
        if rows:
            out.append({"column": column, "search": one.name, "k": k, "names": names, "rows": rows})
    return out


def query_places(found: Alike, own: Store, places: dict[str, Place]) -> set[Place]:
    """Where the queries of this run are stored: their crops are shown."""
    ids = [q["row_id"] for q in found.shown.values() if q["source"].root == own.root and q["row_id"]]
    return {places[i] for i in ids if i in places}
