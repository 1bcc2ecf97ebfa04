"""Searches a run from Python: the index in memory, and the run's own model for texts and fresh pictures."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.config import JobConfig
from aistudio.errors import ConfigError
from aistudio.models import Kind
from aistudio.scoring.query_vectors import Encoded, FreshImage, QueryEncoder
from aistudio.scoring.run_models import RunModel, find_model, pin_run_model
from aistudio.search.searcher import Ask, Searcher

Picture = str | Path | bytes


class Asking:
    """One model of a run, ready to be asked; its index is loaded at once, the model itself when it is first needed."""

    def __init__(self, run: str, overrides: Sequence[str], model: str | None) -> None:
        """Load the index. Raises as `plan_searcher`."""
        self.searcher = Searcher.open(run, overrides, model=model)
        store, files = self.searcher.store, self.searcher.plan.gallery.files
        self.model: RunModel = find_model(store, store.read_metadata(files[0][1])[0].names, model)
        self._config: JobConfig = self.searcher.config
        self._lock = threading.Lock()

    @cached_property
    def _encoder(self) -> QueryEncoder:
        pinned = pin_run_model(self.model, self._config, self.searcher.store.root)
        return QueryEncoder(self._config, pinned, "cuda" if self._config.engine.device == "cuda" else "cpu")

    def ask(
        self, text: str | None, image: Picture | None, row_id: str | None, item_id: str | None,
        weights: tuple[float, float],
    ) -> Ask:  # fmt: skip
        """Make the searcher's question, as `Run.search` says. Raises ConfigError for one that cannot be asked."""
        given = [name for name, value in (("row_id", row_id), ("image", image), ("item_id", item_id)) if value]
        if len(given) > 1:
            raise ConfigError(f"search: {' and '.join(given)}: ask with one picture or item at a time")
        text = (text or "").strip() or None
        if not given and text is None:
            raise ConfigError("search: nothing to ask with: give text, image, row_id or item_id")
        fresh = None if image is None else self._look(image)
        if text is not None and given and self.model.kind is Kind.COMPOSER:
            return self._composed(text, fresh, row_id)
        parts = [(part, weights[1]) for part in self._pictures(fresh, row_id, item_id)]
        if text is not None:
            parts.append((self._by_text(text), weights[0]))
        return parts[0][0] if len(parts) == 1 else self.searcher.mixed(parts)

    def _pictures(self, fresh: FreshImage | None, row_id: str | None, item_id: str | None) -> Iterator[Ask]:
        if fresh is not None:
            vector, digest = fresh.vector_D, fresh.row.content_hash
            yield self.searcher.like_vector(vector, "like the picture", content_hash=digest)
        if row_id:
            yield self.searcher.like_row(row_id)
        if item_id:
            yield self.searcher.like_item(item_id)

    def _by_text(self, text: str) -> Ask:
        if self.model.kind is not Kind.RECALL:
            need = "a picture beside it" if self.model.kind is Kind.COMPOSER else "a recall model (model=)"
            raise ConfigError(f"a text needs {need}: {self.model.name} is a model of the kind {self.model.kind}")
        with self._lock:
            return self.searcher.like_vector(_only(self._encoder.texts([text])), "like the text")

    def _composed(self, text: str, fresh: FreshImage | None, row_id: str | None) -> Ask:
        if fresh is None and row_id is None:
            raise ConfigError(f"{self.model.name} is a composer: choose one picture of the item, by row_id")
        (own,) = self._pictures(fresh, row_id, None)
        raw = self.searcher.raw_vectors([row_id]) if row_id else np.stack([_vector(fresh)])
        with self._lock:
            vector = _only(self._encoder.compose(raw, [text]))
        made = self.searcher.like_vector(vector, "like the picture as the text changes it")
        return Ask(made.vectors_SD, made.why, own.item_ids, own.row_ids, own.hashes)

    def _look(self, image: Picture) -> FreshImage:
        """Fetch, decode and encode a picture. Raises ConfigError where it is none."""
        with _place_of(image) as place, self._lock:
            (found,) = self._encoder.images([(place, None)], 1)
        if found.vector_D is None:
            raise ConfigError(f"image: {found.row.status}: {found.row.error or 'cannot be used'}")
        return found


@contextmanager
def _place_of(image: Picture) -> Iterator[str]:
    """The address or path of a picture; bytes become a file for as long as it is looked at."""
    if isinstance(image, bytes):
        with tempfile.NamedTemporaryFile(prefix="aistudio-picture-") as f:
            f.write(image)
            f.flush()
            yield f.name
    elif isinstance(image, str) and "://" in image:
        yield image
    else:
        yield str(Path(image).expanduser().absolute())


def _vector(fresh: FreshImage | None) -> NDArray[np.float32]:
    assert fresh is not None and fresh.vector_D is not None
    return fresh.vector_D


def _only(encoded: Encoded) -> Any:
    if encoded.problems[0] is not None:
        raise ConfigError(f"the model cannot answer this: {encoded.problems[0]}")
    return encoded.vectors_ND[0]
