"""write_report on whole, partial and growing run folders; every file it names is there."""

import csv
import io
import json
import re

import pyarrow as pa
import pytest

from aistudio.config import ReportSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.pipeline.report import write_report, write_report_to
from aistudio.pipeline.report_place import ReportPlace
from aistudio.pipeline.report_rows import fetch, sample_vectors, scan_scores
from aistudio.store import Store, open_store
from tests.reports.synthetic_run import write_neighbours, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Store:
    store = open_store(str(tmp_path_factory.mktemp("report") / "run"))
    write_run(store, 24, 8)
    write_report(store, ReportSettings(title="西湖", price_per_hour=2.0, paper={"hit_rate@5": 0.788}))
    return store


def _data(store: Store, name: str):
    text = store.read_bytes(f"report/data/{name}.js").decode()
    return json.loads(text.split(",", 1)[1].rsplit(")", 1)[0])


def test_every_page_is_there_and_every_file_a_page_names_exists(run):
    pages = ["index", "metrics", "gallery", "pairs", "selection", "failures", "map", "compare"]
    for page in pages:
        html = run.read_bytes(f"report/{page}.html").decode()
        for target in re.findall(r'(?:href|src)="((?:assets|data|thumbs)/[^"]+|[a-z]+\.html)', html):
            assert run.exists(f"report/{target}"), f"{page}.html names {target}"
        assert [p for p in pages if f'href="{p}.html"' in html] == pages
    assert "西湖" in run.read_bytes("report/report.md").decode()


def test_the_ledger_counts_every_stored_row(run):
    html = run.read_bytes("report/index.html").decode()
    scan = scan_scores(run, set())
    assert sum(scan.counts.values()) == 192
    assert f'<b class="big">{scan.counts["ok"]}</b>' in html and "Every row has an outcome." in html
    assert sum(t.rows for t in scan.failures.statuses.values()) == 192 - scan.counts["ok"]


def test_tiles_show_the_thumbnail_of_their_own_row(run):
    index = _data(run, "gallery")
    assert len(index["cards"]) == 24 and index["total"] == 24
    scores = {e.key: run.read_table(e.key) for e in run.list("scores/")}
    by_id = {r["row_id"]: r for t in scores.values() for r in t.to_pylist()}
    tiles = [
        t for c in _data(run, "gallery-0000") for _, g in ((g["label"], g["tiles"]) for g in c["groups"]) for t in g
    ]
    assert len(tiles) > 24 * 12
    for tile in tiles:
        row = by_id[tile["fields"]["row_id"]]
        assert run.read_bytes(f"report/{tile['thumb']}") == row["thumbnail"]
        assert tile["link"] == row["image_url"] and tile["fields"]["category"] == row["category"]
        assert "embedding" not in tile["fields"] and "thumbnail" not in tile["fields"]


def test_pairs_and_selection_find_their_pictures_by_row(run):
    pair = _data(run, "pairs-0000")[0]["groups"][0]["tiles"]
    assert [t["badge"][0] for t in pair] == ["A", "B"] and all(run.exists(f"report/{t['thumb']}") for t in pair)
    cards = _data(run, "pairs")["cards"]
    facets = [c[2] for c in cards]
    assert facets == sorted(facets, key=lambda f: f != "wrong") and {"wrong", "right"} == set(facets)
    items = _data(run, "selection-0000")
    assert sum(len(g["tiles"]) for c in items for g in c["groups"]) == 192
    assert {g["label"] for c in items for g in c["groups"]} == {"Kept", "Rejected"}


def test_the_map_is_a_sample_of_ok_rows(run):
    scan = scan_scores(run, set())
    vectors, rows, thumbnails = sample_vectors(run, scan, 50)
    assert vectors.shape == (50, 32) and len(rows) == len(thumbnails) == 50
    assert {r["status"] for r in rows} == {"ok"} and len({r["row_id"] for r in rows}) == 50
    stored = {r["row_id"]: r["embedding"] for e in run.list("scores/") for r in run.read_table(e.key).to_pylist()}
    assert all(v.tolist() == stored[r["row_id"]] for v, r in zip(vectors, rows, strict=True))
    assert len(sample_vectors(run, scan, 10_000)[1]) == scan.counts["ok"]


