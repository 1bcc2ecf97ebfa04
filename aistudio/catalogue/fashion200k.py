"""Fashion200k: `labels/*_{train,test}_detect_all.txt`, pictures below `women/`, `test_queries.txt`.

Label lines are `path TAB detection score TAB caption`. A query's text is "replace S with T" of the words in which two
captions differ; every picture with the target's caption is right. Source: the data set class of TIRG's repository.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from aistudio.catalogue._dataset import (
    NO_PICTURE,
    DatasetFiles,
    Listing,
    Pair,
    Picture,
    Queries,
    Query,
    by_caption,
    choose,
    query_table,
    read_lines,
    require_pictures,
)
from aistudio.catalogue.lines import Line
from aistudio.catalogue.table import Reject
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

SPLITS = ("test", "train")
CATEGORIES = ("dress", "jacket", "pants", "skirt", "top")
COLUMNS = ("caption", "category", "detection_score")
QUERIES_FILE = "test_queries.txt"
LAYOUT = f"expected labels/<category>_<split>_detect_all.txt, women/... and {QUERIES_FILE} below it"
MAX_WORDS = 200  # of a caption (published ones: 5 on average): its parents take the square of its length
MARKS = {".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"}
_MARKS = str.maketrans(MARKS)


def list_pictures(files: DatasetFiles, settings: ManifestSettings) -> Listing:
    """Pictures of a split in the order of the label files' names and lines; those that are not there are left out."""
    found, rejects = _labelled(files, settings)
    there = set(files.paths("women"))
    pictures = [picture for _, _, picture in found if picture.path in there]
    missing = [(file, Reject(n, p.path, NO_PICTURE)) for file, n, p in found if p.path not in there]
    require_pictures(pictures, files, LAYOUT)
    return Listing(pictures, rejects + missing)


def _labelled(
    files: DatasetFiles, settings: ManifestSettings
) -> tuple[list[tuple[str, int, Picture]], list[tuple[str, Reject]]]:
    """(file, line number, picture) of every label line of the split, and the lines that cannot be used."""
    split, categories = choose(settings, SPLITS, CATEGORIES)
    labels = [path for path in files.paths("labels") if split in path.rpartition("/")[2]]
    if not labels:
        raise ManifestError(f"manifest.path: {files.root}: not Fashion200k: no label file of {split}; {LAYOUT}")
    found: list[tuple[str, int, Picture]] = []
    rejects: list[tuple[str, Reject]] = []
    seen: set[str] = set()
    for file in labels:
        category = file.rpartition("/")[2].partition("_")[0]
        if settings.categories is not None and category not in categories:
            continue
        for line in read_lines(files, file, settings.encoding):
            picture = _picture(line, category)
            if isinstance(picture, str) or picture.path in seen:
                reason = picture if isinstance(picture, str) else "a picture that is listed twice"
                rejects.append((file, Reject(line.number, line.text.rstrip("\r\n"), reason)))
            else:
                seen.add(picture.path)
                found.append((file, line.number, picture))
    return found, rejects


def _picture(line: Line, category: str) -> Picture | str:
    fields = line.text.rstrip("\r\n").split("\t")
    if line.problem is not None:
        return line.problem
    if len(fields) < 3:
        return f"wrong field count: {len(fields)}, expected 3"
    path, score, caption = fields[0].strip(), fields[1], marked(fields[2])
    num_words = len(caption.split())
    if not path or not num_words:
        return "no path" if not path else "a caption without a word"
    if num_words > MAX_WORDS:
        return f"a caption of more than {MAX_WORDS} words"
    product = path.split("/")[-2] if "/" in path else path
    return Picture(path, path, product, caption, (caption, category, score))


def marked(caption: str) -> str:
    """A caption with four signs written as words, without blanks around them.

    >>> marked(" v.neck top")
    'vdotmarkneck top'
    """
    return caption.strip().translate(_MARKS)


def replacement(source: str, target: str) -> str:
    """ "replace S with T": each the first word that the other caption lacks, or the last one where none is lacking.

    >>> replacement("red mini dress", "red long mini dress")
    'replace dress with long'
    """
    return f"replace {_different(source, target)} with {_different(target, source)}"


def _different(caption: str, other: str) -> str:
    words, others = caption.split(), set(other.split())
    return next((word for word in words if word not in others), words[-1])


