"""What all routes share: the indexes, the visitors' pictures, the queue and the counters."""

import time
from dataclasses import dataclass, field

from aistudio.config import JobConfig, ServeSettings
from aistudio.search.searcher import Found
from aistudio.serving.counters import Counters
from aistudio.serving.engine import Engine, Engines, choose
from aistudio.serving.gate import Gate
from aistudio.serving.photos import Photos
from aistudio.serving.questions import Question


@dataclass
class Hall:
    """One server's belongings; `ready` is set once the first question was answered as a test."""

    settings: ServeSettings
    engines: Engines
    photos: Photos
    gate: Gate
    counters: Counters
    ready: bool = False
    started: float = field(default_factory=time.time)

    @classmethod
    def of(cls, settings: ServeSettings, config: JobConfig, engines: Engines) -> "Hall":
        """Make it. `config`: of a run, whose way of decoding and downloading pictures holds for visitors' too."""
        counters = Counters()
        specs = [e.encoder.image_spec for e in engines.values() if e.encoder is not None]
        for engine in engines.values():
            counters.rows.labels(engine.name).set(len(engine.searcher))
        return cls(
            settings,
            engines,
            Photos(config, settings, specs),
            Gate(settings.workers, settings.queue, counters),
            counters,
        )

    def engine(self, name: str | None) -> Engine:
        """Return the index of that name; None: the first. Raises Refused (404)."""
        return choose(self.engines, [name])[0]

    def warm_up(self) -> None:
        """Ask each index once and start the decoding process, so that the first visitor does not wait."""
        for engine in self.engines.values():
            row_id = engine.searcher.held.texts(engine.searcher.copy.ids_N[:1], ["row_id"])["row_id"][0]
            self.search(engine, Question(row_id=row_id, top_n=1))
        self.photos.warm_up()
        self.ready = True

    def search(self, engine: Engine, question: Question) -> tuple[Found, float]:
        """Answer, and say how many seconds it took. Raises Refused."""
        started = time.perf_counter()
        found = engine.search(question, self.photos, self.settings)
        return found, time.perf_counter() - started

    def close(self) -> None:
        """End what runs beside the server."""
        self.gate.close()
        self.photos.close()
