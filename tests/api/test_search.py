"""Searching from Python: every kind of question gives the ids and scores of `jobs.search`, bit for bit."""

import json

import numpy as np
import pytest
from PIL import Image

import aistudio
from aistudio.config import parse_config
from aistudio.errors import ConfigError
from aistudio.jobs import search as job
from tests.models.test_composers import saved
from tests.pipeline.test_composed_datasets import write_conf
from tests.score_here import score_here

NUM = 16
TEXTS = ["西湖 a", "长城 b", "ab c", "9 d"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def run(folder, tiny_models):
    """16 pictures of 8 items, two of the same bytes, one that is none, with a recall model and a composer."""
    rng = np.random.default_rng(2)
    lines = []
    for i in range(NUM):
        colour = np.array([40 + 25 * (i % 8), 220 - 20 * (i % 5), 90])
        pixels = np.clip(colour + rng.integers(-40, 40, (44, 52, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append({"item_id": f"item{i // 2}", "image_url": str(folder / f"{i}.png"), "text": TEXTS[i % 4],
                      "category": "hat" if i % 3 else "coat", "price": i * 1.5})  # fmt: skip
    (folder / "9.png").write_bytes((folder / "2.png").read_bytes())
    (folder / "5.png").write_text("no picture")
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Image.fromarray(rng.integers(0, 255, (60, 60, 3)).astype(np.uint8)).save(folder / "new.png")
    conf = write_conf(saved(folder, "tirg"), folder / "tirg.yaml")
    config = parse_config({
        "manifest": {"path": str(folder / "m.jsonl"), "format": "jsonl"}, "output": str(folder / "run"),
        "models": {"recall": tiny_models["recall"], "encoders": {"compose": conf}}, "engine": {"shard_rows": 5},
    }, "test")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISTUDIO_CACHE", str(folder / "cache"))
        yield aistudio.open_run(score_here(config).root)


def row_ids(run):
    return run.rows(["row_id"]).table()["row_id"].to_pylist()


def questions(run, folder):
    """Return a question of every kind: the model, the query table's columns, and the arguments in Python."""
    rows, new = row_ids(run), str(folder / "new.png")
    return [
        (None, {"text": "西湖"}, {"text": "西湖"}),
        (None, {"row_id": rows[2]}, {"row_id": rows[2]}),
        (None, {"item_id": "item3"}, {"item_id": "item3"}),
        (None, {"image_url": new}, {"image": new}),
        (None, {"image_url": str(folder / "2.png")}, {"image": (folder / "2.png").read_bytes()}),
        ("compose", {"row_id": rows[4]}, {"row_id": rows[4]}),
        ("compose", {"row_id": rows[4], "text": "red"}, {"row_id": rows[4], "text": "red"}),
        ("compose", {"image_url": new, "text": "long collar"}, {"image": folder / "new.png", "text": "long collar"}),
        ("compose", {"item_id": "item1"}, {"item_id": "item1"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ([], {}),
        (["search.per=row", "search.leave_out=[]"], {"per": "row", "leave_out": []}),
        (["search.where.category=hat", "search.top_n=3"], {"where": {"category": "hat"}, "top_n": 3}),
        (["search.diversify.category=1"], {"diversify": {"category": 1}}),
    ],
)
def test_every_kind_of_question_gives_what_the_job_gives(run, folder, settings, how, capsys):
    asked = questions(run, folder)
    for model in (None, "compose"):
        own = [(table, python) for name, table, python in asked if name == model]
        lines = [{"query_id": str(i), **table} for i, (table, _) in enumerate(own)]
        (folder / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
        argv = ["--run", run.path, "--name", "s", "--queries", str(folder / "q.jsonl")]
        argv += ["--model", model] if model else []
        assert job.main([*argv, *(part for s in settings for part in ("--set", s))]) == 0
        stored = aistudio.open_run(run.path)._store.read_table("searches/s/results.parquet").to_pylist()
        assert {r["query_id"] for r in stored} == {line["query_id"] for line in lines}
        for i, (_, python) in enumerate(own):
            found = run.search(**python, model=model, **how)
            wanted = [r for r in stored if r["query_id"] == str(i)]
            got = found.table().select(["rank", "item_id", "row_id", "score"]).to_pylist()
            assert got == [{k: r[k] for k in ("rank", "item_id", "row_id", "score")} for r in wanted]
            if "text" not in python:
                assert [r.why for r in found.results] == [r["why"] for r in wanted]


def test_settings_of_the_run_are_the_defaults(run):
    own = aistudio.open_run(run.path, ["search.top_n=2", "search.per=row", "search.where.category=coat"])
    found = own.search(row_id=row_ids(run)[0])
    assert len(found.results) == 2
    table = found.table(["category", "price"]).to_pydict()
    assert table["category"] == ["coat", "coat"]
    hats = own.search(row_id=row_ids(run)[0], where={"category": "hat"}, per="item", top_n=5, leave_out=["item"])
    assert len(hats.results) == 5


def test_pages_and_ranges(run):
    row = row_ids(run)[0]
    whole = run.search(row_id=row, per="row", top_n=6)
    assert [r.row_id for r in run.search(row_id=row, per="row", top_n=2, offset=4).results] == [
        r.row_id for r in whole.results[4:]
    ]
    cheap = run.search(row_id=row, per="row", where={"price": aistudio.Range(high=9)}, top_n=20)
    assert cheap.gallery_rows == 6 and all(float(p) <= 9 for p in cheap.table(["price"])["price"].to_pylist())


def test_a_picture_and_a_text_are_mixed_by_weight_without_a_composer(run):
    row = row_ids(run)[3]
    alone = run.search(row_id=row, per="row", leave_out=[])
    mixed = run.search("长城", row_id=row, per="row", leave_out=[], text_weight=0.0)
    assert [r.row_id for r in mixed.results] == [r.row_id for r in alone.results]
    text = run.search("长城", per="row", leave_out=[])
    mixed = run.search("长城", row_id=row, per="row", leave_out=[], picture_weight=0.0)
    assert [r.row_id for r in mixed.results] == [r.row_id for r in text.results]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing to ask with"),
        ({"text": " "}, "nothing to ask with"),
        ({"row_id": "0", "item_id": "item0"}, "one picture or item at a time"),
        ({"row_id": "no such"}, "row_id no such"),
        ({"text": "red", "model": "compose"}, "a text needs a picture beside it"),
        ({"text": "red", "item_id": "item0", "model": "compose"}, "choose one picture of the item"),
        ({"image": b"no picture"}, "image: not_an_image"),
        ({"image": "/no/such.png"}, "image: not_found"),
        ({"text": "a", "model": "look"}, "no vectors of"),
        ({"text": "a", "where": {"colour": "red"}}, "colour"),
        ({"text": "a", "top_n": 0}, "expected at least one"),
    ],
)
def test_what_cannot_be_asked_is_said(run, asked, message):
    with pytest.raises(ConfigError, match=message):
        run.search(**asked)
