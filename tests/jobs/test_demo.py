"""The demo, whole: the job that `make demo` runs, on the catalogue of the held-out seed, gives the recorded numbers."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aistudio.errors import ConfigError
from aistudio.jobs import demo
from aistudio.pipeline import cluster
from tests.serving.served import app_of, listening

ROOT = Path(__file__).resolve().parents[2]
RECORDED = json.loads((ROOT / "weights/demo/metrics.json").read_text())["demo_catalogue"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Folder, exit code and printed text of one run of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        there = cluster.cluster_resources  # a Ray that tests share may have a GPU by name only
        patch.setattr(cluster, "cluster_resources", lambda settings: there(settings)._replace(gpus=0.0))
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *a, **k: lines.append(" ".join(map(str, a))))
        code = demo.main(["--out", str(folder)])
    return folder, code, "\n".join(lines)


def metric(folder: Path, run: str, name: str) -> float:
    return json.loads((folder / run / "metrics/metrics.json").read_text())[name]["value"]


def test_it_ends_well_and_says_where_the_reports_are(ran):
    folder, code, text = ran
    assert code == 0, text
    for run in ("sights", "pairs"):
        report = folder / run / "report/index.html"
        assert report.exists() and report.as_uri() in text
    assert "rows in = rows out: 620 = 620" in text
    assert text.rstrip().endswith(f"look for pictures in it: python -m aistudio serve --run {folder}/sights")


def test_scoring_gives_the_recorded_numbers(ran):
    folder, _, _ = ran
    for name in ("hit_rate@1", "hit_rate@5", "recall@10"):
        assert metric(folder, "sights", name) == pytest.approx(RECORDED[name], abs=0.01), name
    for name in ("pairwise_accuracy", "roc_auc"):
        assert metric(folder, "pairs", name) == pytest.approx(RECORDED[name], abs=0.01), name


def test_the_numbers_mean_something(ran):
    """Pictures never trained on: 10 times chance, and two thirds of the way from 0.5 to the best possible."""
    folder, _, _ = ran
    assert metric(folder, "sights", "hit_rate@5") >= 10 * RECORDED["chance_hit_rate@5"]
    needed = 0.5 + 2 / 3 * (RECORDED["best_possible_pairwise_accuracy"] - 0.5)
    assert metric(folder, "pairs", "pairwise_accuracy") >= needed


def test_every_row_has_both_scores_and_one_pass_served_both_models(ran):
    folder, _, _ = ran
    rows = pq.read_table(folder / "pairs/scores").to_pandas()
    assert rows["row_id"].is_unique and len(rows) == 800
    ok = rows[rows["status"] == "ok"]
    assert ok["recall_score"].notna().all() and ok["rank_score"].notna().all()
    record = json.loads((folder / "pairs/run.json").read_text())
    assert record["state"] == "complete" and record["models"]["ranking"]["image_tower"] == "shared"


def nearest_is_right(folder: Path) -> float:
    """Share of the composed questions that the picture nearest to the reference answers, by the recall model."""
    rows = pq.read_table(folder / "sights/scores", columns=["row_id", "status", "embedding"]).to_pylist()
    rows = [row for row in rows if row["status"] == "ok"]
    vectors, place = np.stack([row["embedding"] for row in rows]), {row["row_id"]: i for i, row in enumerate(rows)}
    with (folder / "catalogue/composed.csv").open() as f:
        asked = list(csv.DictReader(f))
    cosines = vectors[[place[q["row_id"]] for q in asked]] @ vectors.T
    cosines[range(len(asked)), [place[q["row_id"]] for q in asked]] = -1
    right = [rows[i]["row_id"] in q["relevant"].split("|") for i, q in zip(cosines.argmax(axis=1), asked, strict=True)]
    return float(np.mean(right))


def test_composed_questions_are_answered_and_shown(ran):
    """A picture and a text, of drawings never trained on: surely more than the nearest picture alone gives.

    Over thousands of questions it is more than twice as much (docs/composed.md); of these 96 the interval is wide.
    """
    folder, _, text = ran
    search = folder / "sights/searches/composed"
    found = json.loads((search / "metrics.json").read_text())
    (hit,) = (m for name, m in found.items() if name.endswith("hit_rate@1"))
    queries = pq.read_table(search / "queries.parquet").to_pylist()
    assert hit["n"] == len(queries) == 96 and all(q["status"] == "ok" for q in queries)
    assert hit["low"] > nearest_is_right(folder) and hit["value"] >= 1.5 * nearest_is_right(folder) > 0
    assert "96 composed questions" in text
    page = (folder / "sights/report/composed.html").read_text()
    assert "composed" in page


def test_selection_gives_each_sight_its_best_pictures(ran):
    folder, _, _ = ran
    chosen = pq.read_table(folder / "sights/selection").to_pandas()
    kept = chosen[chosen["selected"]]
    assert len(chosen) == 620 and kept.groupby("item_id").size().max() <= 3
    assert set(chosen["reason"].str.partition(":")[0]) <= {"kept", "beyond_n", "duplicate_of", "failed", "below_recall"}


def test_a_catalogue_that_cannot_be_drawn_is_one_message(tmp_path):
    with pytest.raises(ConfigError, match="500 pairs asked for; 122 pictures form"):
        demo.main(["--out", str(tmp_path), "--seed", "3", "--images-per-sight", "2", "--num-pairs", "500"])


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("AISTUDIO_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium here (set AISTUDIO_CHROMIUM)")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"], timeout=60_000)
        yield running
        running.close()


@pytest.fixture
def page(browser):
    """A page that has not complained at the end."""
    problems: list[str] = []
    made = browser.new_page(viewport={"width": 1280, "height": 800})
    made.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    made.on("pageerror", lambda e: problems.append(str(e)))
    yield made
    made.close()
    assert not problems


def keep(page, name):
    """A picture of what is on the page, for the docs: `make screenshots`."""
    if folder := os.environ.get("AISTUDIO_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.jpg", type="jpeg", quality=80)


@pytest.mark.browser
def test_every_page_of_both_reports_opens_from_disk_without_complaint(ran, page):
    folder, _, _ = ran
    pages = sorted(folder.glob("*/report/*.html"))
    for path in pages:
        page.goto(path.as_uri())
        page.wait_for_selector("h1")
        if path.stem in ("index", "gallery") and path.parent.parent.name == "sights":
            page.wait_for_selector({"index": "[data-figure] svg", "gallery": ".tile"}[path.stem])
            keep(page, f"report_{path.stem}")
    assert len(pages) >= 12


@pytest.mark.browser
def test_its_pictures_are_searched_on_the_page_that_its_last_line_offers(ran, page):
    folder, _, _ = ran
    with listening(app_of([str(folder / "sights")])) as address:
        page.goto(f"{address}/")
        page.fill(".words", "a red pagoda at night")
        page.press(".words", "Enter")
        page.wait_for_url("**text=*")
        page.wait_for_load_state("networkidle")
        assert page.locator(".result").count() >= 12
        keep(page, "search")
        page.locator(".result .pic").first.click()
        page.wait_for_url("**row=*")
        page.wait_for_load_state("networkidle")  # its pictures come before the server goes
        assert page.locator(".result").count() >= 12 and "like" in page.locator(".why").first.inner_text()