def test_places_that_are_gone_are_left_out(run):
    key = run.list("scores/")[0].key
    assert [p for p, _, _ in fetch(run, {(key, 0), (key, 10**6), ("scores/none.parquet", 0)})] == [(key, 0)]


def test_a_run_without_metrics_has_no_empty_pages(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 4, 8, metrics=False)
    for entry in store.list("selection/"):
        store.delete(entry.key)
    write_report(store, ReportSettings(map_images=0))
    pages = {e.key for e in store.list("report/") if e.key.endswith(".html")}
    assert pages == {"report/index.html", "report/failures.html"}
    assert "gallery" not in store.read_bytes("report/index.html").decode()


def test_a_report_replaces_the_one_before_and_leaves_nothing_of_it(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 12, 8)
    write_report(store, ReportSettings())
    before = {e.key for e in store.list("report/")}
    write_report(store, ReportSettings(max_queries=3, map_images=0, images_per_query=2))
    after = {e.key for e in store.list("report/")}
    assert len(_data(store, "gallery")["cards"]) == 3 and _data(store, "gallery")["total"] == 12
    assert after < before and not any("data/map" in k for k in after)


def test_an_unfinished_run_says_so(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 4, 5, metrics=False)
    record = store.read_json("run.json")
    store.write_json("run.json", {"state": "running", "rows": {"manifest": 30}, "config": record["config"]})
    write_report(store, ReportSettings())
    assert "10 of 30 rows have no outcome yet" in store.read_bytes("report/index.html").decode()


def test_no_rows_at_all_still_give_a_page(tmp_path):
    store = open_store(str(tmp_path / "run"))
    store.write_json("run.json", {})
    assert write_report(store, ReportSettings()).endswith("report/index.html")
    assert "0 rows" in store.read_bytes("report/index.html").decode()


def test_no_run_and_damaged_files_are_named(tmp_path):
    store = open_store(str(tmp_path / "run"))
    with pytest.raises(StoreError, match=r"no run\.json"):
        write_report(store, ReportSettings())
    write_run(store, 3, 4)
    store.write_bytes("metrics/top.parquet", b"PAR1 nonsense")
    with pytest.raises(StoreError, match=r"top\.parquet"):
        write_report(store, ReportSettings())


def test_metrics_files_with_missing_columns_and_nulls_still_open(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 3, 6)
    table = store.read_table("metrics/per_query.parquet").drop_columns(["map", "hit_rate@1", "hit_rate@5"])
    nulls = table.set_column(table.column_names.index("first_rank"), "first_rank", pa.nulls(3, pa.int64()))
    store.write_table("metrics/per_query.parquet", nulls)
    store.write_json("metrics/metrics.json", {"map": {"value": None, "low": None, "high": None, "n": 0}})
    write_report(store, ReportSettings())
    assert len(_data(store, "gallery")["cards"]) == 3


def test_more_like_this_are_the_stored_neighbours_with_their_own_pictures(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 10, 8)
    write_report(store, ReportSettings())
    assert not store.exists("report/data/similar.js") and "data-similar" not in _html(store, "gallery")
    write_neighbours(store)
    write_report(store, ReportSettings())
    rows = {r["row_id"]: r for e in store.list("scores/") for r in store.read_table(e.key).to_pylist()}
    top = store.read_table("metrics/image/top.parquet").to_pylist()
    index = _data(store, "similar")
    assert sorted(index["ids"]) == sorted(i for i, r in rows.items() if r["status"] == "ok")
    for n, row_id in enumerate(index["ids"]):
        tiles = _data(store, f"similar-{n // index['perFile']:04d}")[n % index["perFile"]]
        expected = [t["row_id"] for t in top if t["query_id"] == row_id][:6]
        assert [t["fields"]["row_id"] for t in tiles] == expected
        for tile in tiles:
            assert store.read_bytes(f"report/{tile['thumb']}") == rows[tile["fields"]["row_id"]]["thumbnail"]
            assert "embedding" not in tile["fields"]
    assert '<body data-page="gallery" data-similar>' in _html(store, "gallery")
    write_report(store, ReportSettings(similar_pictures=7))
    assert len(_data(store, "similar")["ids"]) == 7
    write_report(store, ReportSettings(similar_pictures=0))
    assert not store.exists("report/data/similar.js") and not store.exists("report/data/similar-0000.js")


