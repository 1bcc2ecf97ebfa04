"""The report in headless Chromium, opened from disk: no errors, and everything a person would click works."""

import csv
import io
import os
import shutil
from pathlib import Path

import pytest

from aistudio.config import ReportSettings
from aistudio.pipeline.changes import write_changes
from aistudio.pipeline.report import write_report_to
from aistudio.pipeline.report_place import ReportPlace
from aistudio.store import open_store
from tests.reports.synthetic_run import HOSTILE, write_neighbours, write_run

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("AISTUDIO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PAGES = ["index", "metrics", "gallery", "pairs", "selection", "failures", "map", "compare", "drift"]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium here (set AISTUDIO_CHROMIUM)")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=60_000)
        yield running
        running.close()


def _report(folder: Path, **how) -> str:
    store = open_store(str(folder))
    write_run(store, **how)
    write_neighbours(store)
    earlier = open_store(f"{folder}_earlier")
    write_run(earlier, **(how | {"num_items": how["num_items"] + 9}), seed=4, metrics=False)
    settings = ReportSettings(title=HOSTILE[0] if how.get("hostile") else "普陀山", queries_per_page=10)
    return Path(write_report_to(ReportPlace(store), store, settings, earlier)).resolve().parent.as_uri()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return _report(tmp_path_factory.mktemp("plain"), num_items=60, images_per_item=6)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return _report(tmp_path_factory.mktemp("hostile"), num_items=16, images_per_item=6, hostile=True)


@pytest.fixture
def page(browser):
    """A page that collects console errors, page errors and requests that leave the disk."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.set_default_timeout(20_000)
    p = context.new_page()
    p.problems = []
    p.on("console", lambda m: p.problems.append(m.text) if m.type in ("error", "warning") else None)
    p.on("pageerror", lambda e: p.problems.append(str(e)))
    p.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else p.problems.append(r.url))
    yield p
    context.close()


def _ready(page, name: str) -> None:
    where = {"gallery": ".tile", "pairs": ".tile", "selection": ".tile", "map": "[data-map] canvas"}
    page.wait_for_selector(where.get(name, "h1"))
    if name in ("index", "metrics", "drift"):
        page.wait_for_selector("[data-figure] svg")


def _until(page, expression: str, arg=None) -> None:
    """Wait for a condition; Playwright's own wait_for_function needs eval, which the report's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_quietly_and_fits(page, report, name, width):
    page.set_viewport_size({"width": width, "height": 850})
    page.goto(f"{report}/{name}.html")
    _ready(page, name)
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("nav[aria-label=Pages] a").count() == len(PAGES)


def test_search_filter_sort_and_paging(page, report):
    page.goto(f"{report}/gallery.html")
    page.wait_for_selector(".tile")
    names = page.locator(".item h2")
    assert names.count() == 10 and "60 of 60 queries" in page.inner_text("[data-status]")
    first = names.first.inner_text()

    page.click("text=Next →")
    _until(page, "name => (document.querySelector('.item h2')?.textContent ?? name) !== name", first)
    page.fill("input[name=q]", "西湖")
    _until(page, "document.querySelector('[data-status]').innerText.startsWith('4 of 60')")
    assert all("西湖" in n for n in names.all_text_contents())
    page.fill("input[name=q]", "no such place")
    page.wait_for_selector("text=Nothing matches")
    page.fill("input[name=q]", "")

    page.select_option("select[name=sort]", label="Name")
    _until(page, "name => (document.querySelector('.item h2')?.textContent ?? name) !== name", first)
    shown = names.all_text_contents()
    assert shown == page.evaluate(
        "names => [...names].sort((a, b) => a.toLowerCase().localeCompare(b.toLowerCase()))", shown
    )

    page.select_option("select[name=sort]", label="Worst first")
    page.fill("input[name=low]", "0.6")
    page.wait_for_timeout(400)
    page.wait_for_selector(".tile .cap")
    scores = [float(s) for s in page.locator(".tile .cap").all_text_contents()]
    assert scores and min(scores) >= 0.5995
    assert page.problems == []


def test_lightbox_by_mouse_and_keyboard(page, report):
    page.goto(f"{report}/gallery.html")
    page.wait_for_selector(".tile img")
    page.locator(".tile").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("dialog .count").startswith("1 of ")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog .count").startswith("2 of ")
    link = page.locator("dialog a.open")
    assert link.get_attribute("href").startswith("https://img") and "noopener" in link.get_attribute("rel")
    fields = page.locator("dialog dt").all_inner_texts()
    assert {"row id", "image url", "category", "recall score"} <= set(fields)
    assert page.evaluate("document.querySelector('dialog img').naturalWidth") > 0
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.problems == []


