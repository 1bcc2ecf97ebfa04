"""Questions of a survey from stored searches: what each of them recommends for the same query, with stored pictures.

A system is a search; its name is stored with every answer. Leaves out: the questionnaire (reports/questionnaire.py).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from aistudio.errors import ConfigError
from aistudio.pipeline.report_rows import batches, fetch, scan_scores
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.search.searched import text_of
from aistudio.store import Store, open_store
from aistudio.values import table_rows

RANDOM = "random"  # the system whose lists are drawn: who does not prefer others to it is inattentive
SPARE = 2  # times as many questions are looked at as are wanted: some lack a picture
_COLUMNS = ["query_id", "kind", "status", "item_id", "row_id"]


@dataclass(frozen=True)
class Wanted:
    """What to ask. `top`: length of a list; `groups`: query -> group, None for every query; `group_by`: a column."""

    searches: Sequence[str] = ()  # names; none: all
    top: int = 5
    count: int = 30
    groups: Mapping[str, str] | None = None
    group_by: str | None = None
    with_random: bool = False
    seed: int = 0


@dataclass
class System:
    """A search of a run: its queries by id, and its lists of row ids."""

    name: str
    store: Store
    source: Store
    search: str
    queries: dict[str, dict[str, Any]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedQuestion:
    """A question with JPEG files: its own picture, and each system's, best first."""

    id: str
    group: str
    query: bytes
    lists: dict[str, list[bytes]]


def survey_questions(stores: Sequence[Store], wanted: Wanted) -> tuple[list[AskedQuestion], list[str]]:
    """Draw questions that every system answers, in an order that the seed decides.

    Returns:
        At most `count` questions, and why others were left out.

    Raises:
        ConfigError: no such search, fewer than two systems, or no query that all of them answer.
        StoreError: a run cannot be read.
    """
    systems = _systems(stores, wanted)
    reasons: list[str] = []
    ids = _answered(systems, wanted, reasons)
    rng = random.Random(wanted.seed)
    ids = rng.sample(sorted(ids), len(ids))[: wanted.count * SPARE]
    drawn = _drawn(systems[0], ids, wanted, rng) if wanted.with_random else {}
    pictures = _Pictures()
    for system in systems:
        queries = {q["row_id"] for i in ids if (q := system.queries[i])["row_id"] and system is systems[0]}
        pictures.read(system.source, queries)
        pictures.read(system.store, {row for i in ids for row in system.lists[i]})
    pictures.read(systems[0].store, {row for rows in drawn.values() for row in rows})
    questions: list[AskedQuestion] = []
    for i in ids:
        if len(questions) < wanted.count:
            made = _question(i, systems, drawn, pictures, wanted)
            if isinstance(made, str):
                reasons.append(f"query {i[:60]}: {made}")
            else:
                questions.append(made)
    if not questions:
        raise ConfigError(f"no question whose pictures are stored; {'; '.join(reasons[:3])}")
    return questions, reasons


def _systems(stores: Sequence[Store], wanted: Wanted) -> list[System]:
    found: list[System] = []
    for store in stores:
        known = {e.key.split("/")[1] for e in store.list(layout.SEARCHES) if e.key.count("/") == 2}
        names = sorted(n for n in known if store.exists(layout.search_key(n, "about.json")))
        if not names:
            raise ConfigError(
                f"{store.root}: no searches there; first: search --run {store.root} --like items --name N"
            )
        chosen = [n for n in names if n in wanted.searches] if wanted.searches else _by_items(store, names)
        found += [_system(store, name, wanted.top) for name in chosen]
    if missing := set(wanted.searches) - {s.search for s in found}:
        raise ConfigError(f"--searches: none of the runs has a search {sorted(missing)[0]}")
    twice = [s.search for s in found]
    for system in found:
        if twice.count(system.search) > 1:
            system.name = f"{system.store.root.rstrip('/').rpartition('/')[2]}/{system.search}"
    if len({s.name for s in found}) < len(found):
        raise ConfigError("--runs: two systems have one name: give the run folders different names")
    if len(found) + wanted.with_random < 2:
        raise ConfigError(f"a survey compares two systems or more; here is only {found[0].name}: --random adds one")
    return found


def _by_items(store: Store, names: Sequence[str]) -> list[str]:
    """Searches whose queries are the run's own items, or all of them where there is none."""
    kinds = {name: set(store.read_json(layout.search_key(name, "about.json")).get("kinds") or ()) for name in names}
    return [name for name in names if kinds[name] == {"item"}] or list(names)


