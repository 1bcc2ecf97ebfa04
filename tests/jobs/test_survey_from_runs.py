"""`survey make --runs`: stored searches -> a questionnaire, answered in a browser from disk, downloaded, analysed."""

import csv
import json
import shutil

import pytest

from aistudio.errors import ConfigError
from aistudio.jobs.survey import main
from aistudio.pipeline.search import plan_search, run_search
from tests.evaluation.stored_run import catalogue, write_run
from tests.reports.test_questionnaire import browser, page, picture  # noqa: F401
from tests.search.test_search_job import MODELS

HOSTILE = '<img src=x onerror="window.__pwned=1">'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one catalogue whose vectors differ; two searches in the first, one in the second."""
    made = []
    for seed in (0, 1):
        rows, texts = catalogue(seed=seed)
        for i, row in enumerate(rows):
            row["thumbnail"] = picture(i) if row["status"] == "ok" else None
            row["category"] = HOSTILE if row["category"] == "hat" else "coat"
        store = write_run(tmp_path_factory.mktemp("runs") / f"run{seed}", rows, texts)
        store.write_json("run.json", store.read_json("run.json") | {"models": MODELS})
        made.append(store)
    for store, name, how in ((made[0], "best", "max"), (made[0], "mean", "mean"), (made[1], "best", "max")):
        run_search(plan_search(store.root, name, [f"search.item_score={how}"], like="items"))
    return [store.root for store in made]


def made(folder, *args):
    assert main(["make", "--out", str(folder), *map(str, args)]) == 0
    body = (folder / "data/questionnaire.js").read_text(encoding="utf-8")
    return json.loads(body[body.index(",") + 1 :].rstrip().removesuffix(");"))


def test_every_search_is_a_system_with_the_lists_that_are_stored(runs, tmp_path, capsys):
    data = made(tmp_path, "--runs", *runs, "--mode", "ranks", "--top", 4, "--group", "category", "--random")
    pages = [p for p in data["pages"] if not p["check"]]
    assert set(pages[0]["lists"]) == {"run0/best", "mean", "run1/best", "random"}
    assert {p["group"] for p in pages} == {HOSTILE, "coat"} and len({p["question"] for p in pages}) == len(pages) > 5
    assert all(len(shown) == 4 for p in pages for shown in p["lists"].values())
    pictures = {p["query"]["path"] for p in pages} | {s["path"] for p in pages for x in p["lists"].values() for s in x}
    assert all((tmp_path / path).read_bytes()[:2] == b"\xff\xd8" for path in pictures)
    said = capsys.readouterr().out
    assert "decide little" in said and f"{len(pages)} questions on run0/best, mean, run1/best, random" in said


def test_the_seed_draws_and_queries_choose(runs, tmp_path):
    def asked(*more):
        data = made(tmp_path / "q", "--runs", *runs, "--searches", "best", *more)
        return [p["question"] for p in data["pages"] if not p["check"]], data

    first, second = asked("--n", 3, "--seed", 1)[0], asked("--n", 3, "--seed", 2)[0]
    assert asked("--n", 3, "--seed", 1)[0] == first != second and len(first) == 3
    table = tmp_path / "queries.csv"
    table.write_text("query_id,group\nitem1,wild\nitem4,\nnobody,wild\n", encoding="utf-8")
    names, data = asked("--queries", table)
    assert set(names) == {"item1", "item4"}
    assert {p["question"]: p["group"] for p in data["pages"]} == {"item1": "wild", "item4": "all"}


def test_queries_with_equal_lists_are_left_out_and_said(runs, tmp_path, capsys):
    run_search(plan_search(runs[0], "again", like="items"))
    try:
        with pytest.raises(ConfigError, match="all systems recommend the same"):
            main(["make", "--runs", runs[0], "--searches", "best", "again", "--out", str(tmp_path)])
        made(tmp_path, "--runs", runs[0], "--searches", "best", "again", "--random")  # drawn lists differ
    finally:
        shutil.rmtree(f"{runs[0]}/searches/again")


@pytest.mark.parametrize(("args", "message"), [
    (["--searches", "best"], "only best: --random adds one"),
    (["--searches", "nothing"], "none of the runs has a search nothing"),
    (["--group", "colour"], "--group colour: not a column of"),
    (["--top", "99"], "a list is shorter than 99"),
    (["--queries", "/no/such"], "cannot be read"),
    (["--lists", "x.csv"], "not both"),
])  # fmt: skip
def test_mistakes_have_one_message(runs, tmp_path, args, message):
    with pytest.raises(ConfigError, match=message):
        main(["make", "--runs", runs[0], "--out", str(tmp_path), *args])


def test_searches_that_share_no_query_are_taken_only_when_asked_for(runs, tmp_path):
    table = tmp_path / "q.csv"
    table.write_text("query_id,row_id\nother,3\n", encoding="utf-8")
    run_search(plan_search(runs[1], "other", queries=str(table)))
    try:
        pages = made(tmp_path / "q", "--runs", runs[1], "--random", "--n", 2)["pages"]
        assert {s for p in pages if not p["check"] for s in p["lists"]} == {"best", "random"}
        with pytest.raises(ConfigError, match="they share no query"):
            main(["make", "--runs", runs[1], "--searches", "best", "other", "--out", str(tmp_path / "s")])
    finally:
        shutil.rmtree(f"{runs[1]}/searches/other")


def test_a_run_without_searches_says_what_comes_first(tmp_path):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", rows, texts)
    with pytest.raises(ConfigError, match="no searches there; first: search --run"):
        main(["make", "--runs", store.root, "--out", str(tmp_path / "q")])


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
def test_from_runs_to_a_sentence_through_the_browser(runs, tmp_path, capsys, page, width):  # noqa: F811
    data = made(tmp_path / "site", "--runs", *runs, "--searches", "best", "--n", 6, "--group", "category")
    answers = tmp_path / "answers"
    answers.mkdir()
    page.set_viewport_size({"width": width, "height": 850})
    for seed in (1, 2):
        page.goto((tmp_path / "site/index.html").as_uri() + f"?seed={seed}")
        page.click("text=I agree")
        for number in range(len(data["pages"])):
            page.wait_for_selector(".ask img")
            assert page.inner_text("[data-count]") == f"{number + 1} of {len(data['pages'])}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)") or number == 0
            page.click("[data-choose='0']")
        with page.expect_download() as waiting:
            page.click("[data-download]")
        waiting.value.save_as(answers / waiting.value.suggested_filename)
    assert page.problems == [] and page.evaluate("window.__pwned") is None
    files = sorted(answers.iterdir())
    assert len(files) == 2
    rows = list(csv.DictReader(files[0].read_text(encoding="utf-8-sig").splitlines()))
    asked = [r for r in rows if not r["check"]]
    assert len(rows) == len(data["pages"]) and {r["choice"] for r in asked} <= {"run0/best", "run1/best"}
    assert all({r["left"], r["right"]} == {"run0/best", "run1/best"} and r["choice"] == r["left"] for r in asked)
    capsys.readouterr()
    assert main(["analyse", "--answers", str(answers), "--samples", "5", "--out", str(tmp_path / "found")]) == 0
    said = capsys.readouterr().out
    assert "was preferred to" in said and "12 decided answers to 6 questions" in said
    assert "<img src=x" not in (tmp_path / "found/survey.html").read_text(encoding="utf-8")