def read_queries(files: DatasetFiles, settings: ManifestSettings) -> Queries:
    """The published test queries. One without a picture, or whose target has no picture of its caption, is left out.

    Raises:
        ManifestError: the training split, which has no queries (see `read_pairs`).
    """
    if settings.split == "train":
        raise ManifestError("manifest.split: fashion200k publishes queries of split test only; train has pairs")
    labels = {p.path: p for _, _, p in _labelled(files, settings)[0]}
    there = {p.path for p in list_pictures(files, settings).pictures}
    of_caption = by_caption(p for p in labels.values() if p.path in there)
    queries: list[Query] = []
    left_out: dict[str, int] = {}
    lines = read_lines(files, QUERIES_FILE, settings.encoding)
    for line in lines:
        query = _query(line, labels, there, of_caption, settings)
        if isinstance(query, Query):
            queries.append(query)
        elif query is not None:
            left_out[query] = left_out.get(query, 0) + 1
    return query_table(queries, files, left_out)


def _query(
    line: Line,
    labels: dict[str, Picture],
    there: set[str],
    of_caption: dict[str, list[Picture]],
    settings: ManifestSettings,
) -> Query | str | None:
    """The query of a line, why it is left out, or None for an empty line and one of another category."""
    paths = line.text.split()
    if line.problem is not None or (paths and len(paths) != 2):
        return line.problem or "not a line of two paths"
    if not paths:
        return None
    source, target = (labels.get(path) for path in paths)
    if source is None or target is None:
        return None if settings.categories is not None else "a picture that is not in the labels of split test"
    if source.path not in there:
        return NO_PICTURE
    right = tuple(p.row_id for p in of_caption.get(target.text, ()))
    if not right:
        return "no picture of the target's caption"
    text = replacement(source.text, target.text)
    return Query(source, text, target.text, right, source.kept[1], source.text, target.text)


@dataclass(frozen=True)
class Fashion200kPairs:
    """Training pairs: captions that become equal when one word is taken out of each.

    `labels`: captions of all label lines, those of missing pictures included: the vocabulary must not depend on them.
    """

    pictures: list[Picture]
    labels: list[str]

    @cached_property
    def _of_caption(self) -> dict[str, list[Picture]]:
        return by_caption(self.pictures)

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """Captions of each parent caption, of those parents that have at least two."""
        found: dict[str, dict[str, None]] = {}
        for caption in self._of_caption:
            for parent in parents(caption):
                found.setdefault(parent, {})[caption] = None
        return {parent: list(captions) for parent, captions in found.items() if len(captions) > 1}

    @cached_property
    def _parents(self) -> dict[str, list[str]]:
        """Parents of each caption that can be modified, in the order in which parents were found."""
        found: dict[str, list[str]] = {}
        for parent, captions in self.children.items():
            for caption in captions:
                found.setdefault(caption, []).append(parent)
        return found

    @property
    def texts(self) -> list[str]:
        """The texts that the vocabulary is built from. So "replace" and "with" are unknown words."""
        return self.labels

    def targets(self, source: int) -> list[tuple[str, str]]:
        """(target caption, text) of every pair that may be drawn; none for a caption that cannot be modified."""
        caption = self.pictures[source].text
        others = dict.fromkeys(c for p in self._parents.get(caption, ()) for c in self.children[p] if c != caption)
        return [(other, replacement(caption, other)) for other in others]

    def draws(self, order: Iterable[int], rng: random.Random) -> Iterator[Pair]:
        """One pair for each number in `order`: a parent by chance, a child of it, a picture of that caption. A picture
        whose caption cannot be modified is replaced by chance."""
        for number in order:
            while not (own := self._parents.get(self.pictures[number].text)):
                number = rng.randrange(len(self.pictures))
            source = self.pictures[number]
            while (caption := rng.choice(self.children[rng.choice(own)])) == source.text:
                pass
            target = rng.choice(self._of_caption[caption])
            yield Pair(source.row_id, target.row_id, replacement(source.text, caption), caption, caption)


def parents(caption: str) -> list[str]:
    """A caption with each of its words taken out, every occurrence of it, inside other words too; as published.

    >>> parents("red embroidered dress")
    ['embroide dress', 'red dress', 'red embroidered']
    """
    return [caption.replace(word, "").replace("  ", " ").strip() for word in caption.split()]


def read_pairs(files: DatasetFiles, settings: ManifestSettings) -> Fashion200kPairs:
    """The training pairs of the split.

    Raises:
        ManifestError: no two captions differ in one word.
    """
    labels = [p.text for _, _, p in _labelled(files, settings)[0]]
    pairs = Fashion200kPairs(list_pictures(files, settings).pictures, labels)
    if not pairs.children:
        raise ManifestError(f"manifest.path: {files.root}: no two captions differ in one word: nothing to train on")
    return pairs
