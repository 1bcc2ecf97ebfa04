"""What is different from an earlier run, on runs whose differences are known."""

import numpy as np
import pytest

from aistudio.errors import StoreError
from aistudio.evaluation.drift import drift, verdict
from aistudio.store import open_store
from tests.evaluation.stored_run import catalogue, write_run

MODEL = {"models": {"recall": {"name": "m", "fingerprint": "f1"}}}


def stored(path, rows, texts, **record):
    store = write_run(path, rows, texts)
    store.write_json("run.json", store.read_json("run.json") | MODEL | record)
    return store


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("earlier") / "run", *catalogue(60, 5))


def later(tmp_path, change, **record):
    rows, texts = catalogue(60, 5)
    rows = [r for i, row in enumerate(rows) if (r := change(i, row)) is not None]
    return stored(tmp_path / "now", rows, {r["text"]: texts.get(r["text"], texts["酒店 1"]) for r in rows}, **record)


def test_the_same_run_has_not_moved(earlier):
    found = drift(earlier, earlier)
    assert found["answer"].startswith("Nothing moved noticeably: recall_score (median 0.")
    assert found["answer"].endswith("0 items are new, 0 are gone, of 60 now.")
    assert found["rows"] == {
        "earlier": 300, "now": 300, "both": 300, "new_text": 0, "new_bytes": 0, "failed_now": 0, "ok_now": 0
    }  # fmt: skip
    assert found["scores"]["recall_score"]["distance"] == 0 and found["status_test"]["cramers_v"] == 0
    assert found["notes"] == []  # neither run had a ranking model, so nothing is missing


def test_scores_that_moved_are_said_with_their_size(earlier, tmp_path):
    def lower(i, row):
        return row if row["recall_score"] is None else row | {"recall_score": row["recall_score"] - 0.3}

    found = drift(earlier, later(tmp_path, lower))
    score = found["scores"]["recall_score"]
    assert (
        found["answer"].startswith("Moved: recall_score") and "Not noticeably: the share of failed" in found["answer"]
    )
    assert score["median_b"] == pytest.approx(score["median_a"] - 0.3, abs=1e-5) and score["p_holm"] < 1e-6
    assert sum(score["histogram"]["now"]) == score["n_b"] == sum(score["histogram"]["earlier"])


def test_failures_items_texts_and_files(earlier, tmp_path):
    def change(i, row):
        if row["item_id"] == "item4":
            return None
        if row["item_id"] == "item5":
            row = row | {"item_id": "=new <b>", "text": "酒店 5"}
        if i % 2 and row["status"] == "ok" and i > 100:
            row = row | {"status": "http_error", "error": "404", "recall_score": None, "embedding": None}
        if row["item_id"] == "item7":
            row = row | {"text": "another text"}
        return row | ({"content_hash": "new"} if row["item_id"] == "item8" and row["status"] == "ok" else {})

    found = drift(earlier, later(tmp_path, change))
    assert "the share of failed rows (" in found["answer"].split("Not noticeably")[0]
    assert found["items"] == {"earlier": 60, "now": 59, "new": 1, "gone": 2}
    assert [(i["item_id"], i["rows"]) for i in found["new"]] == [("=new <b>", 5)]
    assert [i["item_id"] for i in found["gone"]] == ["item4", "item5"]
    assert found["gone"][0]["row_id"] == "20" and found["gone"][0]["ok"] <= 5
    assert found["rows"]["both"] == 290 and found["rows"]["new_text"] == 5 and found["rows"]["new_bytes"] > 2
    assert found["rows"]["failed_now"] > 50 and found["rows"]["ok_now"] == 0
    assert sum(s["now"] for s in found["statuses"]) == 295 and found["statuses"][0]["status"] == "ok"


def test_scores_of_different_models_are_not_compared(earlier, tmp_path):
    other = later(tmp_path, lambda _, row: row, models={"recall": {"name": "other", "fingerprint": "f2"}})
    found = drift(earlier, other)
    assert found["scores"] == {} and "recall_score" not in found["answer"]
    assert found["notes"][0] == "recall_score is not compared: the two runs had different recall models (m and other)"


def test_runs_without_scores(earlier, tmp_path):
    with pytest.raises(StoreError, match="nothing has been scored yet"):
        drift(open_store(str(tmp_path / "none")), earlier)
    failed = later(tmp_path, lambda _, row: row | {"status": "timeout", "recall_score": None, "embedding": None})
    found = drift(earlier, failed)
    assert found["scores"] == {} and found["answer"].startswith("Moved: the share of failed rows")


@pytest.mark.parametrize(("p", "size", "said"), [
    (0.001, 0.2, "moved"), (0.001, 0.02, "a little"), (0.2, 0.9, "not surely"), (None, 0.1, "not known"),
])  # fmt: skip
def test_a_small_difference_is_not_called_moved_however_sure(p, size, said):
    assert verdict(p, size) == said


def test_more_rows_of_the_same_kind_are_no_drift(tmp_path):
    rng = np.random.default_rng(1)
    rows, texts = catalogue(60, 5)
    first = stored(tmp_path / "a", rows, texts)
    chosen = [r for r in rows if rng.random() < 0.6]
    found = drift(first, stored(tmp_path / "b", chosen, texts))
    assert found["answer"].startswith("Nothing moved noticeably")