def test_neighbours_that_are_gone_are_left_out(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 10, 8, shard_rows=20)
    write_neighbours(store)
    store.delete("scores/000001.parquet")
    write_report(store, ReportSettings())
    tiles = [t for e in store.list("report/data/similar-") for p in _data(store, e.key[12:-3]) for t in p]
    gone = {str(i) for i in range(20, 40)}
    assert tiles and not {t["fields"]["row_id"] for t in tiles} & gone


def test_a_report_into_a_folder_of_ones_own(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 6, 6)
    into = tmp_path / "my report"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="holds other files and no report"):
        ReportPlace(store, str(tmp_path / "mine"))
    before = {e.key for e in store.list("")}
    index = write_report_to(ReportPlace(store, str(into)), store, ReportSettings())
    assert index == str(into / "index.html") and (into / "index.html").exists() and any((into / "thumbs").iterdir())
    assert {e.key for e in store.list("")} == before  # nothing is written to the run
    (into / "notes.txt").write_text("keep me")
    write_report_to(ReportPlace(store, str(into)), store, ReportSettings(map_images=0))
    assert not (into / "map.html").exists() and not (into / "data/map.js").exists()
    assert (into / "notes.txt").read_text() == "keep me"


def test_the_drift_page_names_what_is_new_and_gone(tmp_path):
    earlier, now = open_store(str(tmp_path / "earlier")), open_store(str(tmp_path / "now"))
    write_run(earlier, 30, 6, metrics=False)
    write_run(now, 24, 6, metrics=False, seed=3, hostile=True)
    write_report_to(ReportPlace(now), now, ReportSettings(map_images=0), earlier)
    html = _html(now, "drift")
    assert "24 items are new, 30 are gone, of 24 now." in html and "<code>recall_score</code>" in html
    assert "<script>window" not in html and "<img src=x" not in html
    pictures = re.findall(r'src="(thumbs/drift/[^"]+)"', html)
    assert len(pictures) > 40 and all(now.exists(f"report/{p}") for p in pictures)
    listed = list(csv.reader(io.StringIO(now.read_bytes("report/data/drift-items.csv").decode("utf-8-sig"))))
    assert len(listed) == 1 + 24 + 30 and any(row[1].startswith("'=cmd") for row in listed)
    write_report(now, ReportSettings(map_images=0))
    assert not now.exists("report/drift.html") and not now.exists("report/thumbs/drift/new-00.jpg")


def _html(store: Store, page: str) -> str:
    return store.read_bytes(f"report/{page}.html").decode()


def test_another_aggregation_than_the_first_is_shown_by_its_name(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 6, 6)
    write_neighbours(store)
    for file in ("per_query.parquet", "top.parquet"):
        store.write_table(
            f"metrics/mine/{file}", store.read_table(f"metrics/{file}").slice(0, 1 if "per" in file else 30)
        )
    store.write_json("metrics/mine/metrics.json", {"map": {"value": 0.4321, "low": None, "high": None, "n": 1}})
    store.write_json("metrics/mine/about.json", {"name": "mine", "query": "text", "notes": ["a note of mine"]})
    write_report_to(ReportPlace(store), store, ReportSettings(map_images=0), name="mine")
    html = _html(store, "metrics")
    assert "0.432" in html and "a note of mine" in html and "This is the aggregation <code>mine</code>" in html
    assert "<code>image</code>" in html and len(_data(store, "gallery")["cards"]) == 1
    assert not store.exists("report/pairs.html")  # it has none, the first aggregation has
    write_report(store, ReportSettings(map_images=0))
    assert "a note of mine" not in _html(store, "metrics") and store.exists("report/pairs.html")
    assert b"0.432" not in store.read_bytes("report/data/metrics.csv")  # beside the others it is in the page
    with pytest.raises(StoreError, match="no aggregation 'none'; there: "):
        write_report_to(ReportPlace(store), store, ReportSettings(), name="none")
