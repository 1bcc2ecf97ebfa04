"""What is written about the pictures: titles of offers, captions with hour and weather, and the words in them."""

import random

from aistudio.demo.draw import Attributes
from aistudio.demo.sights import SIGHTS, Sight

LIGHT_WORDS = {
    "day": ("白天", "by day"),
    "morning": ("清晨", "in the morning"),
    "sunset": ("日落", "at sunset"),
    "dusk": ("黄昏", "at dusk"),
    "night": ("夜晚", "at night"),
}
WEATHER_WORDS = {
    "clear": ("晴天", "in clear weather"),
    "cloudy": ("多云", "under clouds"),
    "rain": ("下雨", "in the rain"),
    "snow": ("下雪", "in the snow"),
    "fog": ("雾", "in the fog"),
}
OFFERS = (
    ("一日游", "day tour"),
    ("门票", "tickets"),
    ("酒店自由行", "hotel package"),
    ("跟团游三天两晚", "group tour"),
    ("亲子游", "family trip"),
)


def names_of(sight: Sight) -> tuple[str, str, str]:
    """The three ways in which a sight is written: both names, Chinese, English."""
    return sight.name, sight.zh, sight.en


def offer_title(sight: Sight, rng: random.Random) -> str:
    """Title of an offer that shows this sight, e.g. 西湖一日游 West Lake day tour."""
    zh, en = rng.choice(OFFERS)
    return f"{sight.zh}{zh} {sight.en} {en}"


def offer_texts(sight: Sight, rng: random.Random) -> tuple[str, str]:
    """Title and comma-joined POI names of an offer: mostly the sight, sometimes a second POI, sometimes none."""
    title, kind = offer_title(sight, rng), rng.random()
    if kind < 0.15:
        return title, ""
    if kind < 0.75:
        return title, rng.choice(names_of(sight)[:2])
    other = rng.choice([s for s in SIGHTS if s is not sight])
    return title, ",".join(rng.sample((sight.name, other.name), 2))


def caption(sight: Sight, shown: Attributes, rng: random.Random) -> tuple[str, str | None, str | None]:
    """A text for one picture: (text, light it speaks of, weather it speaks of); None: the text leaves it open."""
    kind = rng.random()
    if kind < 0.55:
        return rng.choice(names_of(sight)), None, None
    if kind < 0.65:
        return offer_title(sight, rng), None, None
    name = rng.choice((sight.zh, sight.en))
    lang = 0 if name == sight.zh else 1
    light, weather = LIGHT_WORDS[shown.light][lang], WEATHER_WORDS[shown.weather][lang]
    if kind < 0.78:
        return f"{name} {light}", shown.light, None
    if kind < 0.9:
        return f"{name} {weather}", None, shown.weather
    return f"{name} {light} {weather}", shown.light, shown.weather


def vocabulary() -> list[str]:
    """Tokens of a BERT vocab.txt that covers every text above: specials, single characters, lower-case words.

    A word outside falls apart into letters (both as beginnings and as `##` continuations); a Chinese character
    outside is [UNK].
    """
    texts = [name for sight in SIGHTS for name in names_of(sight)]
    texts += [word for table in (LIGHT_WORDS, WEATHER_WORDS) for pair in table.values() for word in pair]
    texts += [word for pair in OFFERS for word in pair]
    words, characters = set[str](), set[str]()
    for text in texts:
        for word in text.lower().replace("'", " ").split():
            if word.isascii():
                words.add(word)
            else:
                characters.update(word)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    singles = sorted(characters | set(letters) | set(",.'-!?&·，。、"))
    long_words = sorted(word for word in words if len(word) > 1)
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *singles, *(f"##{x}" for x in letters), *long_words]
