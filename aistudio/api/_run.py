"""A stored run, opened from Python."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from aistudio.api._images import Image, images_of
from aistudio.api._vectors import Vectors
from aistudio.config import JobConfig
from aistudio.errors import ConfigError, StoreError
from aistudio.run_record import RunRecord
from aistudio.runs import layout
from aistudio.runs.record import recorded, stored_settings
from aistudio.schema import list_vector_schema, vector_width
from aistudio.search.held import Where
from aistudio.search.rows import Rows, rows_of
from aistudio.search.searcher import Found
from aistudio.search.vectors import vector_column
from aistudio.store import open_store

if TYPE_CHECKING:
    from aistudio.api._search import Asking

BATCH_ROWS = 4_096


def open_run(path: str | Path, overrides: Sequence[str] = ()) -> "Run":
    """Open a run that `score` has stored.

    Args:
        path: its folder, local or `s3://bucket/prefix`.
        overrides: settings on top of the run's own, each `section.key=value` as `--set` takes them; `store.…` opens a
            run on another S3 service.

    Raises:
        ConfigError: there is no run, or a setting is wrong.
        StoreError: it cannot be read, or nothing is scored there yet.
    """
    return Run(path, overrides)


class Run:
    """A stored run. It reads what is stored when it is asked; only `aggregate` and `report` write into its folder.

    `path` is its folder, `settings` the settings that it was made with and what was set on top.
    """

    def __init__(self, path: str | Path, overrides: Sequence[str] = ()) -> None:
        """Open it; raises as `open_run`."""
        self.path = str(path)
        self._overrides = list(overrides)
        self.settings: JobConfig = stored_settings(self.path, self._overrides)
        self._store = open_store(self.path, self.settings.store)
        self._files = list(enumerate(layout.score_keys(self._store)))
        if not self._files:
            raise StoreError(f"{self.path}: no stored scores there yet; run jobs.score first")
        self._askings: dict[str | None, Asking] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Run({self.path!r})"

    @property
    def record(self) -> RunRecord:
        """Return run.json: state, versions, models with fingerprints, rows by status, timings."""
        return recorded(self._store)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows with their Arrow types."""
        return list_vector_schema(self._store.read_metadata(self._files[0][1])[0])

    @property
    def num_rows(self) -> int:
        """How many rows are stored, failed ones too."""
        return sum(self._store.read_metadata(key)[1] for _, key in self._files)

    def rows(
        self, columns: Sequence[str] | None = None, where: Where | None = None, *, batch_rows: int = BATCH_ROWS
    ) -> Rows:
        """Return the rows as a stream of Arrow batches; its methods give pandas frames, torch tensors, or one table.

        Args:
            columns: which ones, in this order; None: all of them, vectors and thumbnails too.
            where: column -> the value, the list of values, or the `Range` of numbers that a row must have. Values are
                compared as texts, as `search.where` does: 3 finds 3.0.
            batch_rows: rows of a batch.

        Raises:
            ConfigError: a column that is not stored.
        """
        return rows_of(self._store, [key for _, key in self._files], self.schema, columns, where, batch_rows)

    def vectors(
        self, name: str | None = None, where: Where | None = None, *, unit: bool = False, batch_rows: int = BATCH_ROWS
    ) -> Vectors:
        """Return the image vectors of one model, of the rows that have one.

        Args:
            name: an encoder's; None or `recall`: the recall model's.
            where: as of `rows`.
            unit: divide each by its length. Recall models and most encoders store unit rows; composers do not.
            batch_rows: rows looked at for a batch.

        Raises:
            ConfigError: the run has no such vectors; names those that it has.
        """
        encoder = None if name in (None, "recall") and "embedding_recall" not in self.schema.names else name
        column = vector_column(self._store, encoder, "name").name
        rows = self.rows(["row_id", column], where, batch_rows=batch_rows)
        return Vectors(column, vector_width(rows.schema.field(column)), rows, unit)

    def images(self, row_ids: Sequence[str]) -> Iterator[Image]:
        """Yield the stored picture of each row id, in their order; an id that the run lacks has `unknown_row`.

        Raises:
            StoreError: a file is damaged.
        """
        if isinstance(row_ids, str):
            raise ConfigError(f"row_ids: expected a list of ids, found the text {row_ids!r}")
        return images_of(self._store, self._files, row_ids)

    def search(
        self, text: str | None = None, *, image: str | Path | bytes | None = None, row_id: str | None = None,
        item_id: str | None = None, where: Where | None = None, model: str | None = None, top_n: int | None = None,
        offset: int = 0, per: str | None = None, leave_out: Sequence[str] | None = None,
        diversify: Mapping[str, int] | None = None, text_weight: float = 1.0, picture_weight: float = 1.0,
    ) -> Found:  # fmt: skip
        """Find what is most like a text, a picture, a stored row or item; exact, ids and scores as `jobs.search`.

        A picture and a text together ask a composer for the picture as the text changes it, a recall model for what is
        like both, by their weights. The first search of a model loads its index: one byte a number in memory, exact
        vectors in a mapped local copy.

        Args:
            image: a path, an address, or the bytes of a picture file.
            where: column -> value, list of values, or `Range` that a row must have.
            model: an encoder of the run; None: its recall model, or its only encoder.
            top_n, per, leave_out, diversify: as the settings of `search`, and by default as the run has them.
            offset: results that are left out before the first one: pages.

        Raises:
            ConfigError: a question that cannot be asked, a picture that cannot be used, an index that does not fit.
            StoreError, WeightsError: what is stored, or the model, cannot be read.
        """
        asking = self._asking(model)
        ask = asking.ask(text, image, row_id, item_id, (text_weight, picture_weight))
        own = self.settings.search
        usual = ("item", "copies") if own.leave_out is None else own.leave_out
        return asking.searcher.search(
            ask, top_n=own.top_n if top_n is None else top_n, offset=offset, where={**own.where, **(where or {})},
            per=per or own.per or "item", duplicate_cosine=own.duplicate_cosine,
            leave_out=usual if leave_out is None else leave_out,
            diversify=own.diversify if diversify is None else diversify,
        )  # fmt: skip

    def _asking(self, model: str | None) -> "Asking":
        from aistudio.api._search import Asking  # loads models, which reading a run does not need

        with self._lock:
            if model not in self._askings:
                self._askings[model] = Asking(self.path, self._overrides, model)
            return self._askings[model]

    def aggregate(
        self, name: str | None = None, *, scores: str | Path | None = None, **metrics: Any
    ) -> dict[str, Any]:  # fmt: skip
        """Compute metrics from the stored rows into metrics/<name>/, as the job `aggregate`.

        Args:
            name: of this aggregation; None: `text` or `image`, by the query; of `scores` the file's name.
            scores: a table of somebody else's scores or vectors that is judged in place of the run's own.
            **metrics: settings of the section `metrics` on top of the run's: `query="image", k=[1, 5]`.

        Returns:
            {"metrics": {name: {"value", "low", "high", "n"}}, "about": what they were computed from}.

        Raises:
            ConfigError, ManifestError, StoreError: as the job.
        """
        from aistudio.evaluation.aggregate import aggregate
        from aistudio.pipeline.mapping import mapper_for

        settings = self._with("metrics", metrics)
        with mapper_for(sum(e.size for e in self._store.list(layout.SCORES)), settings.engine) as mapper:
            if scores is not None:
                from aistudio.evaluation.given import judge_given

                return judge_given(self._store, settings.metrics, str(scores), mapper, name=name).theirs
            return aggregate(self._store, settings.metrics, mapper, name=name)

    def report(
        self, name: str | None = None, *, into: str | Path | None = None, against: "Run | str | Path | None" = None,
        **report: Any,
    ) -> str:  # fmt: skip
        """Write the HTML report into report/, as the job `report`, and return the path of its index.html.

        Args:
            name: the aggregation that it shows; None: the run's first one.
            into: another folder to write to; the run stays as it is.
            against: an earlier run, for the page of differences.
            **report: settings of the section `report` on top of the run's.

        Raises:
            ConfigError, StoreError: as the job.
        """
        from aistudio.pipeline.report import write_report_to
        from aistudio.pipeline.report_place import ReportPlace

        settings = self._with("report", report)
        opening = [o for o in self._overrides if o.startswith("store.")]
        earlier = Run(against, opening) if isinstance(against, str | Path) else against
        place = ReportPlace(self._store, None if into is None else str(into))
        return write_report_to(place, self._store, settings.report, earlier._store if earlier else None, name)

    def _with(self, section: str, values: Mapping[str, Any]) -> JobConfig:
        """The settings with a section's values on top."""
        return stored_settings(self.path, [*self._overrides, *overrides_of(section, values)])


def overrides_of(section: str, values: Mapping[str, Any]) -> list[str]:
    """Write values as `section.key=value`. Raises ConfigError for one that is no plain data."""
    try:
        return [f"{section}.{key}={json.dumps(value)}" for key, value in values.items()]
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{section}: expected numbers, texts, lists and mappings: {e}") from None
