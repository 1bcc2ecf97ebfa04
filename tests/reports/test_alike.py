"""The page of similar items: several searches as rows under one query, what is right by a column, other runs beside."""

import io
import json

import pytest
from PIL import Image

from aistudio.config import MetricsSettings, ReportSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.jobs.report import main as report_job
from aistudio.pipeline.report import write_report_to
from aistudio.pipeline.report_alike import choose_alike, in_turn
from aistudio.pipeline.report_place import ReportPlace
from aistudio.pipeline.search import plan_search, run_search
from aistudio.reports import alike
from aistudio.reports.cards import Tile
from aistudio.store import open_store
from tests.evaluation.stored_run import catalogue, write_run
from tests.reports.test_questionnaire import browser, page  # noqa: F401
from tests.search.test_search_job import MODELS, make_run

HOSTILE = '<img src=x onerror="window.__pwned=1">'
BY_CATEGORY = MetricsSettings(relevant_by=["category"], bootstrap_samples=10)
NO_MAP = ReportSettings(map_images=0, similar_pictures=0)


def searched(folder, names=("first", "second"), **how):
    store, rows = make_run(folder, **how)
    for name in names:
        run_search(plan_search(store.root, name, ["search.top_n=4"], like="items"))
    return store, rows


def written(store, metrics=BY_CATEGORY, settings=NO_MAP, **how):
    write_report_to(ReportPlace(store), store, settings, metrics=metrics, **how)
    return {e.key.removeprefix("report/"): store.read_bytes(e.key) for e in store.list("report/")}


def data(files, name):
    body = files[f"data/{name}.js"].decode()
    return json.loads(body[body.index(",") + 1 :].rstrip().removesuffix(");"))


def test_searches_stand_below_each_other_and_are_judged(tmp_path):
    store, rows = searched(tmp_path / "run")
    files = written(store)
    html, index, cards = files["alike.html"].decode(), data(files, "alike"), data(files, "alike-0000")
    assert "Right: the same <bdi>category</bdi>" in html and "map_capped@4" in html and "random order" in html
    assert index["total"] == 11 and {f["value"] for f in index["facets"]} == {"", "hat", "coat"}
    category = {row["item_id"]: row["category"] for row in rows}
    for entry, card in zip(index["cards"], cards, strict=True):
        assert [g["label"].split(" · ")[0] for g in card["groups"]] == ["Query", "first", "second"]
        for group in card["groups"][1:]:
            marks = [t["mark"] for t in group["tiles"]]
            same = [category[t["fields"]["item_id"]] == category[entry[1]] for t in group["tiles"]]
            assert marks == ["hit" if s else "miss" for s in same] and len(marks) == 4
    curves = {f["id"]: f for f in data(files, "figures-alike")}
    assert [s["name"] for s in curves["alike-hit_rate-0"]["series"]] == ["first", "second", "random order"]
    assert curves["alike-hit_rate-0"]["series"][-1]["dashed"] and "alike-images" in curves
    assert files["data/alike-metrics-0.csv"].count(b"first") == 5
    assert files == written(store)  # the same again


def test_the_worst_the_middle_and_the_best_come_in_turn(tmp_path):
    assert in_turn(5) == [0, 2, 4, 1, 3] and in_turn(0) == [] and in_turn(1) == [0]
    store, _ = searched(tmp_path / "run")
    sort = [card[5] for card in data(written(store), "alike")["cards"]]
    assert [row[0] for row in sort] == list(range(11))
    assert [row[1] for row in sort][:3] == [0, 5, 10]
    means = [row[4] for row in sorted(sort, key=lambda row: row[1])]
    assert means == sorted(means)  # both searches are alike: worst first by their mean


def test_of_many_queries_the_ends_are_kept(tmp_path):
    store, _ = searched(tmp_path / "run")
    files = written(store, settings=NO_MAP.model_copy(update={"max_queries": 3}))
    assert [card[5][1] for card in data(files, "alike")["cards"]] == [0, 5, 10] and data(files, "alike")["total"] == 11


def test_other_runs_stand_beside(tmp_path):
    store, _ = searched(tmp_path / "run", names=("one",))
    other, _ = searched(tmp_path / "other", names=("one",), seed=1)
    files = written(store, beside=[other])
    labels = [g["label"].split(" · ")[0] for g in data(files, "alike-0000")[0]["groups"]]
    assert labels == ["Query", "one", "other/one"] and "other/one" in files["alike.html"].decode()
    with pytest.raises(StoreError, match="no run"):
        written(store, beside=[open_store(str(tmp_path))])


def test_items_of_another_run_ask_and_are_judged_by_its_values(tmp_path):
    store, _ = searched(tmp_path / "gallery", names=())
    asking, _ = make_run(tmp_path / "asking", seed=2)
    run_search(plan_search(store.root, "new", ["search.top_n=4"], like=asking.root))
    found = choose_alike(store, [], NO_MAP, BY_CATEGORY)
    lists = found.lists[0].judged["category"]
    assert {lists.names[n] for n in lists.label_Q} == {"hat", "coat"}
    # its items have the names of ours: they are their own and left out, so five or four of a category remain
    assert set(lists.num_relevant_Q.tolist()) <= {4, 5} and set(lists.num_gallery_Q.tolist()) == {10}
    assert "alike.html" in written(store)
    for entry in asking.list(""):
        asking.delete(entry.key)
    assert choose_alike(store, [], NO_MAP, BY_CATEGORY).lists == []
    assert "alike.html" not in written(store)


