"""The survey's page: sentences that may be quoted, tables, hostile names, and a look in the browser."""

import pytest

from aistudio.metrics.survey import analyse_pairs, analyse_ranks
from aistudio.reports.page import Site
from aistudio.reports.survey import sentence, survey_files, warnings
from tests.metrics.test_preference import columns_of, shared
from tests.reports.test_questionnaire import HOSTILE, browser, page  # noqa: F401  (fixtures)

SITE = Site("Survey", "answers", "complete", "2026-11-26", ("survey",))


def choices(rows):
    names = ("respondent", "question", "group", "left", "right", "choice")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def many(share, people=6, questions=20, a="new", b="old"):
    """Every question has one answer of each person; the first `share` of the questions go to a."""
    won, rows = round(share * questions), []
    for r in range(people):
        for q in range(questions):
            sides = (a, b) if (q + r) % 2 else (b, a)
            choice = a if (q < won) ^ (q % 7 == r) else b  # now and then somebody disagrees
            rows.append((f"r{r}", f"q{q}", "wild" if q % 2 else "shop", *sides, choice))
    return choices(rows)


def test_a_clear_preference_is_said_and_for_whom():
    text = sentence(analyse_pairs(many(0.9), samples=0).pairs[0])
    assert text.startswith("new was preferred to old in ") and "by question" in text
    assert text.endswith("people prefer new, also for other query images.")
    other = sentence(analyse_pairs(many(0.1), samples=0).pairs[0])
    assert other.startswith("old was preferred to new in ") and "people prefer old" in other


def test_a_share_that_questions_do_not_decide_is_not_sold():
    pair = analyse_pairs(many(0.65), samples=0).pairs[0]
    assert pair.share.sign_test_p < 0.05 and sentence(pair).endswith(
        "for other query images the answers do not decide."
    )
    assert any("design effect" in w for w in warnings(analyse_pairs(many(0.6), samples=0)))


def test_sentences_without_an_interval():
    tied = choices([("r", "q", "", "a", "b", "tie")])
    assert sentence(analyse_pairs(tied, samples=0).pairs[0]).startswith("Nobody decided between a and b (1 answers")
    same = choices([(f"r{i}", f"q{j}", "", "a", "b", "a") for i in range(4) for j in range(12)])
    found = analyse_pairs(same, samples=0)
    assert "there is no interval" in sentence(found.pairs[0]) and "sign test over" in sentence(found.pairs[0])
    said = warnings(found)
    assert any("Only 4 respondents" in w for w in said) and any("0.5 was added" in w for w in said)


def test_the_jewellery_projects_sentence():
    columns = columns_of(shared("survey/seed_segmented.csv"))
    found = analyse_ranks(columns, ["triplet", "vae", "random"], samples=0)
    assert sentence(found.pairs[0]) == (
        "vae was preferred to triplet in 58.0% of 1,260 decided answers to 30 questions "
        "(95 % interval by question 47.6% to 68.5%, p = 0.128): for other query images the answers do not decide."
    )
    assert "people prefer vae" in sentence(found.pairs[2])


def test_files_of_both_kinds():
    files = survey_files(SITE, analyse_pairs(many(0.8), samples=5), None, {})
    html = files["survey.html"].decode()
    assert "quote this" in html and "shop minus wild" in html and "Plackett" not in html
    lines = files["data/survey-pairs.csv"].decode("utf-8-sig").splitlines()
    assert len(lines) == 5 and lines[0].startswith("a,b,answers")
    ranks = {
        "respondent": ["r", "r", "s", "s"],
        "question": ["q"] * 4,
        "system": ["a", "b"] * 2,
        "rank": ["1", "2", "2", "1"],
    }
    html = survey_files(SITE, analyse_ranks(ranks, samples=5), None, {})["survey.html"].decode()
    assert "Plackett-Luce" in html and "Friedman" in html


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
def test_the_page_opens_quietly_with_hostile_names(page, tmp_path, width):  # noqa: F811
    from aistudio.catalogue.answers import RejectedAnswer
    from aistudio.metrics.survey import FailedCheck

    result = analyse_pairs(many(0.6, a=HOSTILE, b="old"), samples=5)
    facts = {"failed": [FailedCheck(HOSTILE, [HOSTILE])], "rejected": [RejectedAnswer(HOSTILE, 3, HOSTILE)]}
    for name, content in survey_files(SITE, result, result, facts).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    page.set_viewport_size({"width": width, "height": 850})
    page.goto((tmp_path / "survey.html").as_uri())
    page.wait_for_selector("[data-figure] svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.__pwned") is None and page.problems == []
