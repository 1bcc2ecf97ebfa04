"""What an aggregation judges in place of the run's own vectors and scores. Filled in by given.py."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aistudio.evaluation.queries import TextVectors
from aistudio.search.exact import Found, Gallery
from aistudio.search.given_lists import RowScores


@dataclass(frozen=True)
class Other:
    """Somebody else's vectors or scores; what is None is the run's own."""

    gallery: Gallery | None = None
    text_vectors: TextVectors | None = None
    find: Callable[..., Found] | None = None  # in place of `search.exact.search`
    scores: RowScores | None = None  # that pairs are judged by
    nothing: str | None = None  # why no retrieval can be judged
    definition: Mapping[str, Any] = field(default_factory=dict)  # parts of `definition` that are different
    about: Mapping[str, Any] = field(default_factory=dict)  # further parts of about.json
