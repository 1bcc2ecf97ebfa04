"""Which items' chosen images changed between two selections, and why, on catalogues whose changes are known."""

import numpy as np
import pyarrow as pa
import pytest

from aistudio.errors import StoreError
from aistudio.evaluation.image_changes import Row, item_change
from aistudio.evaluation.selection_changes import CHANGES_SCHEMA, changes_table, selection_changes
from aistudio.store import open_store
from tests.evaluation.chosen_runs import image, write_chosen


def row(url, position=None, reason=None, score=0.5, content=None, **more):
    said = reason or ("kept" if position else "beyond_n")
    content = None if said.startswith("failed") else content or f"bytes of {url}"
    return Row(f"r-{url}", url, 0.3, score, position, said, content, more.get("text", "t"))


def reasons(before, now):
    found = item_change("item", before, now)
    return found and [(i.what, i.reason) for i in found.images if i.changed]


A, B = row("a", 1), row("b", 2)


@pytest.mark.parametrize(
    ("before", "now", "want"),
    [
        ([A, B], [A, B], None),
        ([A, B], [A, B, row("c")], None),  # an image that is not chosen is no change
        ([], [A], [("in", "new_item")]),
        ([A], [], [("out", "item_gone")]),
        ([A], [row("z", 1), row("a")], [("in", "new_image"), ("out", "pushed_out")]),
        ([A, B], [A], [("out", "image_gone")]),
        ([A, B], [A, row("b", reason="failed:timeout")], [("out", "failed")]),
        ([A, row("b", reason="failed:timeout")], [A, B], [("in", "ok_now")]),
        ([A], [row("a", 1, content="other")], [("stays", "new_file")]),
        ([A], [row("a", content="other", score=0.1), B], [("in", "new_image"), ("out", "new_file")]),
        ([A], [row("a2", 1, content="bytes of a")], [("stays", "other_address")]),
        ([A, B], [row("b", 1), row("a", 2)], [("stays", "other_position")] * 2),
        ([A, row("b", score=0.1)], [row("b", 1, score=0.9), row("a")], [("in", "other_score"), ("out", "pushed_out")]),
        ([A], [row("a", score=0.1)], [("out", "other_score")]),
        ([A], [row("a", reason="below_recall")], [("out", "gate")]),
        ([A, B], [A, row("b", reason="duplicate_of:r-a")], [("out", "duplicate")]),
        ([A, row("b")], [A, B], [("in", "free_place")]),
        ([A], [row("a", score=0.5 + 1e-6)], [("out", "pushed_out")]),  # a last digit is no other score
        ([row("a", 1, score=None)], [row("a", score=float("nan"))], [("out", "pushed_out")]),
    ],
)
def test_each_change_has_its_reason(before, now, want):
    assert reasons(before, now) == want


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        ([], [A], "new"),
        ([A], [], "gone"),
        ([A, B], [B._replace(position=1)], "lead"),
        ([A], [row("a", 1, content="other")], "lead"),
        ([A, B], [A, row("c", 2), row("b")], "images"),
        ([A, B, row("c", 3)], [A, row("c", 2), row("b", 3)], "order"),
    ],
)
def test_an_item_is_filed_by_its_gravest_change(before, now, kind):
    assert item_change("item", before, now).kind == kind


def test_what_was_two_images_and_is_one_now_is_told_once():
    now = [row("a", 1, content="x"), row("b", 2, content="y")]
    before = [row("a", 1, content="x"), row("c", 2, content="x")]
    found = item_change("item", before, now)
    assert [(i.what, i.reason) for i in found.images] == [("stays", "same"), ("in", "new_image"), ("out", "duplicate")]


@pytest.fixture
def night(tmp_path):
    """Forty items of three images; later nine differ in known ways, and all rows are numbered anew."""
    old = [image(f"i{n:02d}", f"http://x/{n}/{k}.jpg", 0.9 - 0.1 * k) for n in range(40) for k in range(3)]
    new = [dict(r) for r in old if r["item_id"] != "i39"]

    def at(n, k):
        return next(r for r in new if r["image_url"] == f"http://x/{n}/{k}.jpg")

    at(3, 0).update(image("i03", "http://x/3/0.jpg", None))
    at(4, 0).update(content_hash="other bytes")
    at(5, 0).update(rank_score=0.1, text="another text")
    at(6, 1).update(image_url="http://x/6/moved.jpg")
    at(7, 1).update(rank_score=0.95)
    new.remove(at(8, 0))
    new.append(image("i09", "http://x/9/new.jpg", 2.0))
    new += [image("=new", "http://x/n/0.jpg", 0.4), image("none", "http://x/none.jpg", None)]
    before = write_chosen(str(tmp_path / "before"), old)
    return before, write_chosen(str(tmp_path / "now"), new, first_id=1000)


def compared(before, now, most=100, **how):
    parts: dict[int, pa.Table] = {}
    found = selection_changes(before, now, most, parts.__setitem__, **how)
    assert list(parts) == list(range(len(parts)))
    return found, pa.concat_tables(parts.values()).to_pylist(), parts


