"""Metrics of similar images by several notions of similar at once: `<column>/<protocol>/<metric>` in metrics.json.

Beside the mean over queries (micro) with its interval stand the mean of class means (macro) with its own, and what a
random order would give of both. classes.parquet has every class with its interval and chance, relevant_by.parquet
every query. Leaves out: rankings (notion_ranks.py), values of columns (notions.py), formulas (metrics/).
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import ManifestError
from aistudio.evaluation.notion_ranks import ITEM_LEVEL, NEW_CLASSES, SPLIT, Answers, Question, answer, questions
from aistudio.evaluation.notions import NONE, LabelledRows, read_rows
from aistudio.evaluation.other import Other
from aistudio.evaluation.place import Place
from aistudio.evaluation.results import Results
from aistudio.metrics import significance
from aistudio.metrics.chance import chance_levels
from aistudio.metrics.protocols import classes, means
from aistudio.metrics.relevant import Floats, Ints
from aistudio.runs.mapper import Mapper
from aistudio.search.exact import Gallery
from aistudio.search.lookup import rows_at
from aistudio.search.whole import WholeGallery

PER_QUERY, CLASSES = "relevant_by.parquet", "classes.parquet"
MOST_CLASSES = 1_000  # with the most queries, in classes.parquet
CHANCE_WORK = 100_000_000  # rows times distinct numbers of relevant ones: beyond, chance levels are not computed
CLASS_SCHEMA = pa.schema(
    [
        ("relevant_by", pa.string()), ("protocol", pa.string()), ("value", pa.string()), ("metric", pa.string()),
        ("estimate", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("n", pa.int64()),
        ("chance", pa.float64()),
    ]
)  # fmt: skip


def add_notions(
    place: Place, gallery: Gallery, settings: MetricsSettings, mapper: Mapper, out: Results, other: Other | None = None
) -> None:
    """Compute and write what metrics.relevant_by asks for; nothing where texts ask or there are no vectors.

    Raises:
        ConfigError: a column that does not exist.
        ManifestError: metrics.no_relevant is `error` and a query has no relevant image.
        StoreError: a file is damaged.
    """
    if not settings.relevant_by or settings.query != "image" or _has_no_vectors(other, out):
        place.delete(PER_QUERY)
        place.delete(CLASSES)
        return
    rows = read_rows(gallery, settings)
    _say_ignored(rows, out)
    asked = questions(rows, settings)
    whole = WholeGallery(gallery, len(rows.id_N), rows.width, settings.block_rows)
    tables, class_rows, told, defined = [], [], {}, {}
    for question, found in zip(asked, answer(asked, rows, whole, settings.k, mapper), strict=True):
        measured = _Measured(question, found, settings)
        told[question.key] = measured.about()
        defined[question.key] = _definition(question, settings)
        measured.add_metrics(out)
        class_rows.append(measured.class_table(out))
        ids = rows_at(place.store, gallery.files, rows.id_N[question.asks_Q], ["row_id"], mapper)
        tables.append(measured.query_table(ids["row_id"]))
    out.about["relevant_by"] = told
    out.about["definition"]["relevant_by"] = defined
    place.write_table(PER_QUERY, pa.concat_tables(tables) if tables else pa.table({"query_id": pa.array([], "string")}))
    place.write_table(CLASSES, pa.concat_tables([CLASS_SCHEMA.empty_table(), *class_rows]))


def _has_no_vectors(other: Other | None, out: Results) -> bool:
    if other is None or not (other.find or other.nothing):
        return False
    out.notes.append("metrics.relevant_by is judged over whole rankings by vectors: not of lists or scores")
    return True


def _say_ignored(rows: LabelledRows, out: Results) -> None:
    for notion in rows.notions:
        if notion.column == "item_id":
            out.notes.append("relevant_by: item_id is what metrics without a prefix say")
            continue
        num = sum(notion.ignored.values())
        if num:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in notion.ignored.most_common())
            out.notes.append(
                f"relevant_by {notion.column}: {num:,} of {len(rows.id_N):,} images are ignored, neither right nor "
                f"wrong ({reasons})"
            )
        valued = notion.label_N != NONE
        pairs = np.unique(np.stack([rows.item_N[valued], notion.label_N[valued]]), axis=1)
        several = int((np.bincount(pairs[0]) > 1).sum())
        if several:
            out.notes.append(
                f"relevant_by {notion.column}: {several:,} items have images of several values; at item level the "
                "first counts"
            )


def _definition(question: Question, settings: MetricsSettings) -> str:
    """Return what a question's numbers depend on beside the gallery: equal texts, equal questions."""
    known: dict[str, dict[str, Any]] = {
        ITEM_LEVEL: {"item_queries": settings.item_queries},
        SPLIT: {"query_where": settings.query_where, "gallery_where": settings.gallery_where},
        NEW_CLASSES: {"new_classes": settings.new_classes.get(question.notion.column)},
    }
    parts = known.get(question.protocol, {})
    if len(question.asks_Q) < question.num_all:
        parts |= {"max_queries": settings.max_queries, "seed": settings.seed}
    return f"{question.notion.digest} {json.dumps(parts, sort_keys=True, ensure_ascii=False) if parts else ''}".strip()