def test_dark_mode_follows_the_system_and_a_choice_is_remembered(page, report):
    background = "getComputedStyle(document.body).backgroundColor"
    page.goto(f"{report}/index.html")
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert light != dark
    page.emulate_media(color_scheme="light")
    page.click("[data-theme-toggle]")
    assert page.evaluate(background) == dark
    page.goto(f"{report}/failures.html")
    assert page.evaluate(background) == dark
    assert page.problems == []


def test_tables_sort_both_ways(page, report):
    page.goto(f"{report}/metrics.html")
    table = page.locator("table").first
    values = "t => [...t.tBodies[0].rows].map(r => Number(r.cells[1].dataset.value))"
    table.locator("th button", has_text="value").click()
    down = table.evaluate(values)
    assert down == sorted(down, reverse=True) and len(set(down)) > 2
    table.locator("th button", has_text="value").click()
    assert table.evaluate(values) == down[::-1]
    assert table.locator("th[aria-sort=ascending]").count() == 1


def test_map_shows_the_picture_under_the_pointer_and_recolours(page, report):
    page.goto(f"{report}/map.html")
    _ready(page, "map")
    page.fill("input[name=q]", "西湖")
    page.locator("[data-found] button").first.click()
    page.wait_for_selector("dialog[open] img")
    assert page.evaluate("document.querySelector('dialog img').naturalWidth") > 0
    page.keyboard.press("Escape")
    page.fill("input[name=q]", "")
    at = page.evaluate(
        "() => { const m = document.querySelector('[data-map]'), c = echarts.getInstanceByDom(m);"
        " const p = c.getOption().series[0].data[0], b = m.getBoundingClientRect();"
        " const [x, y] = c.convertToPixel({xAxisIndex: 0, yAxisIndex: 0}, [p[0], p[1]]); return [b.x + x, b.y + y]; }"
    )
    page.mouse.move(at[0] + 20, at[1])
    page.mouse.move(*at)
    page.wait_for_selector(".tip img")
    page.select_option("select[name=colour]", label="price")
    assert page.problems == []


def test_a_hostile_manifest_injects_nothing(page, hostile):
    for name in PAGES:
        page.goto(f"{hostile}/{name}.html")
        _ready(page, name)
        if page.locator(".tile").count():
            for i in range(min(8, page.locator(".tile").count())):
                page.locator(".tile").nth(i).click()
                page.keyboard.press("Escape")
        if name == "map":
            page.fill("input[name=q]", "script")
            page.locator("[data-found] button").first.click()
            page.wait_for_selector("dialog[open]")
        assert page.evaluate("window.__pwned") is None
        assert page.locator("main script, main [onerror], main [onload], main [onmouseover]").count() == 0
        links = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.protocol)")
        assert set(links) <= {"file:", "https:", "http:"}
        assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    assert page.problems == []


def test_hostile_names_are_shown_as_they_are_and_long_ones_are_clipped(page, hostile):
    page.goto(f"{hostile}/gallery.html")
    page.fill("input[name=q]", "__pwned = 1")
    _until(page, "document.querySelector('[data-status]').textContent.startsWith('2 of 16')")
    assert HOSTILE[0] in page.locator(".item h2 bdi").first.text_content()
    page.fill("input[name=q]", "名名名")
    _until(page, "document.querySelector('.item h2 bdi')?.textContent.startsWith('名')")
    page.wait_for_selector(".item h2 bdi[title]")
    name = page.locator(".item h2 bdi").first
    assert len(name.text_content()) == 160 and len(name.get_attribute("title")) == 10_000


@pytest.mark.parametrize("kind", ["gallery", "selection"])
def test_notes_stay_and_the_view_is_a_csv(report, page, kind):
    page.goto(f"{report}/{kind}.html")
    note = page.locator("[data-card] .note").first
    note.fill('=odd, "one"')
    page.goto(f"{report}/{kind}.html")
    assert page.locator("[data-card] .note").first.input_value() == '=odd, "one"'
    page.locator("[name=q]").fill("odd")
    _until(page, "document.querySelector('[data-status]').textContent.startsWith('1 of')")
    with page.expect_download() as download:
        page.locator("[data-csv]").click()
    lines = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert download.value.suggested_filename == f"{kind}.csv"
    assert len(lines) == 1 and lines[0]["note"] == '\'=odd, "one"' and lines[0]["id"].startswith("poi-")
    page.locator("[data-card] .note").first.fill("")


def test_a_comparison_answers_and_shows_pictures(report, page):
    page.goto(f"{report}/compare.html")
    assert page.locator(".answer").inner_text().startswith("B is better than A in 1 of 2")
    assert page.locator(".strip img").count() > 50 and page.locator(".strip .none").count() > 10
    assert page.evaluate("[...document.querySelectorAll('.strip img')].every((i) => i.getAttribute('src'))")