def test_a_night_whose_changes_are_known(night):
    found, rows, _ = compared(*night)
    assert found.num_items == {
        "before": 40, "now": 41, "new": 2, "gone": 1, "changed": 9, "lead": 6, "images": 0, "order": 1,
    }  # fmt: skip
    assert found.answer == (
        "9 items have other chosen images, of 41; 6 of them another first image; 2 items are new; 1 item is gone."
    )
    assert found.notes == []
    by_item = {}
    for r in rows:
        by_item.setdefault(r["item_id"], []).append((r["change"], r["reason"]))
    assert {k: [x for x in v if x[1] != "same"] for k, v in by_item.items()} == {
        "i03": [("stays", "other_position"), ("in", "free_place"), ("out", "failed")],
        "i04": [("stays", "new_file")],
        "i05": [("stays", "other_position"), ("in", "free_place"), ("out", "other_score")],
        "i06": [("stays", "other_address")],
        "i07": [("stays", "other_position")] * 2,
        "i08": [("stays", "other_position"), ("in", "free_place"), ("out", "image_gone")],
        "i09": [("in", "new_image"), ("stays", "other_position"), ("out", "pushed_out")],
        "=new": [("in", "new_item")],
        "i39": [("out", "item_gone")] * 2,
    }
    gone = next(r for r in rows if r["item_id"] == "i03" and r["change"] == "out")
    assert gone["selection_now"] == "failed:timeout" and gone["position_before"] == 1 and gone["position_now"] is None
    assert (gone["row_id_before"], gone["row_id_now"]) == ("m:9", "m:1009")
    lower = next(r for r in rows if r["reason"] == "other_score")
    assert (lower["rank_score_before"], lower["rank_score_now"]) == pytest.approx((0.9, 0.1))
    assert (lower["text_before"], lower["text_now"]) == ("text of i05", "another text")


def test_parts_and_a_small_page_change_nothing_of_the_whole(night):
    found, rows, _ = compared(*night)
    few, same, parts = compared(*night, most=2, part_items=3)
    assert len(parts) == 3 and all(t.schema == CHANGES_SCHEMA for t in parts.values())
    key = str
    assert sorted(same, key=key) == sorted(rows, key=key) and few[:3] == found[:3]
    assert [i.kind for i in few.shown] == ["lead", "lead"]
    assert len(found.shown) == 9 and found.shown[0].num_changed >= found.shown[1].num_changed


def test_two_selections_that_are_alike(night, tmp_path):
    before, _ = night
    found, rows, parts = compared(before, before)
    assert not rows and found.shown == [] and found.answer == "No item's chosen images changed, of 40."
    assert parts[0].schema == CHANGES_SCHEMA
    nothing = write_chosen(str(tmp_path / "none"), [image("i", "u", None)])
    found, rows, _ = compared(nothing, before)
    assert len(rows) == 80 and found.num_items["changed"] == 40
    assert {i.kind for i in found.shown} == {"new"}


def test_other_settings_models_and_old_runs_are_said(night, tmp_path):
    before, now = night
    now.write_json("run.json", {"models": {"ranking": {"name": "new net", "fingerprint": "f2"}}})
    now.write_json("selection.json", {"settings": {"num_images": 3}})
    notes = compared(before, now)[0].notes
    assert "num_images 2 before, 3 now" in notes[0] and "(none before, new net now)" in notes[1]
    now.write_json("selection.json", ["damaged"])
    assert "not recorded in an older run" in compared(before, now)[0].notes[0]


def test_a_run_without_content_hashes_is_compared_by_address(night):
    before, now = night
    for entry in before.list("scores/"):
        before.write_table(entry.key, before.read_table(entry.key).drop_columns(["content_hash", "text"]))
    found, rows, _ = compared(before, now)
    assert found.num_items["changed"] == 8  # other bytes at an address cannot be known
    assert not any(r["reason"] == "new_file" for r in rows)
    assert {r["reason"] for r in rows if r["item_id"] == "i06"} >= {"new_image", "image_gone"}


def test_runs_without_a_selection_are_refused_with_the_command(night, tmp_path):
    before, now = night
    with pytest.raises(StoreError, match=r"no selection there; first: .*select --run"):
        compared(before, open_store(str(tmp_path / "empty")))
    now.write_table("selection/00000.parquet", pa.table({"item_id": ["x"]}))
    with pytest.raises(StoreError, match="not a selection: it has no column 'row_id'"):
        compared(before, now)


def test_random_nights_keep_the_books(tmp_path):
    rng, scores = np.random.default_rng(5), (None, 0.1, 0.5, 0.9)
    for seed in range(20):
        sides = []
        for side in range(2):
            rows = [
                image(f"i{i}", f"u{u}", scores[s], f"c{c}")
                for i, u, s, c in rng.integers((8, 12, 4, 6), size=(rng.integers(1, 40), 4)).tolist()
            ]
            sides.append(write_chosen(str(tmp_path / f"{seed}-{side}"), rows))
        found, rows, _ = compared(*sides, part_items=2)
        changed = {r["item_id"] for r in rows}
        for side, name in zip(sides, ("before", "now"), strict=True):
            chosen = side.read_table("selection/00000.parquet").to_pylist()
            want = sorted(r["row_id"] for r in chosen if r["selected"] and r["item_id"] in changed)
            got = [r[f"row_id_{name}"] for r in rows if r[f"position_{name}"] is not None]
            assert sorted(got) == want  # each chosen image of a changed item is listed once
        same = [r for r in rows if r["reason"] == "same"]
        assert all(r["position_before"] == r["position_now"] for r in same)
        assert found.num_items["changed"] == len(changed)
        assert changes_table(found.shown).num_rows == len(rows)
