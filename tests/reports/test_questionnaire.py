"""The questionnaire: its files, and answering it in headless Chromium from disk, on a desktop and on a phone."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from aistudio.catalogue.answers import read_answers
from aistudio.metrics.survey import analyse_pairs, analyse_ranks, failed_checks
from aistudio.reports.questionnaire import Question, Questionnaire, Shown, pages, questionnaire_files
from tests.reports.test_browser import FLAGS

CHROMIUM = os.environ.get("AISTUDIO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = '<img src=x onerror="window.__pwned=1">,=1+1\n"quoted"'


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.full((96, 120, 3), rng.integers(120, 256, 3), np.uint8)
    pixels[20:80, 30:90] = rng.integers(0, 200, 3)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def survey(mode="pairs", systems=("vae", "triplet"), count=4, **how):
    shown = {f"pictures/{i}.jpg": picture(i) for i in range(20)}

    def recommended(n, j):
        return [Shown(f"pictures/{(n + 3 * k + 5 * j) % 20}.jpg") for k in range(5)]

    questions = [
        Question(
            f"q{n}",
            "wild" if n % 2 else "shop",
            Shown(f"pictures/{n}.jpg", f"query {n}"),
            {s: recommended(n, j) for j, s in enumerate(systems)},
        )
        for n in range(count)
    ]
    how = {"random_picture": Shown("pictures/19.jpg", "something else")} | how
    return Questionnaire("Which would you buy?", mode, questions, **how), shown


def test_pages_of_both_modes():
    made = pages(survey(systems=("a", "b", "c"))[0])
    assert [p["check"] for p in made] == [""] * 12 + ["repeat", "copy"]  # three pairs under each of four questions
    assert made[-1]["lists"]["copy"][0] == made[-1]["query"] and made[-1]["right"] == "copy"
    ranked = pages(survey("ranks", systems=("a", "b", "c"), random_picture=None, repeat_check=False)[0])
    assert [list(p["lists"]) for p in ranked] == [["a", "b", "c"]] * 4


def test_wrong_questionnaires_are_refused():
    good, shown = survey()
    cases = [
        (survey(systems=("a",))[0], shown, "1 systems"),
        (survey(systems=("a", "tie"))[0], shown, "'tie'"),
        (survey(count=0)[0], shown, "no questions"),
        (good, {k: v for k, v in shown.items() if "19" not in k}, "1 pictures are not given"),
        (Questionnaire("t", "pairs", [*good.questions, good.questions[0]]), shown, "same id"),
        (
            Questionnaire("t", "pairs", [Question("x", "g", Shown("pictures/0.jpg"), {"a": [], "b": []})]),
            shown,
            "nothing",
        ),
    ]
    for asked, given, message in cases:
        with pytest.raises(ValueError, match=message):
            questionnaire_files(asked, given)


def test_hostile_texts_stay_text():
    files = questionnaire_files(Questionnaire(HOSTILE, "pairs", survey()[0].questions, consent=HOSTILE), survey()[1])
    assert b"<img src=x" not in files["index.html"] and b"<img" not in files["data/questionnaire.js"]
    body = files["data/questionnaire.js"].decode().removeprefix('AIStudio.receive("questionnaire",')[:-3]
    assert json.loads(body)["consent"] == HOSTILE


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no chromium here (set AISTUDIO_CHROMIUM)")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=60_000)
        yield running
        running.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1300, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    p = context.new_page()
    p.problems = []
    p.on("console", lambda m: p.problems.append(m.text) if m.type in ("error", "warning") else None)
    p.on("pageerror", lambda e: p.problems.append(str(e)))
    p.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else p.problems.append(r.url))
    yield p
    context.close()


def written(folder, made):
    for name, content in questionnaire_files(*made).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return (folder / "index.html").resolve().as_uri()


def downloaded(page, folder, name="answers.csv"):
    with page.expect_download() as waiting:
        page.click("[data-download]")
    waiting.value.save_as(folder / name)
    return read_answers(folder / name)


def count(page) -> str:
    return page.inner_text("[data-count]")


@pytest.mark.browser
def test_pairs_by_keyboard_with_a_reload_in_the_middle(page, tmp_path):
    address = written(tmp_path / "site", survey())
    page.goto(address + "?seed=7")
    page.keyboard.press("Enter")  # the focus is on "I agree"
    asked = []
    keys = ["ArrowLeft", "b", "0", "ArrowRight", "1", "2"]
    for number, key in enumerate(keys):
        assert count(page) == f"{number + 1} of 6"
        asked.append(page.get_attribute(".ask img", "alt"))
        if number == 3:
            page.reload()
            page.wait_for_selector(".ask")
            assert count(page) == "4 of 6"  # answers and place survive
        page.keyboard.press(key)
    page.fill("#comment", HOSTILE)
    table = downloaded(page, tmp_path)
    assert table.kind == "pairs" and not table.rejected and len(table) == 6
    columns = table.columns
    assert set(columns["respondent"]) == {"r7"} and set(columns["comment"]) == {HOSTILE}
    want = [{"ArrowLeft": "left", "1": "left", "0": None}.get(k, "right") for k in keys]
    assert [
        c == "tie" if w is None else c == columns[w][i]
        for i, (w, c) in enumerate(zip(want, columns["choice"], strict=True))
    ]
    for i, w in enumerate(want):
        assert columns["choice"][i] == ("tie" if w is None else columns[w][i])
    assert [f"query {q[1:]}" for q in columns["question"]] == asked
    repeat = columns["check"].index("repeat")
    first = columns["question"].index(columns["question"][repeat])
    if not columns["check"][first]:
        assert (columns["left"][repeat], columns["right"][repeat]) == (columns["right"][first], columns["left"][first])
    assert columns["right_answer"][columns["check"].index("copy")] == "copy"
    ordinary = table.where([not c for c in columns["check"]])
    assert analyse_pairs(ordinary.columns, samples=0).pairs[0].share.num_answers == 4
    assert isinstance(failed_checks(columns), list) and page.problems == []


@pytest.mark.browser
def test_order_and_sides_come_from_the_seed(page, tmp_path):
    address = written(tmp_path / "site", survey(count=6, random_picture=None, repeat_check=False))

    def answered(seed):
        page.goto(f"{address}?seed={seed}")
        page.click("text=I agree")
        for _ in range(6):
            page.click("[data-choose='0']")
        columns = downloaded(page, tmp_path, f"{seed}.csv").columns
        return list(zip(columns["question"], columns["left"], strict=True))

    found = [answered(seed) for seed in range(5)]
    assert len({tuple(q for q, _ in f) for f in found}) > 1
    sides = [left for f in found for _, left in f]
    assert 5 < sides.count("vae") < 25  # neither system always stands on the left
    page.evaluate("localStorage.clear()")
    assert answered(0) == found[0] and page.problems == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ranks_by_touch_on_any_screen(page, tmp_path, width, scheme):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    made = survey("ranks", systems=("vae", "triplet", "random"), count=3)
    page.goto(written(tmp_path / "site", made) + "?seed=3")
    page.click("text=I agree")
    for number in range(5):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        lists = page.locator(".choice").count()
        if number == 1:
            page.click("[data-tie]")
            page.click("text=Back")
        assert page.locator("[data-next]").is_disabled() or number == 1
        for i in range(lists):
            page.locator(f"input[name=rank-{i}][value='{lists - i}']").check()
        page.click("[data-next]")
    table = downloaded(page, tmp_path)
    assert table.kind == "ranks" and not table.rejected
    ordinary = table.where([not c for c in table.columns["check"]])
    found = analyse_ranks(ordinary.columns, samples=0)
    assert found.ranks.num_blocks == 3 and sum(found.ranks.mean_rank.values()) == pytest.approx(6)
    copied = [i for i, c in enumerate(table.columns["check"]) if c == "copy"]
    assert {table.columns["system"][i] for i in copied} == {"copy", "random"}
    assert page.problems == []


@pytest.mark.browser
def test_no_seed_in_the_address_draws_one_and_keeps_it(page, tmp_path):
    address = written(tmp_path / "site", survey())
    page.goto(address)
    page.click("text=I agree")
    asked = page.get_attribute(".ask img", "alt")
    page.goto(address)
    page.wait_for_selector(".ask")
    assert page.get_attribute(".ask img", "alt") == asked and count(page) == "1 of 6"


@pytest.mark.browser
def test_hostile_texts_inject_nothing(page, tmp_path):
    made, shown = survey()
    first = made.questions[0]
    questions = [Question(HOSTILE, HOSTILE, Shown("pictures/1.jpg", HOSTILE), first.lists), *made.questions]
    page.goto(
        written(tmp_path / "site", (Questionnaire(HOSTILE, "pairs", questions, consent=HOSTILE, ask=HOSTILE), shown))
    )
    page.click("text=I agree")
    for _ in range(6):
        page.click("[data-choose='1']")
    table = downloaded(page, tmp_path)
    assert HOSTILE in table.columns["question"] and not table.rejected
    assert page.evaluate("window.__pwned") is None and page.problems == []