def test_narrowed_searches_are_shown_and_not_judged(tmp_path):
    store, _ = searched(tmp_path / "run", names=("plain",))
    run_search(plan_search(store.root, "narrow", ["search.filter=[category]"], like="items"))
    files = written(store)
    html = files["alike.html"].decode()
    assert "search narrow was narrowed (search.filter)" in html and "Right: the same" in html
    groups = data(files, "alike-0000")[0]["groups"]
    assert {t["mark"] for g in groups if g["label"] == "narrow" for t in g["tiles"]} == {""}


def test_rows_as_results_leave_out_their_item_or_themselves(tmp_path):
    store, rows = make_run(tmp_path / "run", hashes=False)
    ok = [row for row in rows if row["status"] == "ok"]
    for name, leave in (("item", "[item]"), ("none", "[]")):
        how = ["search.per=row", f"search.leave_out={leave}"]
        run_search(plan_search(store.root, name, how, like="items"))
    found = {one.search: one.judged["category"] for one in choose_alike(store, [], NO_MAP, BY_CATEGORY).lists}
    num = {c: sum(r["category"] == c for r in ok) for c in ("hat", "coat")}
    of_item = {r["item_id"]: sum(o["item_id"] == r["item_id"] for o in ok) for r in ok}
    items = list(of_item)
    category = {r["item_id"]: r["category"] for r in ok}
    assert found["none"].num_relevant_Q.tolist() == [num[category[i]] for i in items]
    assert found["item"].num_relevant_Q.tolist() == [num[category[i]] - of_item[i] for i in items]
    assert found["item"].num_gallery_Q.tolist() == [len(ok) - of_item[i] for i in items]


def test_without_a_column_two_searches_are_compared_by_eye(tmp_path):
    store, _ = searched(tmp_path / "run", names=("one",))
    assert "alike.html" not in written(store, metrics=MetricsSettings())
    run_search(plan_search(store.root, "two", like="items"))
    files = written(store, metrics=MetricsSettings())
    assert "Right: the same" not in files["alike.html"].decode() and len(data(files, "alike")["cards"]) == 11


def test_an_unknown_column_is_said(tmp_path):
    store, _ = searched(tmp_path / "run", names=("one",))
    with pytest.raises(ConfigError, match=r"metrics\.relevant_by: colour is not a column of"):
        report_job(["--run", store.root, "--set", "metrics.relevant_by=[colour]"])


def test_odd_values_stay_text(tmp_path):
    rows, texts = catalogue()
    for i, row in enumerate(rows):
        row["category"] = None if i % 7 == 0 else HOSTILE if i % 2 else "</script>\u2028,=1+1"
        row["item_id"] = f"{HOSTILE}{row['item_id']}"
    store = write_run(tmp_path / "run", rows, texts)
    store.write_json("run.json", store.read_json("run.json") | {"models": MODELS})
    run_search(plan_search(store.root, "s", like="items"))
    files = written(store)
    assert b"<img src=x" not in files["alike.html"]
    assert all(
        b"<img" not in f and b"</script" not in f
        for n, f in files.items()
        if n.startswith("data/alike") and n.endswith(".js")
    )


def jpeg(width, height):
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(("size", "stored", "want"), [
    ((400, 200), (100, 50), (50, 25)),  # a quarter of the size
    ((200, 400), (100, 50), (50, 25)),  # turned
])  # fmt: skip
def test_a_crop_is_cut_from_the_thumbnail(size, stored, want):
    box = {"x0": 100, "y0": 0, "x1": 300, "y1": 100, "method": "border", "score": 1.0}
    fields = {"width": size[0], "height": size[1], "crop_look": box}
    cut = alike.crop_of(jpeg(*stored), fields, "crop_look")
    with Image.open(io.BytesIO(cut)) as picture:
        assert picture.size == want
    assert alike.crop_of(jpeg(*stored), fields | {"crop_look": box | {"method": "whole"}}, "crop_look") is None
    assert alike.crop_of(b"no picture", fields, "crop_look") is None
    assert alike.crop_of(jpeg(*stored), fields | {"width": None}, "crop_look") is None


def test_a_card_sorts_by_each_search():
    tile = Tile(None, "hit", "", "1", 0.5, "", {})
    query = {"query_id": "q", "turn": 2, "quality": {"a": 0.25, "b": None}}
    card = alike.query_card(query, 7, [tile], [("a", [tile]), ("b", [])], {"kind": None, "metal": "gold"})
    assert card.sort == [2, 7, "q", None, 0.25, None] and card.facet == "gold"
    assert card.groups[1][0] == "a · 1 of 1 right · average precision 0.250" and card.groups[2][0] == "b"


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
def test_the_page_opens_quietly_from_disk_and_filters_by_class(tmp_path, page, width):  # noqa: F811
    rows, texts = catalogue()
    for i, row in enumerate(rows):
        row["category"] = HOSTILE if row["category"] == "hat" else "coat"
        row["thumbnail"] = jpeg(40, 60) if i % 3 and row["status"] == "ok" else None
    store = write_run(tmp_path / "run", rows, texts)
    store.write_json("run.json", store.read_json("run.json") | {"models": MODELS})
    for name in ("one", "two"):
        run_search(plan_search(store.root, name, like="items"))
    written(store)
    page.set_viewport_size({"width": width, "height": 850})
    page.goto((tmp_path / "run/report/alike.html").as_uri())
    page.wait_for_selector("[data-figure] svg")
    page.evaluate("document.querySelector('.deck').scrollIntoView()")
    page.wait_for_selector(".tile")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "11 of 11 queries" in page.inner_text("[data-status]")
    page.select_option("select[name=facet]", value=HOSTILE)
    page.wait_for_selector("text=5 of 11 queries")
    page.locator(".tile").nth(1).click()
    page.wait_for_selector("dialog[open]")
    assert page.problems == [] and page.evaluate("window.__pwned") is None
