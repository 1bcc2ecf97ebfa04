"""`search`: queries of every kind against the vectors that a run has stored, results under searches/<name>/.

    queries.parquet   a row for each query: what it is, whether it could be asked, how it did
    results.parquet   query_id, rank (from 1), item_id, row_id, score, why
    left_out.parquet  query_id, item_id, row_id, reason
    metrics.json      where queries say what is relevant
    about.json        what was asked how; written last

Leaves out: what a list may hold (search/listing.py), models (scoring/query_vectors.py), the page (reports/searches.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aistudio.config import JobConfig
from aistudio.errors import ConfigError, StoreError
from aistudio.evaluation.place import NAME
from aistudio.pipeline.mapping import mapper_for
from aistudio.pipeline.search_steps import Steps
from aistudio.places import in_bucket
from aistudio.runs import layout
from aistudio.runs.record import recorded, stored_settings
from aistudio.schema import vector_width
from aistudio.scoring.run_models import RunModel, find_model
from aistudio.search.gallery import File
from aistudio.search.listing import FIRST_ROWS, SPARE, VECTOR_CHUNK
from aistudio.search.query_table import Query, QueryTable, read_query_table
from aistudio.search.resolving import Asked, Source, items_of, sort_queries
from aistudio.search.stored import find_rows
from aistudio.search.vectors import VectorColumn, vector_column
from aistudio.store import Store, open_store

ITEMS = "items"
DATASET_K, USUAL_K = (1, 5, 10, 50, 100), (1, 5, 10)
REFERENCE_ROWS = 150  # of each list, that FashionIQ's published evaluation looks at


@dataclass(frozen=True)
class SearchPlan:
    """A search, checked and ready to run."""

    store: Store
    config: JobConfig
    name: str
    files: list[File]
    model: RunModel
    source: Source  # the run whose rows ask
    gallery: VectorColumn
    asked: list[Asked]  # empty where every item of `source` asks
    every_item: bool
    table: QueryTable
    rows: int
    width: int

    @property
    def per(self) -> str:
        """Return what one result is: item or row."""
        return self.config.search.per or ("row" if self.table.dataset else "item")

    @property
    def leave_out(self) -> list[str]:
        """Return which of a query's own pictures and copies are left out."""
        if self.config.search.leave_out is not None:
            return list(self.config.search.leave_out)
        published = {None: ["item", "copies"], "fashioniq": []}
        return published.get(self.table.dataset, ["row"])

    @property
    def ks(self) -> list[int]:
        """The K of the metrics."""
        return list(self.config.search.k or (DATASET_K if self.table.dataset else USUAL_K))

    @property
    def depth(self) -> int:
        """How long lists are searched: the metrics may need more than are stored."""
        judged = self.table.dataset or any(q.relevant is not None for q in self.table.queries)
        deepest = max(self.ks) if judged else 0
        return max(self.config.search.top_n, deepest, REFERENCE_ROWS if self.table.dataset == "fashioniq" else 0)

    def kinds(self) -> dict[str, int]:
        """Count the queries by kind; those that cannot be asked as `cannot be asked`."""
        if self.every_item:
            return {}
        return dict(Counter(one.kind if one.ok else "cannot be asked" for one in self.asked))

    def memory_bytes(self) -> int:
        """Estimate what a search holds at once: query vectors and candidates of a pass, and two blocks of rows."""
        k, vectors = self.depth * FIRST_ROWS + SPARE, min(VECTOR_CHUNK, max(1, len(self.asked) or self.rows))
        blocks = 3 * self.config.search.block_rows * self.width * 4
        items = 12 * self.rows * self.width if self.config.search.item_score == "mean" else 0
        return vectors * (4 * self.width + 60 * k) + blocks + items


@dataclass(frozen=True)
class Outcome:
    """What a search has done."""

    about: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    too_many_failed: bool