def test_more_like_this_opens_from_any_picture_and_leads_back(report, page):
    for name in ("gallery", "selection", "pairs", "map"):
        page.goto(f"{report}/{name}.html")
        _ready(page, name)
        if name == "map":
            page.fill("input[name=q]", "西湖")
            page.locator("[data-found] button").first.click()
        else:
            page.locator(".tile:not(:has(.none))").first.click()
        page.wait_for_selector("dialog .like img")
        first, at = _row_id(page), page.inner_text("dialog .count")
        assert page.locator("dialog .like button").count() == 6 and page.locator("dialog .back").count() == 0
        page.locator("dialog .like button").nth(1).click()
        page.wait_for_selector("dialog .back")
        second = _row_id(page)
        assert second != first and page.inner_text("dialog .count") == "2 of 6 · neighbour 2"
        page.wait_for_selector("dialog .like img")
        assert page.evaluate("document.querySelector('dialog .stage img').naturalWidth") > 0
        page.keyboard.press("ArrowRight")
        assert page.inner_text("dialog .count").startswith("3 of 6")
        page.locator("dialog .back").click()
        assert _row_id(page) == first and page.inner_text("dialog .count") == at
        page.keyboard.press("Escape")
    assert page.problems == []


def _row_id(page) -> str:
    return page.evaluate(
        "[...document.querySelectorAll('dialog .fields div')]"
        ".find((d) => d.querySelector('dt').textContent === 'row id').querySelector('dd').textContent"
    )


def test_notes_on_pictures_and_cards_are_one_csv(report, page):
    page.goto(f"{report}/gallery.html")
    page.wait_for_selector(".tile")
    page.locator("[data-card] .note").first.fill("card note")
    page.locator(".tile").first.click()
    note = page.locator("dialog .note")
    note.fill("=2+3")
    note.press("ArrowLeft")  # moves in the text, not to another picture
    assert page.inner_text("dialog .count").startswith("1 of ")
    row_id = _row_id(page)
    page.keyboard.press("Escape")
    page.goto(f"{report}/map.html")
    _ready(page, "map")
    with page.expect_download() as download:
        page.locator("[data-notes-csv]").click()
    lines = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert [(line["page"], line["note"]) for line in lines] == [("gallery", "card note"), ("pictures", "'=2+3")]
    assert lines[1]["id"] == row_id and page.problems == []


def test_the_drift_page_answers_with_figures(report, page):
    page.goto(f"{report}/drift.html")
    assert page.locator(".answer").inner_text().endswith("0 items are new, 9 are gone, of 60 now.")
    page.wait_for_selector("[data-figure=drift-recall_score] svg")
    assert page.locator(".strip img").count() == 9
    assert page.locator("text=Nothing moved noticeably").count() == 1 and page.problems == []


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """The page of changed selections of two hostile runs; the earlier one is so old that it has no thumbnails."""
    folder = tmp_path_factory.mktemp("nights")
    runs = []
    for name, seed in (("before", 1), ("now", 2)):
        runs.append(open_store(str(folder / name)))
        write_run(runs[-1], 40, 6, hostile=name == "now", metrics=False, seed=seed)
        for entry in runs[-1].list("scores/") if name == "before" else []:
            runs[-1].write_table(entry.key, runs[-1].read_table(entry.key).drop_columns(["thumbnail"]))
    return Path(write_changes(*runs, ReportSettings(queries_per_page=10)).page).resolve().as_uri()


@pytest.mark.parametrize("width", [1400, 390])
def test_changed_selections_are_shown_with_pictures_and_reasons(page, changes, width):
    page.set_viewport_size({"width": width, "height": 850})
    page.goto(changes)
    page.wait_for_selector(".tile")
    assert "items have other chosen images" in page.locator(".answer").inner_text()
    assert page.locator("main table tbody tr").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.select_option("select[name=facet]", label="Gone items")
    _until(page, "document.querySelector('.item .tile .none') !== null")
    assert page.locator(".tile.hit").count() == 0 and page.locator(".tile.miss").count() > 5
    page.locator(".tile").first.click()
    page.wait_for_selector("dialog[open]")
    assert "item gone" in page.locator("dialog .fields").inner_text()
    page.keyboard.press("Escape")
    page.select_option("select[name=facet]", label="New items")
    _until(page, "document.querySelector('.item .tile.hit') !== null")
    page.wait_for_selector(".tile.hit img")
    for i in range(4):
        page.locator(".tile").nth(i).click()
        page.keyboard.press("Escape")
    assert page.evaluate("window.__pwned") is None and page.problems == []
    assert page.locator("main script, main [onerror], main [onload]").count() == 0
