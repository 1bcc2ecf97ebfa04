"""Judges somebody else's scores or vectors for rows of a run by the same metrics, and the run's own beside them.

Three kinds of table (search/given_table.py):

    a vector of a row      judged as an encoder: images ask for images; texts ask too where the table has their vectors
    a score of a query     judged as a ranked list of each query
      and a row
    a score of a row       judged by A/B pairs, by the order of each item's own images where qrels say what is right,
                           and by its correlation with the run's own score

The result lies in metrics/<name>/, with unmatched.parquet: line, key, reason of what could not be used. The run's own
numbers over the same rows are metrics/<name>_ours/, so that `compare` pairs like with like.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.evaluation import scan
from aistudio.evaluation.aggregate import aggregate
from aistudio.evaluation.other import Other
from aistudio.evaluation.own_scores import own_scores, spearman
from aistudio.evaluation.place import NAME, Place, names
from aistudio.evaluation.queries import names_of
from aistudio.runs import layout
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.search.alignment import Given, row_ids_where
from aistudio.search.exact import Found, Gallery
from aistudio.search.gallery import File, Vectors
from aistudio.search.given import align
from aistudio.search.given_lists import ListFinder, RowScores, ok_blocks
from aistudio.search.given_table import SETTING, GivenTable, open_given
from aistudio.search.keyed import SEPARATOR
from aistudio.search.pace import Pace
from aistudio.search.qrels import relevance
from aistudio.search.queries import Queries
from aistudio.secrets import redact
from aistudio.store import Store

OURS = "_ours"  # behind the name: the run's own numbers over the same rows
UNMATCHED = "unmatched.parquet"
UNKNOWN_QUERY = "unknown_query"
OWN_IMAGES = "among the item's own images"
NO_RETRIEVAL = (
    "a score of each row says nothing of retrieval: it is judged by A/B pairs (metrics.pairs), or by the order of an "
    "item's own images where metrics.qrels say which are right; for retrieval give vectors, or a column `query`"
)


@dataclass(frozen=True)
class Judged:
    """What was judged: the other's numbers, and the run's own over the same rows (None: it has none of the kind)."""

    theirs: dict[str, Any]  # as `aggregate` returns it
    ours: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def judge_given(
    store: Store, settings: MetricsSettings, place: str, mapper: Mapper | None = None, *, name: str | None = None
) -> Judged:
    """Judge the table at `place` and write both aggregations.

    Args:
        name: of the aggregation; None: made from the file's name.

    Raises:
        ConfigError: the table cannot be read, none of its lines can be used, or the name is taken.
        StoreError, ManifestError: as `aggregate`.
    """
    name = name or _name_of(place)
    _check_name(store, name)
    files = scan.score_files(store)
    table = open_given(place, store.read_metadata(files[0][1])[0].names, settings, store)
    with tempfile.TemporaryDirectory(prefix="aistudio-scores-") as folder:
        given = align(table, store, files, Path(folder))
        about = {"given": _about(given)}
        how = {True: _judge_vectors, False: _judge_lists if table.has_query else _judge_scores}[table.is_vector]
        judged = how(_Job(store, files, settings, given, mapper, name, about))
    Place(store, name, False).write_table(UNMATCHED, given.account.table())
    return judged


@dataclass(frozen=True)
class _Job:
    store: Store
    files: list[File]
    settings: MetricsSettings
    given: Given
    mapper: Mapper | None
    name: str
    about: dict[str, Any]

    def theirs(self, settings: MetricsSettings, other: Other, left_out: pa.Array | None = None) -> dict[str, Any]:
        """Aggregate what is given; its definition names the table as the encoder."""
        table = self.given.table
        known = {"encoder": {"name": redact(table.place), "column": table.value}}
        other = replace(other, about=self.about, definition={**other.definition, **known})
        return aggregate(self.store, settings, InProcess(), name=self.name, left_out=left_out, other=other)

    def ours(
        self, settings: MetricsSettings, other: Other | None, left_out: pa.Array | None = None
    ) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """Aggregate the run's own over the same rows; None and why where the run has nothing of the kind."""
        other = replace(other or Other(), about={"beside": self.name})
        try:
            name = f"{self.name}{OURS}"
            return aggregate(self.store, settings, self.mapper, name=name, left_out=left_out, other=other), ()
        except ConfigError as e:
            return None, (f"the run's own numbers are not beside them: {e}",)


def _judge_vectors(job: _Job) -> Judged:
    given, settings = job.given, job.settings
    if settings.query == "text" and not given.text_vectors:
        settings = settings.model_copy(update={"query": "image"})
    left_out = row_ids_where(job.store, job.files, given.index.ok_N & ~given.has_N)
    gallery = GivenGallery(job.store, job.files, left_out, given=given)
    other = Other(gallery=gallery, text_vectors=lambda _, texts: _text_vectors(given, texts))
    theirs = job.theirs(settings.model_copy(update={"encoder": None}), other, left_out)
    return Judged(theirs, *job.ours(settings, None, left_out))


def _judge_lists(job: _Job) -> Judged:
    def find(gallery: Gallery, queries: Queries, k: int, block_rows: int, mapper: Mapper, pace: Pace) -> Found:
        triples = _named_triples(job.given, queries, job.settings)
        job.about["given"] = _about(job.given)
        return ListFinder(triples)(gallery, queries, k, block_rows, mapper, pace)

    theirs = job.theirs(job.settings, Other(find=find, text_vectors=_no_vectors))
    return Judged(theirs, *job.ours(job.settings, None))


