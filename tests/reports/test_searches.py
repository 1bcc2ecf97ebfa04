"""The page of searches: cards in order, right and wrong marked, hostile names, and the report that writes it."""

from aistudio.config import ReportSettings
from aistudio.pipeline.report import write_report
from aistudio.pipeline.search import plan_search, run_search
from aistudio.reports import searches
from tests.search.test_search_job import make_run

QUERY = {
    "query_id": "<b>",
    "kind": "row",
    "status": "ok",
    "text": None,
    "item_id": "i",
    "num_relevant": 1,
    "first_rank": 2,
}


def result(rank, relevant):
    more = {"thumb": None, "fields": {"image_url": "javascript:x"}}
    return {"rank": rank, "score": 1 / rank, "why": "like r", "item_id": "i", "relevant": relevant} | more


def test_a_card_marks_what_is_known():
    left = [
        {"reason": "duplicate_of:q", "thumb": None, "fields": {}},
        {"reason": "filtered:colour", "thumb": None, "fields": {}},
    ]
    card = searches.query_card(
        "s", QUERY, 0, {"thumb": "t.jpg", "fields": {}}, [result(1, False), result(2, True)], left
    )
    assert [label for label, _ in card.groups] == ["The query's picture", "Results", "Left out"]
    assert [t.mark for t in card.groups[1][1]] == ["miss", "hit"]
    assert [t.caption for t in card.groups[2][1]] == ["a copy of the query's picture", "another colour"]
    assert card.groups[1][1][0].as_data()["link"] is None
    unknown = searches.query_card(
        "s", QUERY | {"num_relevant": None}, 0, {"thumb": None, "fields": {}}, [result(1, None)], []
    )
    assert [t.mark for t in unknown.groups[0][1]] == [""]


def test_the_report_shows_every_complete_search(tmp_path):
    store, _ = make_run(tmp_path / "run")
    for name in ("first", "second"):
        run_search(plan_search(store.root, name, like="items"))
    store.write_bytes("searches/broken/queries.parquet", b"half of a search")
    write_report(store, ReportSettings(map_images=0))
    page = store.read_bytes("report/searches.html").decode()
    assert "first" in page and "second" in page and "broken" not in page
    assert b'"total":24' in store.read_bytes("report/data/searches.js")
