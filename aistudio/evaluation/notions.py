"""What makes two images similar, row by row: values of the columns of metrics.relevant_by, as numbers.

A row without a usable value (none, NaN, blanks, a list, a very long text) is ignored where that column says what is
right: it neither asks nor stands in a gallery, and is counted. Leaves out: protocols and rankings (notion_ranks.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.evaluation.definition import digest_rows
from aistudio.evaluation.queries import PICTURE
from aistudio.evaluation.scan import hashes
from aistudio.schema import has_text
from aistudio.search.exact import Gallery
from aistudio.search.pairs import Ints
from aistudio.search.searched import passes, texts_of, where_of

NONE = -1  # a row without a usable value
MAX_CHARS = 1_000  # of a value: longer ones are descriptions, not kinds
NO_VALUE, NOT_PLAIN, TOO_LONG = (
    "no value",
    "a list or another nested value",
    f"a text of more than {MAX_CHARS:,} characters",
)
_PLAIN = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_boolean, pa.types.is_integer,
    pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal,
)  # fmt: skip


@dataclass
class Notion:
    """A column that says what is right."""

    column: str
    label_N: Ints  # number of the row's value among `names`, NONE without one
    names: list[str]
    ignored: Counter[str]  # rows without a usable value, by reason
    digest: str = ""  # of who has which value, whatever the order of rows and files

    @property
    def key(self) -> str:
        """The column as a metric's name begins with it."""
        return self.column.replace("/", "_")


@dataclass
class LabelledRows:
    """The N rows of a gallery, in its order; items and pictures as numbers from 0."""

    id_N: Ints
    item_N: Ints
    picture_N: Ints
    hash_N: NDArray[np.uint64]  # which rows a sample takes first
    asks_N: NDArray[np.bool_]  # passes metrics.query_where
    searched_N: NDArray[np.bool_]  # passes metrics.gallery_where
    width: int  # of a vector
    notions: list[Notion]


@dataclass
class _Coder:
    """Numbers texts in the order of their first occurrence; null is NONE."""

    names: dict[str, int] = field(default_factory=dict)
    parts: list[Ints] = field(default_factory=lambda: [np.empty(0, np.int64)])

    def add(self, texts: pa.Array) -> None:
        found = texts.dictionary_encode()
        code = np.array([self.names.setdefault(t, len(self.names)) for t in found.dictionary.to_pylist()], np.int64)
        place = found.indices.fill_null(NONE).to_numpy(zero_copy_only=False)
        self.parts.append(np.append(code, NONE)[place])

    @property
    def codes(self) -> Ints:
        return np.concatenate(self.parts)


def read_rows(gallery: Gallery, settings: MetricsSettings) -> LabelledRows:
    """Read what protocols need of each row of the gallery, about 50 bytes a row and 8 for each column.

    Raises:
        ConfigError: a column of relevant_by, query_where or gallery_where does not exist. StoreError: a damaged file.
    """
    columns = list(dict.fromkeys(settings.relevant_by))
    asks, searched = where_of(settings.query_where), where_of(settings.gallery_where)
    for name in ("relevant_by", "query_where", "gallery_where"):
        _check(gallery, f"metrics.{name}", list(getattr(settings, name)))
    wanted = ["row_id", "item_id", "image_url", *PICTURE, *columns, *(c for c, _ in (*asks, *searched))]
    coders = {name: _Coder() for name in ("item", "picture", *(f"={c}" for c in columns))}
    ignored: dict[str, Counter[str]] = {c: Counter() for c in columns}
    digest = dict.fromkeys(columns, 0)
    ids, hashed, asking, open_ = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], [_no()], [_no()]
    width = 1
    for block in gallery.blocks(gallery.files, settings.block_rows, list(dict.fromkeys(wanted))):
        values, num, width = block.values, len(block.ids_N), block.rows_ND.shape[1]
        row_ids = pd.Series(values["row_id"].to_pylist(), dtype=object)
        urls = pd.Series(values["image_url"].to_pylist(), dtype=object)
        ids.append(block.ids_N)
        hashed.append(hashes(row_ids, settings.seed))
        asking.append(passes(values, asks, num))
        open_.append(passes(values, searched, num))
        coders["item"].add(values["item_id"])
        coders["picture"].add(pc.coalesce(*(values[c] for c in PICTURE)))
        for column in columns:
            texts, reasons = usable_texts(values[column])
            coders[f"={column}"].add(texts)
            ignored[column] += reasons
            part = digest_rows(row_ids, urls, pd.Series(texts.fill_null("").to_pylist(), dtype=object))
            digest[column] = (digest[column] + part.items) % 2**64
    notions = [
        Notion(c, coders[f"={c}"].codes, list(coders[f"={c}"].names), ignored[c], f"{digest[c]:016x}") for c in columns
    ]
    return LabelledRows(
        np.concatenate(ids), coders["item"].codes, coders["picture"].codes, np.concatenate(hashed),
        np.concatenate(asking), np.concatenate(open_), width, notions,
    )  # fmt: skip


def usable_texts(column: pa.Array) -> tuple[pa.Array, Counter[str]]:
    """Return the values as texts (3.0 is "3"), null where they say nothing, and how many those are by reason.

    >>> usable_texts(pa.array(["ring", " ", None, "x" * 1001]))[0].to_pylist()
    ['ring', None, None, None]
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type) if any(test(kind.value_type) for test in _PLAIN) else column
        kind = column.type
    missing = column.is_null(nan_is_null=True) if pa.types.is_floating(kind) else column.is_null()
    num_missing = pc.sum(missing).as_py() or 0
    if not any(test(kind) for test in _PLAIN):
        found = {NO_VALUE: num_missing, NOT_PLAIN: len(column) - num_missing}
        return pa.nulls(len(column), pa.string()), Counter({reason: n for reason, n in found.items() if n})
    texts = texts_of(column)
    says = pc.and_(has_text(texts), pc.invert(missing))
    long = pc.and_(says, pc.fill_null(pc.greater(pc.utf8_length(texts), MAX_CHARS), False))
    num_long = pc.sum(long).as_py() or 0
    num_none = len(column) - (pc.sum(says).as_py() or 0)
    kept = pc.if_else(pc.and_(says, pc.invert(long)), texts, pa.scalar(None, pa.string()))
    found = {NO_VALUE: num_none, TOO_LONG: num_long}
    return kept, Counter({reason: n for reason, n in found.items() if n})


def codes_of(notion: Notion, values: Sequence[str | None]) -> Ints:
    """Return the numbers of some values of a notion; those that no row has are left out."""
    place: Mapping[str, int] = {name: i for i, name in enumerate(notion.names)}
    return np.array([place[v] for v in values if v is not None and v in place], np.int64)


def _no() -> NDArray[np.bool_]:
    return np.empty(0, np.bool_)


def _check(gallery: Gallery, setting: str, columns: Sequence[str]) -> None:
    """Raises ConfigError where a file lacks a column."""
    for _, key in gallery.files if columns else ():
        has = gallery.store.read_metadata(key)[0].names
        if missing := [c for c in columns if c not in has]:
            known = ", ".join(c for c in has if c not in ("embedding", "thumbnail"))
            raise ConfigError(f"{setting}: {missing[0]} is not a column of {gallery.store.path(key)}; known: {known}")