class _Measured:
    """A question with its answers."""

    def __init__(self, question: Question, answers: Answers, settings: MetricsSettings) -> None:
        self.question, self.settings = question, settings
        self.how = (settings.bootstrap_samples, settings.confidence, settings.seed)
        self.relevant_Q: Ints = np.concatenate(answers.num_relevant)
        self.gallery_Q: Ints = np.concatenate(answers.num_gallery)
        self.first_Q: Floats = np.concatenate(answers.first)
        self.values = answers.joined(settings.k)
        self.used_Q: NDArray[np.bool_] = (self.relevant_Q > 0) | (settings.no_relevant == "zero")
        self.label_Q = question.wanted_Q[self.used_Q]
        self.chance = self._chance()
        without = int((self.relevant_Q == 0).sum())
        if settings.no_relevant == "error" and without:
            raise ManifestError(
                f"{question.key}: {without} of {len(self.relevant_Q)} queries have no ok relevant image in the "
                "gallery; metrics.no_relevant is error: skip or zero would go on"
            )

    def about(self) -> dict[str, Any]:
        """Counts for about.json."""
        question = self.question
        return {
            "column": question.notion.column, "protocol": question.protocol, "queries": len(self.relevant_Q),
            "queries_drawn_from": question.num_all, "queries_without_relevant": int((self.relevant_Q == 0).sum()),
            "classes": len(np.unique(self.label_Q)), "rows_ignored": dict(question.notion.ignored),
        }  # fmt: skip

    def _chance(self) -> dict[str, Floats] | None:
        """Return the chance level over the queries that count; None where that is too much work."""
        relevant, gallery = self.relevant_Q[self.used_Q], self.gallery_Q[self.used_Q]
        distinct = np.unique(np.stack([relevant, gallery]), axis=1)
        if distinct[1].sum() > CHANCE_WORK or not len(relevant):
            return None
        return chance_levels(relevant, gallery, self.settings.k)

    def add_metrics(self, out: Results) -> None:
        """Means over queries with intervals, over classes, and chance levels of both."""
        key, values = self.question.key, {name: v[self.used_Q] for name, v in self.values.items()}
        table = np.column_stack(list(values.values()))
        micro = significance.bootstrap_means(table, *self.how)
        macro = significance.bootstrap_class_means(table, self.label_Q, *self.how)
        chance = means(self.chance) if self.chance else {}
        chance_macro = means(self.chance, self.label_Q) if self.chance else {}
        for name, one, of_classes in zip(values, micro, macro, strict=True):
            out.metrics[f"{key}/{name}"] = one
            out.beside[f"{key}/{name}"] = {
                "macro": of_classes.value, "macro_low": of_classes.low, "macro_high": of_classes.high,
                "chance": chance.get(name), "chance_macro": chance_macro.get(name),
            }  # fmt: skip
        ranked = np.where(np.isinf(self.first_Q), self.gallery_Q + 1, self.first_Q)[self.used_Q]
        out.metrics[f"{key}/median_rank"] = significance.bootstrap(
            lambda w: significance.weighted_median(ranked, w), len(ranked), *self.how
        )
        if self.chance is None and len(ranked):
            out.notes.append(f"{key}: too many sizes of classes and galleries for chance levels: not computed")

    def class_table(self, out: Results) -> pa.Table:
        """Rows of classes.parquet, the class with the most queries first."""
        names, groups = self.question.notion.names, classes(self.label_Q)
        order = sorted(groups, key=lambda label: (-len(groups[label]), names[int(str(label))]))
        if len(order) > MOST_CLASSES:
            out.notes.append(f"{self.question.key}: classes.parquet has the {MOST_CLASSES:,} largest of {len(order):,}")
        shown = [name for name in self.values if not name.startswith("cmc@")]
        table, rows = np.column_stack([self.values[name][self.used_Q] for name in shown]), []
        for label in order[:MOST_CLASSES]:
            own = groups[label]
            for name, found in zip(shown, significance.bootstrap_means(table[own], *self.how), strict=True):
                level = None if self.chance is None else float(self.chance[name][own].mean())
                rows.append({
                    "relevant_by": self.question.notion.column, "protocol": self.question.protocol,
                    "value": names[int(str(label))], "metric": name, "estimate": found.value, "low": found.low,
                    "high": found.high, "n": found.n, "chance": level,
                })  # fmt: skip
        return pa.Table.from_pylist(rows, schema=CLASS_SCHEMA)

    def query_table(self, row_ids: pa.ChunkedArray) -> pa.Table:
        """Rows of relevant_by.parquet."""
        question, num = self.question, len(self.relevant_Q)
        ranked = pa.array(
            np.where(np.isinf(self.first_Q), 0, self.first_Q).astype(np.int64), mask=np.isinf(self.first_Q)
        )
        names = pa.array(question.notion.names, pa.string())
        return pa.table({
            "relevant_by": pa.array([question.notion.column] * num, pa.string()),
            "protocol": pa.array([question.protocol] * num, pa.string()), "query_id": row_ids.cast(pa.string()),
            "value": names.take(pa.array(question.wanted_Q, pa.int64())), "num_relevant": self.relevant_Q,
            "gallery_rows": self.gallery_Q, "first_rank": ranked, **self.values,
        })  # fmt: skip