def plan_search(
    run: str, name: str, overrides: Sequence[str] = (), *, model: str | None = None, queries: str | None = None,
    like: str | None = None,
) -> SearchPlan:  # fmt: skip
    """Check everything that can be checked without reading vectors or loading a model.

    Args:
        queries: file of a query table, or `fashioniq:ROOT` and its like. Or
        like: `items`, a picture's path or address, or another run's folder.

    Raises:
        ConfigError: what a user must change. StoreError: nothing is scored there, or it cannot be read.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name {name}: expected small letters, digits and _, a letter first, 31 at most")
    config = stored_settings(run, overrides)
    store = open_store(run, config.store)
    files = list(enumerate(layout.score_keys(store)))
    if not files:
        raise StoreError(f"{store.root}: no stored scores there; run `aistudio score` first")
    schema = store.read_metadata(files[0][1])[0]
    found = find_model(store, schema.names, model)
    column = vector_column(store, None if found.role == "recall" else found.name, "--model")
    _check_columns(config, schema.names)
    source = Source(store, files, column)
    table, every_item = QueryTable([]), False
    if queries is not None:
        table = read_query_table(queries, config)
    elif like == ITEMS:
        every_item = True
    elif (other := _other_run(like or "", config)) is not None:
        source, every_item = _other_source(other, found), True
    else:
        table = QueryTable([_photo(like or "")])
    plan = SearchPlan(
        store, config, name, files, found, source, column, sort_queries(table.queries, found.kind, found.name),
        every_item, table, sum(store.read_metadata(key)[1] for _, key in files),
        vector_width(schema.field(column.name)) or 0,
    )  # fmt: skip
    _refuse_hopeless(plan)
    return plan


def run_search(plan: SearchPlan) -> Outcome:
    """Search and write the results. Raises as `plan_search`, and WeightsError for models that cannot be loaded."""
    total = sum(e.size for e in plan.store.list(layout.SCORES))
    with mapper_for(total, plan.config.engine) as mapper:
        asked = plan.asked
        if plan.every_item:
            columns = Steps.source_columns(plan)
            asked = items_of(find_rows(plan.source.store, plan.source.files, None, columns, mapper), columns)
        about, metrics = Steps(plan, asked, mapper).run()
    limit, failed = plan.config.engine.max_failed_share, about["queries_failed"]
    return Outcome(about, metrics, limit is not None and failed > limit * max(1, about["queries"]))


def _check_columns(config: JobConfig, stored: Sequence[str]) -> None:
    settings = config.search
    asked = {"search.filter": [ours for _, ours in settings.filter_columns], "search.where": list(settings.where)}
    asked["search.diversify"] = list(settings.diversify)
    for setting, columns in asked.items():
        for column in columns:
            if column not in stored:
                raise ConfigError(f"{setting}: {column} is not a column of the scores; there: {', '.join(stored)}")
    if settings.item_score == "mean" and settings.per == "row":
        raise ConfigError("search.item_score: mean is of items; with search.per=row it must be max")
    if settings.filter_separator is not None and len(settings.filter) > 1:
        raise ConfigError("search.filter_separator: with it search.filter takes one column")


def _other_run(place: str, config: JobConfig) -> Store | None:
    """The run folder at `place`, None where it is a picture."""
    if "://" in place and not in_bucket(place):
        return None
    store = open_store(place, config.store)
    if store.exists(layout.RUN):
        return store
    if Path(place).is_dir():
        raise ConfigError(f"--like {place}: a folder without run.json; expected a run, a picture or `items`")
    return None


def _other_source(other: Store, model: RunModel) -> Source:
    """The other run as the one that asks. Raises ConfigError unless its vectors are of the same model."""
    models = recorded(other).models
    wanted = model.facts.fingerprint
    fitting = [role for role, facts in models.items() if wanted and facts.fingerprint == wanted]
    fitting.sort(key=lambda role: role != model.role)
    files = list(enumerate(layout.score_keys(other)))
    if not fitting or not files:
        raise ConfigError(
            f"--like {other.root}: it has no vectors of {model.name} (fingerprint {wanted or 'not recorded'}); score "
            "it with the same model"
        )
    encoder = None if fitting[0] == "recall" else fitting[0].removeprefix("encoders.")
    return Source(other, files, vector_column(other, encoder, "--model"), is_searched=False)


def _photo(place: str) -> Query:
    if not place:
        raise ConfigError("--like: expected `items`, a picture or a run folder")
    if "://" in place:
        return Query(place.rstrip("/").rpartition("/")[2][:100] or "photo", image_url=place)
    path = Path(place).expanduser()
    if not path.is_file():
        raise ConfigError(f"--like {place}: no such file or run; expected `items`, a picture or a run folder")
    return Query(path.name, image_url=str(path.absolute()))


def _refuse_hopeless(plan: SearchPlan) -> None:
    """Raises ConfigError where not one query can be asked."""
    if plan.every_item or any(one.ok for one in plan.asked):
        return
    reasons = Counter(one.error for one in plan.asked)
    said = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.most_common(3)) or "there are none"
    raise ConfigError(f"no query can be asked: {said}")
