"""A questionnaire on which recommendations people prefer: one folder that opens from disk, without a server.

One question a page: the query, and unlabelled lists in an order that the seed in the address decides. Answers stay in
the browser and are downloaded as CSV, each with the systems that filled its lists, so that nothing has to be decoded
later. Two attention checks: the query's own picture against a random one, and an earlier question with sides swapped.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aistudio.reports.page import assets, standalone
from aistudio.reports.safe import clip, script_data

Mode = Literal["pairs", "ranks"]
COPY, RANDOM = "copy", "random"  # systems of the attention check
MAX_SYSTEMS = 5
TEXT_CHARS = 200
CONSENT = (
    "You will see a picture and lists of things that were found for it. Say which list you would rather be shown. "
    "There is no right answer. Nothing about you is recorded but your answers; they stay in this browser until you "
    "download them and send the file. You may stop at any time and go on later."
)
ASSETS = ("app.css", "survey.css", "theme.js", "app.js", "survey.js")


@dataclass(frozen=True)
class Shown:
    """A picture on a page: its path inside the folder, and a text for those who do not see it."""

    path: str
    alt: str = ""


@dataclass(frozen=True)
class Question:
    """A query and what each system recommends for it, best first."""

    id: str
    group: str
    query: Shown
    lists: Mapping[str, Sequence[Shown]]


@dataclass(frozen=True)
class Questionnaire:
    """All that a survey needs.

    mode: `pairs` compares two lists at a time (every two systems under every question), `ranks` 2 to 5 at once.
    random_picture: shown against the query's own picture in the attention check; None: no such check.
    """

    title: str
    mode: Mode
    questions: Sequence[Question]
    random_picture: Shown | None = None
    repeat_check: bool = True
    consent: str = CONSENT
    ask: str = "Which recommendations do you prefer?"


def questionnaire_files(survey: Questionnaire, pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """Make the questionnaire's folder: path inside it -> bytes.

    Args:
        pictures: path -> file of every picture that a question shows.

    Raises:
        ValueError: no question, fewer than two systems or more than five, questions with different systems or equal
            ids, names that the answer files use for something else, or a picture that is not given.
    """
    _check(survey, pictures)
    data = {
        "id": _identity(survey),
        "title": clip(survey.title, TEXT_CHARS),
        "mode": survey.mode,
        "ask": survey.ask,
        "consent": survey.consent,
        "pages": pages(survey),
    }
    out = {name: content for name, content in assets().items() if name in ASSETS}
    return {
        "index.html": standalone("questionnaire", title=survey.title, ask=survey.ask, consent=survey.consent),
        "data/questionnaire.js": script_data("questionnaire", data),
        **{f"assets/{name}": content for name, content in out.items()},
        **dict(pictures),
    }


def pages(survey: Questionnaire) -> list[dict[str, Any]]:
    """List the pages in the order of the questions, checks last; the browser shuffles them."""
    size = 2 if survey.mode == "pairs" else None
    found = []
    for question in survey.questions:
        for systems in itertools.combinations(question.lists, size or len(question.lists)):
            lists = {system: [asdict(s) for s in question.lists[system]] for system in systems}
            found.append(_page(question, lists, ""))
    if survey.repeat_check:
        found.append({**found[0], "check": "repeat"})
    if survey.random_picture is not None:
        query = survey.questions[len(survey.questions) // 2]
        lists = {COPY: [asdict(query.query)], RANDOM: [asdict(survey.random_picture)]}
        found.append(_page(query, lists, "copy"))
    return found


def _page(question: Question, lists: dict[str, list[dict[str, str]]], check: str) -> dict[str, Any]:
    query = asdict(question.query)
    right = COPY if check == "copy" else ""
    return {
        "question": question.id,
        "group": question.group,
        "query": query,
        "lists": lists,
        "check": check,
        "right": right,
    }


def _check(survey: Questionnaire, pictures: Mapping[str, bytes]) -> None:
    if not survey.questions:
        raise ValueError("questionnaire: no questions")
    systems = list(survey.questions[0].lists)
    if not 2 <= len(systems) <= MAX_SYSTEMS:
        raise ValueError(f"questionnaire: {len(systems)} systems; expected 2 to {MAX_SYSTEMS}")
    reserved = {"tie", COPY, ""} & set(systems)
    if reserved:
        raise ValueError(f"questionnaire: a system cannot be called {reserved.pop()!r}; answer files use that word")
    ids = [q.id for q in survey.questions]
    if len(set(ids)) != len(ids):
        raise ValueError("questionnaire: two questions have the same id")
    for question in survey.questions:
        if list(question.lists) != systems:
            raise ValueError(f"question {question.id}: systems {list(question.lists)}, expected {systems}")
        if not all(question.lists.values()):
            raise ValueError(f"question {question.id}: a system recommends nothing; leave the question out")
    shown = [survey.random_picture] if survey.random_picture else []
    shown += [s for q in survey.questions for s in [q.query, *itertools.chain(*q.lists.values())]]
    missing = sorted({s.path for s in shown} - set(pictures))
    if missing:
        raise ValueError(f"questionnaire: {len(missing)} pictures are not given, the first is {missing[0]}")


def _identity(survey: Questionnaire) -> str:
    """Tells one survey's stored answers from another's in the same browser."""
    return hashlib.sha256(json.dumps([survey.title, pages(survey)], sort_keys=True).encode()).hexdigest()[:12]
