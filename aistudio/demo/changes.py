"""Changes that a drawn picture can be asked for: "the same place at night", "without people", "in the snow", "closer".

What a picture shows is known (draw.Attributes), so the right answers are, too: the other pictures of the sight that
show what was asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from aistudio.demo.draw import Attributes
from aistudio.demo.texts import LIGHT_WORDS, WEATHER_WORDS

CLOSER = 0.1  # of Attributes.subject_size: a difference that one sees
_FORMS = ("{}", "the same place {}", "this place {}", "but {}", "now {}")

Holds = Callable[[Attributes, Attributes], bool]


@dataclass(frozen=True)
class Change:
    """One thing to ask for."""

    kind: str  # hour, weather, passers-by, composition
    name: str  # within the kind
    texts: tuple[str, ...]  # ways of saying it; the first is the plainest
    holds: Holds  # (reference, other): whether the other picture shows what was asked for

    def can_be_asked(self, reference: Attributes) -> bool:
        """Whether the reference does not show it already."""
        return not self.holds(reference, reference)


def _said(*words: str) -> tuple[str, ...]:
    return tuple(form.format(word) for word in words for form in _FORMS)


def _light(name: str) -> Change:
    return Change("hour", name, _said(LIGHT_WORDS[name][1]), lambda _, other: other.light == name)


def _weather(name: str) -> Change:
    return Change("weather", name, _said(WEATHER_WORDS[name][1]), lambda _, other: other.weather == name)


CHANGES: tuple[Change, ...] = (
    *(_light(name) for name in LIGHT_WORDS),
    *(_weather(name) for name in WEATHER_WORDS),
    Change("passers-by", "none", _said("without people", "without passers-by"), lambda _, other: not other.num_people),
    Change("passers-by", "some", _said("with people", "with passers-by"), lambda _, other: other.num_people > 0),
    Change(
        "composition", "closer", _said("closer", "from closer up"),
        lambda reference, other: other.subject_size >= reference.subject_size + CLOSER,
    ),
    Change(
        "composition", "farther", _said("from farther away", "smaller"),
        lambda reference, other: other.subject_size <= reference.subject_size - CLOSER,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A picture, what is asked of it, and the pictures that are right; all are numbers in the list of pictures."""

    reference: int
    change: Change
    right: tuple[int, ...]


def questions(pictures: Iterable[tuple[str, Attributes]]) -> Iterator[Asked]:
    """Every question that has an answer, in the order of the pictures.

    Args:
        pictures: the sight and what is shown, of each.
    """
    listed = list(pictures)
    of_sight: dict[str, list[int]] = {}
    for number, (sight, _) in enumerate(listed):
        of_sight.setdefault(sight, []).append(number)
    for number, (sight, shown) in enumerate(listed):
        others = [(i, listed[i][1]) for i in of_sight[sight] if i != number]
        for change in CHANGES:
            right = tuple(i for i, other in others if change.holds(shown, other))
            if right and change.can_be_asked(shown):
                yield Asked(number, change, right)