def _system(store: Store, name: str, top: int) -> System:
    about = store.read_json(layout.search_key(name, "about.json"))
    root = about.get("asked_from") or store.root
    system = System(name, store, store if root == store.root else open_store(root, store.settings), name)
    for batch in batches(store, layout.search_key(name, "queries.parquet"), [*_COLUMNS, "thumbnail"]):
        ok = batch.filter(pc.equal(batch["status"], Status.OK.value))
        system.queries |= {row["query_id"]: row for row in table_rows(ok) if row["kind"] != "text"}
    for batch in batches(store, layout.search_key(name, "results.parquet"), ["query_id", "rank", "row_id"]):
        for row in batch.filter(pc.less_equal(batch["rank"], top)).to_pylist():
            system.lists.setdefault(row["query_id"], []).append(row["row_id"])
    return system


def _answered(systems: Sequence[System], wanted: Wanted, reasons: list[str]) -> list[str]:
    """Queries with a whole list from every system that do not all recommend the same."""
    ids = [i for i in systems[0].queries if all(i in s.queries for s in systems)]
    if wanted.groups is not None:
        asked = set(ids)
        lost = [i for i in wanted.groups if i not in asked]
        reasons += [f"query {i[:60]}: not every system was asked it" for i in lost]
        ids = [i for i in ids if i in wanted.groups]
    kept = [i for i in ids if all(len(s.lists.get(i, ())) == wanted.top for s in systems)]
    if short := len(ids) - len(kept):
        reasons.append(f"{short:,} queries: a list is shorter than {wanted.top} (search.top_n, --top)")
    same = {i for i in kept if not wanted.with_random and len({tuple(s.lists[i]) for s in systems}) == 1}
    if same:
        reasons.append(f"{len(same):,} of {len(kept):,} queries: all systems recommend the same; answers tell nothing")
    kept = [i for i in kept if i not in same]
    if not kept:
        names, why = ", ".join(s.name for s in systems), "; ".join(reasons[:3]) or "they share no query"
        raise ConfigError(f"no query that all of {names} answer (--searches chooses some): {why}")
    return kept


def _drawn(system: System, ids: Sequence[str], wanted: Wanted, rng: random.Random) -> dict[str, list[str]]:
    """Lists of the system `random`: rows of other items, drawn."""
    rows: list[tuple[str, str]] = []
    for key in layout.score_keys(system.store):
        table = system.store.read_table(key, ["row_id", "item_id", "status"], verify=True)
        ok = table.filter(pc.equal(table["status"], Status.OK.value))
        rows += list(zip(ok["row_id"].to_pylist(), ok["item_id"].to_pylist(), strict=True))
    found = {}
    for i in ids:
        own = system.queries[i]["item_id"]
        order = rng.sample(range(len(rows)), min(len(rows), wanted.top + 50))
        found[i] = [rows[n][0] for n in order if own is None or rows[n][1] != own][: wanted.top]
    return found


class _Pictures:
    """Stored thumbnails and fields by run and row."""

    def __init__(self) -> None:
        self.thumbnails: dict[tuple[str, str], bytes] = {}
        self.fields: dict[tuple[str, str], dict[str, Any]] = {}

    def read(self, store: Store, row_ids: set[str]) -> None:
        new = {i for i in row_ids if (store.root, i) not in self.fields}
        places = set(scan_scores(store, new).places.values()) if new else set()
        for _, fields, thumbnail in fetch(store, places):
            self.fields[store.root, fields["row_id"]] = fields
            if thumbnail:
                self.thumbnails[store.root, fields["row_id"]] = thumbnail

    def of(self, store: Store, row_id: str) -> bytes:
        """Raises KeyError where none is stored."""
        return self.thumbnails[store.root, row_id]


def _question(
    query_id: str, systems: Sequence[System], drawn: Mapping[str, list[str]], pictures: _Pictures, wanted: Wanted
) -> AskedQuestion | str:
    first = systems[0]
    query = first.queries[query_id]
    try:
        own = query["thumbnail"] or pictures.of(first.source, query["row_id"])
        lists = {s.name: [pictures.of(s.store, row) for row in s.lists[query_id]] for s in systems}
        if query_id in drawn:
            lists[RANDOM] = [pictures.of(first.store, row) for row in drawn[query_id]]
    except KeyError as e:
        return f"no picture is stored of {e.args[0][1]}"
    group = (wanted.groups or {}).get(query_id) or ""
    if not group and wanted.group_by:
        fields = pictures.fields.get((first.source.root, query["row_id"]), {})
        group = text_of(fields.get(wanted.group_by)) or ""
    return AskedQuestion(query_id, group or "all", own, lists)


def check_group(stores: Sequence[Store], column: str) -> None:
    """Raises ConfigError where a run has no such column."""
    for store in stores:
        keys = layout.score_keys(store)
        has = store.read_metadata(keys[0])[0].names if keys else []
        if column not in has:
            raise ConfigError(f"--group {column}: not a column of {store.root}: {', '.join(has)}")
