"""Guesses which columns of an unknown manifest are which, from their names and some of their values."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif)([?#].*)?$", re.IGNORECASE)
_ADDRESS = re.compile(r"(https?|s3|file):/", re.IGNORECASE)
_SEPARATORS = ("|", ";", ",", "\n", " ")
_NUMBERED = re.compile(r"(.*?)[_ -]?\d+")
# Words of a column's name, best first.
_IMAGE_NAMES = ("image", "img", "photo", "picture", "pic", "thumbnail", "url", "src", "link", "图片", "图")
_ID_NAMES = ("item_id", "sku", "product_id", "item", "asin", "product", "goods", "article", "spu", "id", "code", "编号")
_TEXT_NAMES = ("title", "name", "text", "caption", "headline", "description", "query", "标题", "名称", "描述")
_MOSTLY = 0.5  # of the values that are not empty
_SURE = 0.7  # of a name, where there are no values


class Guess(NamedTuple):
    """Manifest columns for ours; empty or None where none looks like it."""

    images: tuple[str, ...]
    item_id: str | None
    text: str | None
    separator: str | None  # between several addresses in one field


def guess(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Guess:
    """Return the likely columns; `rows` are some of the manifest's records by column name."""
    values = {name: [row[name] for row in rows if row.get(name) not in (None, "")] for name in names}
    images = _images(names, values)
    rest = [name for name in names if name not in images]
    item_id = max(rest, key=lambda name: _id_score(name, values[name], rest), default=None)
    if item_id is not None and _id_score(item_id, values[item_id], rest) <= 0:
        item_id = None
    rest = [name for name in rest if name != item_id]
    text = max(rest, key=lambda name: _text_score(name, values[name]), default=None)
    if text is not None and _text_score(text, values[text]) <= 0:
        text = None
    separator = _separator(values[images[0]]) if len(images) == 1 else None
    return Guess(images, item_id, text, separator)


def _named(name: str, words: Sequence[str]) -> float:
    """How well a name fits, 1 to 0: as a whole, as a part; earlier words better."""
    plain = name.strip().lower()
    for i, word in enumerate(words):
        if plain == word:
            return 1 - i / 100
    parts = re.split(r"[^\w]+|_", plain)
    for i, word in enumerate(words):
        if word in parts or (not word.isascii() and word in plain):
            return 0.8 - i / 100
    return next((0.4 - i / 100 for i, word in enumerate(words) if word in plain), 0.0)


def _images(names: Sequence[str], values: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """The best column of pictures, with its sisters (img_1, img_2) where it has a number."""
    shares = {name: _share(values[name], _is_picture) for name in names}
    empty = {name for name in names if not values[name] and _named(name, _IMAGE_NAMES) > _SURE}
    fitting = [name for name in names if shares[name] >= _MOSTLY or name in empty]
    if not fitting:
        return ()
    endings = {name: _share(values[name], lambda v: bool(_PICTURE.search(_first(v)))) >= _MOSTLY for name in fitting}
    best = max(fitting, key=lambda n: (endings[n], shares[n] >= _MOSTLY, _named(n, _IMAGE_NAMES), -names.index(n)))
    if match := _NUMBERED.fullmatch(best):
        sisters = [n for n in fitting if (m := _NUMBERED.fullmatch(n)) and m[1] == match[1]]
        return tuple(sisters)
    return (best,)


def _first(value: Any) -> str:
    """The first address in a field, be it a list or text with separators."""
    while isinstance(value, list | tuple):
        value = value[0] if value else ""
    text = value.strip() if isinstance(value, str) else ""
    return text if _PICTURE.search(text) and not _ADDRESS.match(text) else re.split(r"[|;,\s]", text, maxsplit=1)[0]


def _is_picture(value: Any) -> bool:
    first = _first(value)
    return bool(_ADDRESS.match(first) or _PICTURE.search(first))


def _share(values: Sequence[Any], holds: Any) -> float:
    return sum(map(holds, values)) / len(values) if values else 0.0


def _separator(values: Sequence[Any]) -> str | None:
    """Guess the separator between several addresses in one field."""
    texts = [v for v in values if isinstance(v, str)]
    for separator in _SEPARATORS:
        if any(len([p for p in t.split(separator) if _is_picture(p.strip())]) > 1 and separator in t for t in texts):
            parts = [p.strip() for t in texts for p in t.split(separator) if p.strip()]
            if all(_ADDRESS.match(p) or _PICTURE.search(p) for p in parts):
                return separator
    return None


def _id_score(name: str, values: Sequence[Any], names: Sequence[str]) -> float:
    scalars = [v for v in values if isinstance(v, str | int) and not isinstance(v, bool)]
    if values and len(scalars) < len(values):
        return 0.0
    texts = [str(v) for v in scalars]
    if any(len(t) > 200 or _ADDRESS.match(t) for t in texts):
        return 0.0
    distinct = len(set(texts)) / len(texts) if texts else 0.0
    return _named(name, _ID_NAMES) + 0.2 * distinct + (0.1 if name == names[0] else 0.0)


def _text_score(name: str, values: Sequence[Any]) -> float:
    texts = [v for v in values if isinstance(v, str)]
    if not texts or len(texts) < len(values) or _share(texts, _is_picture) >= _MOSTLY:
        return 0.0
    words = _share(texts, lambda t: any(c.isalpha() for c in t) and (len(t.split()) > 1 or not t.isascii()))
    named = _named(name, _TEXT_NAMES)
    return named + words if named or words >= _MOSTLY else 0.0
