"""One index of the server: a run's searcher with the model that made its vectors, its pictures and its filters."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.config import ServeSettings
from aistudio.errors import AIStudioError, ConfigError
from aistudio.images.decode import decode
from aistudio.models import Kind
from aistudio.schema import Status
from aistudio.scoring.query_vectors import Encoded, QueryEncoder
from aistudio.scoring.run_models import RunModel
from aistudio.search.searcher import Ask, Found, Searcher
from aistudio.serving.errors import Refused
from aistudio.serving.facets import Facet, facets
from aistudio.serving.photos import Photo, Photos
from aistudio.serving.questions import Question
from aistudio.serving.thumbnails import Thumbnails

TEXTS_KEPT = 1_000


@dataclass
class Engine:
    """An index by the name under which requests know it; `encoder` is None where its model cannot be loaded."""

    name: str
    run: str  # label of the run
    model: RunModel
    searcher: Searcher
    encoder: QueryEncoder | None
    why_none: str | None  # why there is no encoder
    thumbnails: Thumbnails
    _texts: OrderedDict[str, NDArray[np.float32]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of questions: row, item, vector, text, picture, composed."""
        found = ["row", "item", "vector"]
        if self.encoder is not None:
            found.append("picture")
            found += {Kind.RECALL: ["text"], Kind.COMPOSER: ["composed"]}.get(self.model.kind, [])
        return found

    @cached_property
    def facets(self) -> list[Facet]:
        """The filters of its columns."""
        return facets(self.searcher.copy.table)

    def search(self, question: Question, photos: Photos, settings: ServeSettings) -> Found:
        """Answer a question. Raises Refused: what is wrong with it."""
        if question.top_n > settings.max_results:
            raise Refused(422, f"top_n: {question.top_n:,}, at most {settings.max_results:,} results of a page")
        if question.offset + question.top_n > settings.max_depth:
            raise Refused(422, f"results behind place {settings.max_depth:,} are not listed: ask more narrowly")
        try:
            ask = self.ask(question, photos, settings)
            return self.searcher.search(
                ask, top_n=question.top_n, offset=question.offset, where=question.conditions(), per=question.per,
                leave_out=question.leave_out, diversify=question.diversify,
            )  # fmt: skip
        except ConfigError as e:
            raise Refused(422, str(e)) from None

    def ask(self, question: Question, photos: Photos, settings: ServeSettings) -> Ask:
        """Make the searcher's question. Raises Refused, and ConfigError for a row that is not held."""
        text = (question.text or "").strip()
        if len(text) > settings.max_text_chars:
            raise Refused(422, f"the text has {len(text):,} characters, at most {settings.max_text_chars:,}")
        pictures = self._pictures(question, photos)
        if question.vector is not None:
            pictures.append(self.searcher.like_vector(question.vector))
        if not pictures and not text:
            raise Refused(422, "nothing to ask with: give a text, row_id, item_id, photo, image_url or vector")
        if not text:
            return pictures[0] if len(pictures) == 1 else self.searcher.mixed([(one, 1.0) for one in pictures])
        if self.model.kind is Kind.COMPOSER:
            return self._composed(question, photos, text, pictures)
        by_text = self._by_text(text)
        if not pictures:
            return by_text
        weights = [(one, question.picture_weight / len(pictures)) for one in pictures]
        return self.searcher.mixed([*weights, (by_text, question.text_weight)])

    def _pictures(self, question: Question, photos: Photos) -> list[Ask]:
        found = []
        if question.row_id:
            found.append(self.searcher.like_row(question.row_id))
        if question.item_id:
            found.append(self.searcher.like_item(question.item_id))
        for photo in self._photos(question, photos):
            vector = self._photo_vector(photo)
            found.append(self.searcher.like_vector(vector, "like the picture", content_hash=photo.name))
        return found

    def _photos(self, question: Question, photos: Photos) -> list[Photo]:
        found = [photos.get(question.photo)] if question.photo else []
        return [*found, photos.fetch(question.image_url)] if question.image_url else found

    def _by_text(self, text: str) -> Ask:
        if self.model.kind is not Kind.RECALL:
            raise Refused(
                422, f"a text needs a recall model: {self.model.name} is a model of the kind {self.model.kind}"
            )
        encoder = self._encoder()
        with self._lock:
            vector = self._texts.get(text)
            if vector is None:
                vector = _only(encoder.texts([text]))
                self._texts[text] = vector
                while len(self._texts) > TEXTS_KEPT:
                    self._texts.popitem(last=False)
        return self.searcher.like_vector(vector, "like the text")

    def _composed(self, question: Question, photos: Photos, text: str, pictures: list[Ask]) -> Ask:
        if not pictures:
            raise Refused(422, f"a text needs a picture beside it: {self.model.name} is a composer")
        if len(pictures) != 1 or question.vector is not None:
            have = "one picture (row_id, photo or image_url)"
            raise Refused(422, f"{self.model.name} is a composer: it takes {have} and a text")
        if question.item_id:
            raise Refused(422, f"{self.model.name} is a composer: choose one picture of the item, by row_id")
        encoder = self._encoder()
        if question.row_id:
            raw = self.searcher.raw_vectors([question.row_id])
        else:
            raw = self._photo_vector(self._photos(question, photos)[0])[None]
        with self._lock:
            vector = _only(encoder.compose(raw, [text]))
        own = pictures[0]
        made = self.searcher.like_vector(vector, "like the picture as the text changes it")
        return Ask(made.vectors_SD, made.why, own.item_ids, own.row_ids, own.hashes)

    def _photo_vector(self, photo: Photo) -> NDArray[np.float32]:
        encoder = self._encoder()
        with self._lock:
            if self.name not in photo.vectors:
                pixels = photo.pixels.get(encoder.image_spec)
                if pixels is None:
                    pixels = self._detected(photo, encoder)
                photo.vectors[self.name] = _only(encoder.encode_pixels(pixels[None]))
            return np.asarray(photo.vectors[self.name])

    def _detected(self, photo: Photo, encoder: QueryEncoder) -> NDArray[np.uint8]:
        """Decode here, where the detector is; the decoding process has found the picture harmless."""
        found = decode(photo.body or b"", [encoder.image_spec], self.searcher.config.images, encoder.detectors())
        if found.status != Status.OK:
            raise Refused(422, f"this cannot be used as a picture: {found.status}: {found.error}")
        return found.pixels[0]

    def _encoder(self) -> QueryEncoder:
        if self.encoder is None:
            raise Refused(422, f"{self.name} can only be asked with what it has stored: its model could not be loaded")
        return self.encoder

    def thumbnail(self, row_id: str) -> bytes | None:
        """Return a row's stored picture (JPEG), None where there is none."""
        place = self.searcher.place_of(row_id)
        return None if place is None else self.thumbnails.get(*place)


def _only(encoded: Encoded) -> NDArray[np.float32]:
    """The one vector, as a search uses it. Raises Refused with the model's reason."""
    if encoded.problems[0] is not None:
        raise Refused(422, f"the model cannot answer this: {encoded.problems[0]}")
    return np.asarray(encoded.vectors_ND[0])


def load_encoder(load: Callable[[], QueryEncoder]) -> tuple[QueryEncoder | None, str | None]:
    """Return the model, or why it cannot be loaded: what is stored can be searched without it."""
    try:
        return load(), None
    except AIStudioError as e:
        return None, str(e)


Engines = dict[str, Engine]


def choose(engines: Engines, names: Sequence[str | None]) -> list[Engine]:
    """Return the engines of some names, each once; None and nothing: the first. Raises Refused (404)."""
    found: dict[str, Engine] = {}
    for name in names or [None]:
        engine: Any = next(iter(engines.values())) if name is None else engines.get(name)
        if engine is None:
            raise Refused(404, f"there is no index {name!r} here; there: {', '.join(engines)}")
        found[engine.name] = engine
    return list(found.values())