def _judge_scores(job: _Job) -> Judged:
    assert job.given.scores_N is not None
    settings = job.settings.model_copy(update={"query": "text"})
    own = own_scores(job.store, job.files)
    scores = RowScores(job.given.index.id_N, job.given.scores_N)
    job.about["given"]["spearman"] = None if own is None else spearman(scores, own)
    theirs = job.theirs(settings, _of_rows(scores, settings))
    if own is None:
        return Judged(theirs, None, ("the run has no score of its own: there is nothing beside them",))
    return Judged(theirs, *job.ours(settings, _of_rows(own, settings)))


def _of_rows(scores: RowScores, settings: MetricsSettings) -> Other:
    """Judge a score of each row: pairs, and the order of an item's own images where qrels say what is right."""
    if settings.qrels is None:
        return Other(scores=scores, nothing=NO_RETRIEVAL)

    def find(gallery: Gallery, queries: Queries, k: int, block_rows: int, mapper: Mapper, pace: Pace) -> Found:
        frame = queries.frame
        keys = (frame["item_id"] + SEPARATOR + frame["text"]).tolist()
        own = relevance(["item_id", "text"], keys, np.arange(len(frame)), is_key=True)
        return ListFinder(own=own, scores=scores)(gallery, queries, k, block_rows, mapper, pace)

    return Other(
        scores=scores, find=find, text_vectors=_no_vectors, definition={"query": f"{settings.query}, {OWN_IMAGES}"}
    )


@dataclass(frozen=True)
class GivenGallery(Gallery):
    """The gallery with somebody else's vectors: rows without one are not in it."""

    given: Given | None = None

    def blocks(self, files: Sequence[File], block_rows: int, columns: Sequence[str]) -> Iterator[Vectors]:
        """Yield the given vectors of some of the files."""
        for ids_N, values in ok_blocks(replace(self, files=files), columns):
            for start in range(0, len(ids_N), block_rows):
                part = slice(start, start + block_rows)
                yield Vectors(self._at(ids_N[part]), ids_N[part], {c: v[part] for c, v in values.items()})

    def vectors_at(self, ids: NDArray[np.int64], mapper: Mapper) -> NDArray[np.float32]:
        """Return the given vectors of some rows, (n, D)."""
        return self._at(ids)

    def _at(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self.given is not None and self.given.vectors_ND is not None
        return np.asarray(self.given.vectors_ND[np.searchsorted(self.given.index.id_N, ids)])


def _named_triples(given: Given, queries: Queries, settings: MetricsSettings) -> Any:
    """The triples of the table with the numbers of the queries that their names mean, a pair once.

    Lines of names that are no query here are accounted for.
    """
    assert given.triples is not None
    query_T, row_T, score_T, line_T = given.triples
    columns = ["item_id", "query_id"] if settings.query == "text" else ["image_url", "query_id"]
    names = names_of(queries.frame, columns)
    meant = [names.get(name, []) for name in given.queries]
    unknown = np.array([not numbers for numbers in meant], bool)
    lost = np.flatnonzero(unknown[query_T]) if len(meant) else np.empty(0, np.int64)
    lines, first = np.unique(line_T[lost], return_index=True)
    told = zip(lines.tolist(), query_T[lost][first].tolist(), strict=True)
    given.account.add(UNKNOWN_QUERY, [(line, given.queries[q]) for line, q in told])
    given.account.used -= len(lines)
    if not given.account.used:
        some = ", ".join(given.queries[:3])
        raise ConfigError(f"{SETTING} {given.table.place}: none of its queries is in this run; it names {some}")
    count = np.array([len(numbers) for numbers in meant], np.int64)
    flat = np.array([number for numbers in meant for number in numbers], np.int64)
    start = np.cumsum(count) - count
    num = count[query_T]
    at = np.repeat(np.arange(len(query_T)), num)
    number = flat[np.repeat(start[query_T] - np.cumsum(num) + num, num) + np.arange(len(at))]
    pairs = np.stack([number, row_T[at]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)  # an item's name and its query's may both be there
    return number[first], given.index.id_N[row_T[at][first]], score_T[at][first]


def _no_vectors(_: Store, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    return np.ones(len(texts), bool), np.zeros((len(texts), 1), np.float32)


def _text_vectors(given: Given, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    has = np.array([text in given.text_vectors for text in texts], bool)
    found = [given.text_vectors[text] for text in texts if text in given.text_vectors]
    return has, np.stack(found) if found else np.empty((0, 1), np.float32)


def _about(given: Given) -> dict[str, Any]:
    account, table = given.account, given.table
    return {
        "file": redact(table.place), "kind": _kind(table), "column": table.value, "key": list(table.key),
        "lines": account.lines, "used": account.used, "not_used": dict(account.reasons.most_common()),
        "rows_without": account.rows_without,
    }  # fmt: skip


def _kind(table: GivenTable) -> str:
    return "vectors" if table.is_vector else "lists" if table.has_query else "scores"


def _name_of(place: str) -> str:
    stem = place.rstrip("/").rpartition("/")[2].partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9_]+", "_", stem).strip("_")[: 31 - len(OURS)]
    return name if NAME.fullmatch(name) else f"scores_{name}"[: 31 - len(OURS)].rstrip("_")


def _check_name(store: Store, name: str) -> None:
    """Raises ConfigError for a name that is none, or that of an aggregation of the run's own."""
    if not NAME.fullmatch(name) or len(name) > 31 - len(OURS):
        raise ConfigError(
            f"--name {name}: expected small letters, digits and _, a letter first, {31 - len(OURS)} at most"
        )
    for taken in (name, f"{name}{OURS}"):
        about = store.read_json(layout.metrics_key("about.json", taken)) if taken in names(store) else {"given": 1}
        if not ("given" in about or "beside" in about):
            raise ConfigError(f"{SETTING}: the run has an aggregation {taken} of its own; give --name another one")
