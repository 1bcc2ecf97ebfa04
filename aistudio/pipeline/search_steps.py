"""The steps of a search: what queries ask with -> vectors -> lists -> tables and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aistudio.errors import ConfigError
from aistudio.pipeline.mapping import encoder_for
from aistudio.pipeline.search_tables import LEFT_OUT_SCHEMA, Tables
from aistudio.runs import layout
from aistudio.runs.mapper import Mapper
from aistudio.schema import Status
from aistudio.scoring.query_vectors import QueryVectors
from aistudio.scoring.run_models import pin_run_model
from aistudio.search.filtered import joined, rows_filtered_out
from aistudio.search.gallery import unit_rows
from aistudio.search.item_vectors import item_gallery
from aistudio.search.judging import Judged, judge, protocol_prefix, reference_metrics
from aistudio.search.listing import Asking, Lists, Naming, Rules, best_lists
from aistudio.search.lookup import rows_at
from aistudio.search.resolving import DUPLICATE, FACTS, Asked, make_asking, naming, resolve_stored, set_filters
from aistudio.search.scanning import Filter
from aistudio.search.searched import Searchable, Searched, where_of
from aistudio.search.stored import find_rows, stored_vectors

if TYPE_CHECKING:
    from aistudio.pipeline.search import SearchPlan


class Steps:
    """One search in the making."""

    def __init__(self, plan: SearchPlan, asked: list[Asked], mapper: Mapper) -> None:
        self.plan, self.asked, self.mapper = plan, asked, mapper
        self.settings = plan.config.search
        self.notes: list[str] = list(plan.table.notes)

    @staticmethod
    def source_columns(plan: SearchPlan) -> list[str]:
        """Columns of the asking run that a search needs of its rows, as far as it has them."""
        has = plan.source.store.read_metadata(plan.source.files[0][1])[0].names
        filters = [column for pair in plan.config.search.filter_columns for column in pair if column in has]
        return list(dict.fromkeys([*FACTS, *filters]))

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Search, write, and return about.json and metrics.json."""
        plan, settings = self.plan, self.settings
        extra = [c for c in self.source_columns(plan) if c not in FACTS]
        if not plan.every_item:
            resolve_stored(self.asked, plan.source, extra, self.mapper)
            self._encode()
        chosen = set_filters(self.asked, settings.filter_columns, settings.filter_separator)
        self.live = [one for one in self.asked if one.ok]
        wanted = self._wanted()
        mean = settings.item_score == "mean"
        gallery = self._gallery(mean)
        asking = make_asking(self.live, plan.source, plan.leave_out, wanted, chosen, mean, self.mapper)
        if mean:
            asking = self._copies_by_item(asking)
        rules = Rules(
            plan.depth, f"{plan.per}_id", tuple(settings.diversify.items()), settings.duplicate_cosine,
            settings.explain, settings.block_rows,
        )  # fmt: skip
        found = joined(list(best_lists(gallery, asking, rules, self.mapper))) if self.live else joined([])
        left_out = self._left_out(found, asking, rules, mean, chosen)
        return self._write(found, left_out)

    def _encode(self) -> None:
        """Give texts, fresh pictures, and pictures with texts their vectors."""
        texts = [one for one in self.asked if one.ok and one.kind == "text"]
        fresh = [one for one in self.asked if one.ok and one.query.image_url and not one.query.row_id]
        composed = [one for one in self.asked if one.ok and one.kind == "picture and text"]
        if not (texts or fresh or composed):
            return
        num_pictures = len({one.query.image_url for one in fresh})
        pinned = pin_run_model(self.plan.model, self.plan.config, self.plan.store.root)
        with encoder_for(self.plan.config, pinned, len(texts) + len(composed), num_pictures) as encoder:
            if texts:
                encoded = encoder.texts([one.query.text or "" for one in texts])
                self._give(texts, encoded.vectors_ND, encoded.problems)
            raw = self._fresh(encoder, fresh)
            self._compose(encoder, [one for one in composed if one.ok], raw)

    def _compose(self, encoder: QueryVectors, composed: list[Asked], raw: dict[int, Any]) -> None:
        """Compose pictures and texts; `raw` has the vectors of fresh pictures, the others' are stored."""
        if not composed:
            return
        stored = [one for one in composed if id(one) not in raw]
        ids = np.array([one.ids[0] for one in stored], np.int64)
        source = self.plan.source
        rows = stored_vectors(source.store, source.files, ids, source.vectors, self.mapper, raw=True)
        raw = raw | {id(one): row for one, row in zip(stored, rows, strict=True)}
        vectors = np.stack([raw[id(one)] for one in composed])
        made = encoder.compose(vectors, [one.query.text or "" for one in composed])
        self._give(composed, made.vectors_ND, made.problems)

    def _fresh(self, encoder: QueryVectors, fresh: list[Asked]) -> dict[int, Any]:
        """Fetch each distinct address once; returns the vectors as the model gave them, by query."""
        by_url: dict[str, list[Asked]] = {}
        for one in fresh:
            by_url.setdefault(one.query.image_url or "", []).append(one)
        requests = [(url, None) for url in by_url]
        raw: dict[int, Any] = {}
        for image in encoder.images(requests, self.settings.batch_size):
            for one in by_url[requests[image.row.number][0]]:
                if image.vector_D is None:
                    one.fail(image.row.status.value, image.row.error or image.row.status.value)
                    continue
                one.thumbnail = image.row.thumbnail
                one.hashes = [image.row.content_hash] if image.row.content_hash else []
                one.item_ids = [one.query.item_id] if one.query.item_id else []
                raw[id(one)] = image.vector_D
                if one.kind == "picture":
                    one.vector_D = unit_rows(image.vector_D[None])[0]
        return raw

    def _give(self, asked: list[Asked], vectors: Any, problems: list[str | None]) -> None:
        units = unit_rows(np.where(np.isfinite(vectors), vectors, 0).astype(np.float32))
        for one, vector, problem in zip(asked, units, problems, strict=True):
            if problem is None:
                one.vector_D = vector
            else:
                one.fail(Status.MODEL_ERROR.value, problem)

    def _gallery(self, mean: bool, *, filters: bool = True) -> Searchable:
        plan = self.plan
        gallery = Searched(plan.store, plan.files, plan.gallery, where_of(self.settings.where) if filters else ())
        if not mean:
            return gallery
        own = [ours for _, ours in self.settings.filter_columns]
        return item_gallery(gallery, [*FACTS, *own, *self.settings.diversify], self.settings.block_rows)

    def _copies_by_item(self, asking: Asking) -> Asking:
        """Where items are searched, an item with a copy of the query's picture is a copy."""
        places = [i for i, one in enumerate(asking.leave_out) if one.reason == DUPLICATE]
        if not places or not asking.leave_out[places[0]].names:
            return asking
        copies = asking.leave_out[places[0]]
        rows = find_rows(self.plan.store, self.plan.files, {"content_hash": copies.names}, FACTS, self.mapper)
        items: dict[str, list[str]] = {}
        for digest, item in zip(rows.texts["content_hash"], rows.texts["item_id"], strict=True):
            items.setdefault(digest or "", []).append(item or "")
        names = [[i for digest in one.hashes for i in dict.fromkeys(items.get(digest, []))] for one in self.live]
        leave_out = list(asking.leave_out)
        leave_out[places[0]] = naming(DUPLICATE, "item_id", names)
        return Asking(asking.query_S, asking.vectors, tuple(leave_out), asking.wanted, asking.filter, asking.code_Q)

    def _wanted(self) -> tuple[Naming, ...]:
        """The relevant rows, by row id or item id, as the table means them."""
        names = sorted({name for one in self.live for name in one.query.relevant or ()})
        if not names:
            return ()
        by = self.settings.relevant_by if not self.plan.table.dataset else "row_id"
        plan, known = self.plan, set(names)
        rows = find_rows(
            plan.store, plan.files, {"row_id": names, "item_id": names}, ["row_id", "item_id"], self.mapper
        )
        pairs = list(zip(rows.texts["row_id"], rows.texts["item_id"], strict=True))
        as_rows = {row for row, _ in pairs if row in known}
        as_items = {item for row, item in pairs if item in known and item != row}
        if by == "auto":
            if as_rows and as_items:
                raise ConfigError(
                    f"relevant: some names are row ids ({min(map(str, as_rows))}) and some are item ids "
                    f"({min(map(str, as_items))}): say which with --set search.relevant_by=row_id (or item_id)"
                )
            by = "item_id" if as_items else "row_id"
        there = as_rows if by == "row_id" else {item for _, item in pairs}
        if lost := len(known - there):
            self.notes.append(f"{lost:,} of {len(known):,} relevant ids are not in the run, by {by}")
        return (naming("relevant", by, [one.query.relevant or () for one in self.live]),)

    def _left_out(
        self, found: Lists, asking: Asking, rules: Rules, mean: bool, chosen: Filter | None
    ) -> list[tuple[int, int, str]]:
        out = list(found.left_out)
        if self.settings.explain and self.live and (chosen is not None or self.settings.where):
            loose = self._gallery(mean, filters=False)
            out += rows_filtered_out(loose, asking, found, rules, self.settings, self.mapper)
        return sorted(out)

    def _write(self, found: Lists, left_out: list[tuple[int, int, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
        plan, store = self.plan, self.plan.store
        for entry in store.list(layout.search_key(plan.name, "")):
            store.delete(entry.key)
        ids = np.unique(
            np.concatenate([found.id_R, found.relevant[1], np.array([i for _, i, _ in left_out], np.int64)])
        )
        has = store.read_metadata(plan.files[0][1])[0].names
        caption = next((c for c in ("caption", "text") if c in has), "text")
        rows = rows_at(store, plan.files, ids, ["row_id", "item_id", caption], self.mapper)
        names = {c: rows[c].to_pylist() for c in ("row_id", "item_id", caption)}
        at = {row_id: i for i, row_id in enumerate(ids.tolist())}
        judged, metrics = self._judge(found, names, at, caption)
        tables = Tables(plan, self.asked, self.live, self.right)
        results = tables.results(found, names, at)
        store.write_table(layout.search_key(plan.name, "results.parquet"), results)
        reasons = [r if r != DUPLICATE else f"duplicate_of:{self.live[q].query.query_id}" for q, _, r in left_out]
        columns = [
            [self.live[q].query.query_id for q, _, _ in left_out],
            *([names[c][at[i]] for _, i, _ in left_out] for c in ("item_id", "row_id")), reasons,
        ]  # fmt: skip
        table = pa.table(dict(zip(LEFT_OUT_SCHEMA.names, columns, strict=True)), schema=LEFT_OUT_SCHEMA)
        store.write_table(layout.search_key(plan.name, "left_out.parquet"), table)
        store.write_table(layout.search_key(plan.name, "queries.parquet"), tables.queries(results, judged))
        if metrics:
            store.write_json(layout.search_key(plan.name, "metrics.json"), metrics)
        about = tables.about(found, results, left_out, self.notes)
        store.write_json(layout.search_key(plan.name, "about.json"), about)
        return about, metrics

    def _judge(
        self, found: Lists, names: dict[str, list[Any]], at: dict[int, int], caption: str
    ) -> tuple[Judged | None, dict[str, Any]]:
        plan, dataset = self.plan, self.plan.table.dataset
        counted = np.array([one.query.relevant is not None for one in self.live], bool)
        self.right: set[tuple[int, str]] = set()
        if not counted.any():
            return None, {}
        key = names[f"{plan.per}_id"]
        wanted = [key[at[i]] for i in found.relevant[1].tolist()]
        self.right = set(zip(found.relevant[0].tolist(), wanted, strict=True))
        results = (found.query_R, found.rank_R, [key[at[i]] for i in found.id_R.tolist()])
        prefix = protocol_prefix(self.settings, plan.per, plan.leave_out, dataset)
        ks = [k for k in plan.ks if k <= plan.depth]
        judged = judge(results, (found.relevant[0], wanted), counted, ks, plan.config.metrics, prefix)
        metrics = dict(judged.metrics)
        if without := int((counted & (judged.num_relevant_Q == 0)).sum()):
            self.notes.append(f"{without:,} queries have nothing relevant in their gallery and are not judged")
        if not (counted & (judged.num_relevant_Q > 0)).any():
            return judged, {}
        published = {"fashioniq": []}.get(dataset or "", ["row"])
        plain = not (self.settings.filter or self.settings.where or self.settings.diversify) and plan.per == "row"
        if dataset is not None and plain and plan.leave_out == published and self.settings.duplicate_cosine is None:
            metrics |= self._reference(dataset, found, names, at, caption, ks)
        return judged, metrics

    def _reference(
        self, dataset: str, found: Lists, names: dict[str, list[Any]], at: dict[int, int], caption: str, ks: list[int]
    ) -> dict[str, Any]:
        target = "relevant" if dataset == "fashioniq" else "target_caption"
        asked = [
            (one.query.relevant or [None])[0] if target == "relevant" else one.query.values.get(target)
            for one in self.live
        ]
        used = [q for q, value in enumerate(asked) if value is not None]
        ranked = np.full((len(self.live), self.plan.depth), -1, np.int64)
        ranked[found.query_R, found.rank_R - 1] = [at[i] for i in found.id_R.tolist()]
        gallery = {"caption": [c or "" for c in names[caption]], "row_id": names["row_id"]}
        queries = {
            "target": [str(asked[q]) for q in used],
            "category": [self.live[q].query.values.get("category") or "" for q in used],
        }
        return reference_metrics(dataset, ranked[used], gallery, queries, ks, self.settings.text)
