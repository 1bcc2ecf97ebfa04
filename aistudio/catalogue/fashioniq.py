"""FashionIQ: `captions/cap.<category>.<split>.json`, `image_splits/split.<category>.<split>.json`, `all_imgs/<id>.jpg`.

A query is a picture and two captions by different people; one picture is right. Several categories at once make one
gallery, in which an id may come from two lists. Source: the published files; the texts as ComposeAE's code makes them.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aistudio.catalogue._dataset import (
    NO_PICTURE,
    DatasetFiles,
    Listing,
    Pair,
    Picture,
    Queries,
    Query,
    choose,
    query_table,
    require_pictures,
)
from aistudio.catalogue.table import Reject, storable
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

SPLITS = ("val", "train", "test")
CATEGORIES = ("dress", "shirt", "toptee")
COLUMNS = ("categories",)
LAYOUT = "expected captions/cap.<category>.<split>.json, image_splits/split.<category>.<split>.json, all_imgs/<id>.jpg"


def list_pictures(files: DatasetFiles, settings: ManifestSettings) -> Listing:
    """Pictures of the split's lists, each id once; those that are not there are left out.

    The reference lists an id twice that comes from two lists, and drops the second one from every ranking.
    """
    split, categories = choose(settings, SPLITS, CATEGORIES)
    there = set(files.paths("all_imgs"))
    lists: dict[str, list[str]] = {}
    where: dict[str, tuple[str, int]] = {}
    for category in categories:
        file = f"image_splits/split.{category}.{split}.json"
        for number, name in enumerate(_json_list(files, file), 1):
            if not isinstance(name, str) or not name.strip() or storable(name) != name:
                raise ManifestError(f"{files.url(file)}: entry {number} is not an image id: {str(name)[:100]!r}")
            where.setdefault(name, (file, number))
            lists.setdefault(name, []).append(category)
    pictures, rejects = [], []
    for name, of in lists.items():
        path = f"all_imgs/{name}.jpg"
        if path in there:
            pictures.append(Picture(name, path, name, "", (",".join(dict.fromkeys(of)),)))
        else:
            file, number = where[name]
            rejects.append((file, Reject(number, path, NO_PICTURE)))
    require_pictures(pictures, files, LAYOUT)
    return Listing(pictures, rejects)


@dataclass(frozen=True)
class _Entry:
    """One entry of a captions file."""

    source: str
    target: str | None
    text: str
    category: str


def _entries(files: DatasetFiles, settings: ManifestSettings) -> tuple[list[_Entry], dict[str, int]]:
    """Entries of the split's captions files, and how many cannot be used, by reason."""
    split, categories = choose(settings, SPLITS, CATEGORIES)
    entries: list[_Entry] = []
    unusable: dict[str, int] = {}
    for category in categories:
        for value in _json_list(files, f"captions/cap.{category}.{split}.json"):
            entry = _entry(value, category, len(categories) > 1)
            if isinstance(entry, str):
                unusable[entry] = unusable.get(entry, 0) + 1
            else:
                entries.append(entry)
    return entries, unusable


def _entry(value: Any, category: str, combined: bool) -> _Entry | str:
    """An entry, or why it is none. Captions are only joined and lower-cased: blanks stay as they are.

    `combined`: several categories are read as one data set; their name and " and it " are part of the text then.
    """
    if not isinstance(value, dict) or not isinstance(value.get("candidate"), str):
        return "an entry without a candidate"
    captions, target = value.get("captions"), value.get("target")
    if not isinstance(captions, list) or len(captions) != 2 or not all(isinstance(c, str) for c in captions):
        return "an entry without two captions"
    if not isinstance(target, str | None):
        return "an entry whose target is not an image id"
    text = f"{category} {captions[0]} and it {captions[1]}" if combined else f"{captions[0]} {captions[1]}"
    return _Entry(value["candidate"], target, text.lower(), category)


def read_queries(files: DatasetFiles, settings: ManifestSettings) -> Queries:
    """The split's queries; one whose picture or target is missing is left out. `test` has no targets."""
    pictures = {p.row_id: p for p in list_pictures(files, settings).pictures}
    entries, left_out = _entries(files, settings)
    queries = []
    for e in entries:
        source = pictures.get(e.source)
        if source is None or (e.target is not None and e.target not in pictures):
            left_out[NO_PICTURE] = left_out.get(NO_PICTURE, 0) + 1
        else:
            right = None if e.target is None else (e.target,)
            queries.append(Query(source, e.text, None, right, e.category, None, None))
    return query_table(queries, files, left_out)


@dataclass(frozen=True)
class FashionIqPairs:
    """Training pairs: the entries of the captions files.

    `texts`: of all entries, those of missing pictures included: the vocabulary must not depend on them.
    """

    pictures: list[Picture]
    entries: list[Pair]
    texts: list[str]

    def draws(self, order: Iterable[int], rng: random.Random) -> Iterator[Pair]:
        """The entries of these numbers; nothing is left to chance."""
        return (self.entries[number] for number in order)


def read_pairs(files: DatasetFiles, settings: ManifestSettings) -> FashionIqPairs:
    """The training pairs of the split.

    Raises:
        ManifestError: no entry has both pictures.
    """
    pictures = list_pictures(files, settings).pictures
    there = {p.row_id for p in pictures}
    entries, _ = _entries(files, settings)
    pairs = [
        Pair(e.source, e.target, e.text, None, None)
        for e in entries
        if e.target is not None and e.source in there and e.target in there
    ]
    if not pairs:
        raise ManifestError(f"manifest.path: {files.root}: no entry with both pictures: nothing to train on")
    return FashionIqPairs(pictures, pairs, [e.text for e in entries])


def _json_list(files: DatasetFiles, path: str) -> list[Any]:
    """Raises ManifestError where the file is not there or holds no list."""
    try:
        with files.open(path) as stream:
            value = json.load(stream)
    except ManifestError:
        raise ManifestError(f"manifest.path: {files.root}: not FashionIQ: no readable file {path}; {LAYOUT}") from None
    except (ValueError, RecursionError) as e:
        raise ManifestError(f"{files.url(path)}: not JSON: {e}") from None
    if not isinstance(value, list):
        raise ManifestError(f"{files.url(path)}: holds {type(value).__name__}, expected a list; {LAYOUT}")
    return value
