"""MIT-States: `<root>/images/<state> <noun>/*.jpg`, the split by nouns.

A query is a picture and another state of its noun; every picture of that state and noun is right. Source of the layout
and of the 49 test nouns: the data set class of TIRG's repository.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from aistudio.catalogue._dataset import (
    NOT_TEXT,
    DatasetFiles,
    Listing,
    Pair,
    Picture,
    Queries,
    Query,
    by_caption,
    choose,
    query_table,
    require_pictures,
)
from aistudio.catalogue.table import Reject, storable
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

SPLITS = ("test", "train")
COLUMNS = ("caption", "state", "noun")
LAYOUT = "expected images/<state> <noun>/*.jpg below it"
NO_STATE = "adj"  # folders "adj <noun>" show a noun in no state; they are not used
# fmt: off
TEST_NOUNS = frozenset((
    "armor", "bracelet", "bush", "camera", "candy", "castle", "ceramic", "cheese", "clock", "clothes",
    "coffee", "fan", "fig", "fish", "foam", "forest", "fruit", "furniture", "garden", "gate", "glass",
    "horse", "island", "laptop", "lead", "lightning", "mirror", "orange", "paint", "persimmon",
    "plastic", "plate", "potato", "road", "rubber", "sand", "shell", "sky", "smoke", "steel", "stream",
    "table", "tea", "tomato", "vacuum", "wax", "wheel", "window", "wool"
))
# fmt: on


def list_pictures(files: DatasetFiles, settings: ManifestSettings) -> Listing:
    """Pictures of a split. Folders of another form than two words, and files that are no JPEGs, are left out."""
    split, _ = choose(settings, SPLITS, ())
    pictures: list[Picture] = []
    rejects: list[tuple[str, Reject]] = []
    found = files.paths("images")
    if not found:
        raise ManifestError(f"manifest.path: {files.root}: not MIT-States: no folder images; {LAYOUT}")
    for number, path in enumerate(found, 1):
        picture = _picture(path, split)
        if isinstance(picture, str):
            rejects.append(("images", Reject(number, path, picture)))
        elif picture is not None:
            pictures.append(picture)
    require_pictures(pictures, files, LAYOUT)
    return Listing(pictures, rejects)


def _picture(path: str, split: str) -> Picture | str | None:
    """The picture of a path, why it is left out, or None where the data set leaves it out by definition."""
    _, _, folder, *rest = ("", *path.split("/"))
    words = folder.split(" ")
    if not rest or len(words) < 2 or words[0] == NO_STATE:
        return None
    if storable(path) != path:
        return NOT_TEXT
    if len(words) != 2 or not all(words):
        return "a folder that is not named by state and noun"
    if (words[1] in TEST_NOUNS) != (split == "test"):
        return None
    if len(rest) != 1 or not path.endswith("jpg"):
        return "not a .jpg file directly in its folder"
    return Picture(path, path, folder, folder, (folder, words[0], words[1]))


def states_of(pictures: Iterable[Picture]) -> dict[str, list[str]]:
    """States of each noun, at their first occurrence."""
    found: dict[str, dict[str, None]] = {}
    for picture in pictures:
        _, state, noun = picture.kept
        found.setdefault(noun, {})[state] = None
    return {noun: list(states) for noun, states in found.items()}


def read_queries(files: DatasetFiles, settings: ManifestSettings) -> Queries:
    """Every picture with every other state of its noun."""
    pictures = list_pictures(files, settings).pictures
    states = states_of(pictures)
    of_caption = {caption: tuple(p.row_id for p in group) for caption, group in by_caption(pictures).items()}
    queries = [
        Query(p, state, target, of_caption[target], p.kept[2], p.text, target)
        for p in pictures
        for state in states[p.kept[2]]
        if state != p.kept[1]
        for target in (f"{state} {p.kept[2]}",)
    ]
    return query_table(queries, files, {})


@dataclass(frozen=True)
class MitStatesPairs:
    """Training pairs: a picture, and a state of its noun, its own included."""

    pictures: list[Picture]

    @cached_property
    def _states(self) -> dict[str, list[str]]:
        return states_of(self.pictures)

    @cached_property
    def _of_caption(self) -> dict[str, list[Picture]]:
        return by_caption(self.pictures)

    @property
    def texts(self) -> list[str]:
        """The texts that the vocabulary is built from: the caption of every picture."""
        return [p.text for p in self.pictures]

    def targets(self, source: int) -> list[tuple[str, str]]:
        """(target caption, text) of every pair that may be drawn; none where a noun has one state only."""
        _, _, noun = self.pictures[source].kept
        states = self._states[noun]
        return [(f"{state} {noun}", state) for state in states] if len(states) > 1 else []

    def draws(self, order: Iterable[int], rng: random.Random) -> Iterator[Pair]:
        """One pair for each number in `order`. As published, two successive pairs share their source and differ in
        their state, so every second number is not used. A source whose noun has one state is replaced by chance."""
        last: tuple[int, str] | None = None
        for number in order:
            source, other = (number, None) if last is None else last
            while not self.targets(source):
                source = rng.randrange(len(self.pictures))
            caption, state = rng.choice([t for t in self.targets(source) if t[1] != other])
            last = (source, state) if last is None else None
            target = rng.choice(self._of_caption[caption])
            yield Pair(self.pictures[source].row_id, target.row_id, state, caption, caption)


def read_pairs(files: DatasetFiles, settings: ManifestSettings) -> MitStatesPairs:
    """The training pairs of the split.

    Raises:
        ManifestError: no noun has two states.
    """
    pairs = MitStatesPairs(list_pictures(files, settings).pictures)
    if not any(len(states) > 1 for states in pairs._states.values()):
        raise ManifestError(f"manifest.path: {files.root}: no noun has two states, so there is no pair to train on")
    return pairs
