"""compare --selections: the page, the tables and what is printed; on local folders, without an engine."""

import csv
import io
import json
import re

import pytest

from aistudio.config import ReportSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.jobs.compare import main
from aistudio.pipeline.changes import write_changes
from aistudio.reports.safe import csv_bytes
from aistudio.store import open_store
from tests.evaluation.chosen_runs import image, write_chosen
from tests.reports.synthetic_run import HOSTILE, HOSTILE_URLS, write_run


def index_of(store, folder):
    """The page's index as data."""
    text = store.read_bytes(f"{folder}/data/changes.js").decode()
    return json.loads(re.fullmatch(r'AIStudio\.receive\("changes",(.*)\);\n', text, re.S)[1])


@pytest.fixture
def night(tmp_path):
    url = "http://x/{}/{}.jpg".format
    old = [image(f"i{n}", url(n, k), 0.9 - 0.1 * k, thumbnail=b"jpg") for n in range(30) for k in range(3)]
    new = [dict(r) if r["image_url"][-5] != "0" else r | {"rank_score": 0.0} for r in old]
    return write_chosen(str(tmp_path / "mon day"), old), write_chosen(str(tmp_path / "tue"), new)


def test_the_command_writes_page_and_tables_and_says_where(night, capsys):
    before, now = night
    assert main(["--selections", before.root, now.root]) == 0
    out = capsys.readouterr().out
    assert "30 items have other chosen images, of 30; 30 of them another first image." in out
    assert re.search(r"chosen now +a place became free +30\n", out)
    assert re.search(r"not chosen any more +its score changed +30\n", out)
    folder = "selection_changes/mon_day"
    assert f"{now.root}/{folder}/changes/00000.parquet" in out and "/selection_changes/mon_day/index.html" in out
    table = now.read_table(f"{folder}/changes/00000.parquet")
    text = now.read_bytes(f"{folder}/changes_csv/00000.csv").decode("utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert table.num_rows == len(lines) == 90 and lines[0].keys() == set(table.column_names)
    assert now.read_bytes(f"{folder}/index.html") == now.read_bytes(f"{folder}/changes.html")
    assert not now.exists("report/index.html")


def test_the_page_is_bounded_and_the_table_is_whole(night):
    before, now = night
    settings = ReportSettings(max_queries=7, images_per_query=1)
    write_changes(before, now, settings)
    folder = "selection_changes/mon_day"
    index = index_of(now, folder)
    assert index["total"] == 30 and len(index["cards"]) == 7
    assert len(now.list(f"{folder}/thumbs/")) == 14  # one of each side
    html = now.read_bytes(f"{folder}/index.html").decode()
    assert "Below are the 7 items with the gravest changes of 30." in html
    assert now.read_table(f"{folder}/changes/00000.parquet").num_rows == 90
    now.delete("selection/00000.parquet")
    for entry in before.list("selection/"):
        now.write_bytes(entry.key, before.read_bytes(entry.key))
    write_changes(before, now, settings)  # what is left over of the page before goes
    assert not now.list(f"{folder}/thumbs/") and index_of(now, folder)["cards"] == []


def test_a_place_of_ones_own(night, tmp_path):
    before, now = night
    written = write_changes(before, now, ReportSettings(), str(tmp_path / "page"))
    assert written.page == f"{tmp_path}/page/index.html" and not now.list("selection_changes/")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="other files and no report"):
        write_changes(before, now, ReportSettings(), str(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--selections", "{a}", "{a}"], "the same run twice"),
        (["--selections", "{a}", "{b}", "--recompute"], "belong to --runs"),
        (["--runs", "{a}", "{b}", "--into", "x"], "--selections writes its page"),
        (["--selections", "{a}", "{b}", "--runs", "{a}"], "not allowed with"),
        (["--selections", "{a}"], "expected 2 arguments"),
        ([], "required"),
    ],
)
def test_what_makes_no_sense_is_refused(night, capsys, arguments, said):
    before, now = night
    with pytest.raises((ConfigError, SystemExit)) as ended:
        main([a.format(a=before.root, b=now.root) for a in arguments])
    assert said in f"{ended.value} {capsys.readouterr().err}"


def test_a_run_that_was_never_selected_from_is_refused(night):
    before, now = night
    now.delete("selection/00000.parquet")
    with pytest.raises(StoreError, match="no selection there; first"):
        write_changes(before, now, ReportSettings())


def test_hostile_texts_ids_and_addresses_and_missing_pictures(tmp_path):
    before, now = open_store(str(tmp_path / "<b>")), open_store(str(tmp_path / "now"))
    write_run(before, 16, 6, hostile=True, metrics=False)
    write_run(now, 16, 6, hostile=True, metrics=False)
    rows = [image(text, url, 0.5, text=text, thumbnail=None) for text in HOSTILE for url in HOSTILE_URLS]
    write_chosen(before.root, rows, shard_rows=999)
    write_chosen(now.root, [r | {"rank_score": 0.1 * (i % 7)} for i, r in enumerate(rows)], shard_rows=999)
    written = write_changes(before, now, ReportSettings(title=HOSTILE[0]))
    files = {e.key: now.read_bytes(e.key) for e in now.list("selection_changes/")}
    text = b"".join(data for key, data in files.items() if key.endswith((".html", ".js")) and "/assets/" not in key)
    assert written.changes.num_items["changed"] >= len(HOSTILE)
    assert b"<script>window" not in text and b"<svg onload" not in text and b"<img src=x" not in text
    csv_text = files["selection_changes/_b_/changes_csv/00000.csv"]
    assert b"\r\n'=cmd|" in csv_text and csv_bytes(["x"], [])[:3] == csv_text[:3]
