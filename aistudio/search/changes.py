"""What kind of change a composed query asks for: a colour, another state, another noun.

A table's own column `change` says it. Else MIT-States asks for states; where the captions of source and target are
known (Fashion200k), the words in which they differ tell; elsewhere a colour's name in the text does.
"""

from collections.abc import Mapping

COLOUR, STATE, NOUN, OTHER = "colour", "state", "noun", "other"
COLUMN = "change"
# fmt: off
COLOURS = frozenset((
    "amber", "aqua", "beige", "black", "blue", "bronze", "brown", "burgundy", "camel", "charcoal", "color",
    "colored", "colour", "coloured", "coral", "cream", "crimson", "cyan", "gold", "golden", "gray", "green",
    "grey", "indigo", "ivory", "khaki", "lavender", "lilac", "lime", "magenta", "maroon", "mauve", "mint",
    "multicolor", "multicolour", "mustard", "navy", "nude", "ochre", "olive", "orange", "peach", "pink",
    "plum", "purple", "red", "rose", "rust", "scarlet", "silver", "tan", "taupe", "teal", "turquoise",
    "violet", "white", "wine", "yellow"
))
# fmt: on


def kind_of_change(text: str, values: Mapping[str, str | None], dataset: str | None = None) -> str:
    """Name the kind of change: the table's own word, or colour, state, noun, other.

    >>> kind_of_change("replace red with blue", {"source_caption": "red dress", "target_caption": "blue dress"})
    'colour'
    >>> kind_of_change("is longer and NAVY", {})
    'colour'

    Args:
        values: further columns of the query.
    """
    if own := values.get(COLUMN):
        return own
    if dataset == "mitstates":
        return STATE
    source, target = ((values.get(f"{side}_caption") or "").split() for side in ("source", "target"))
    if source and target:
        lost, gained = ([w for w in a if w not in set(b)] for a, b in ((source, target), (target, source)))
        if _has_colour(lost) or _has_colour(gained):
            return COLOUR
        return NOUN if source[-1] in lost or target[-1] in gained else STATE
    return COLOUR if _has_colour(text.split()) else OTHER


def _has_colour(words: list[str]) -> bool:
    return any(word.strip(".,;:!?\"'()").lower() in COLOURS for word in words)
