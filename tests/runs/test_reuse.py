"""What of a base holds for another run: every combination of equal and unequal fingerprints, and runs of all ages."""

import itertools
import json
from pathlib import Path

import pytest

from aistudio.run_record import ModelFacts, RunRecord
from aistudio.runs.migrations import migrated
from aistudio.runs.reuse import find_reuse

PIXELS = {"size": 32, "resize": "opencv_bilinear"}
COLUMNS = ["row_id", "embedding", "embedding_shape", "thumbnail"]
OLD = Path(__file__).resolve().parents[1] / "data/run_8b17918"


def facts(fingerprint: str, tower: str | None = None, pixels=PIXELS) -> ModelFacts:
    return ModelFacts(fingerprint=fingerprint, image_tower_fingerprint=tower, pixels=pixels)


def shape(**changes) -> dict:
    images = {"thumbnail_px": 160, "decode": "exact", "max_pixels": 100}
    models = {"poi_table": None}
    return {"images": images, "precision": "float32", "embedding_dtype": "float32", "models": models} | changes


def record(models: dict[str, ModelFacts], compiled=False, **changes) -> RunRecord:
    return RunRecord(shape=shape(**changes), models=models, config={"engine": {"compile": compiled}})


MODELS = {"recall": facts("r1", "t1"), "ranking": facts("k1", "t1"), "encoders.shape": facts("s1", "t2")}


@pytest.mark.parametrize("same", list(itertools.product([True, False], repeat=5)))
def test_each_combination_of_models_on_the_same_pixels(same):
    recall, recall_tower, ranking, ranking_tower, poi = same
    now = {
        "recall": facts("r1" if recall else "r2", "t1" if recall or recall_tower else "t3"),
        "ranking": facts("k1" if ranking else "k2", "t1" if ranking or ranking_tower else "t4"),
    }
    new = shape(models={"poi_table": None if poi else "p2"})
    found = find_reuse(record(MODELS), COLUMNS, new, now)
    towers = (recall or recall_tower) and (ranking or ranking_tower)
    assert found.vectors == ({"embedding": "embedding", "rank_embedding": "embedding"} if towers else {})
    assert (found.why_not is None) == towers
    assert found.texts == found.recall_score == recall
    assert found.rank_score == (ranking and poi)


@pytest.mark.parametrize(
    ("base", "now", "why"),
    [
        ({}, {"images": shape()["images"] | {"thumbnail_px": 80}}, "images differs"),
        ({}, {"images": shape()["images"] | {"decode": "fast"}}, "images differs"),
        ({}, {"precision": "bfloat16"}, "precision differs"),
        ({"embedding_dtype": "float16"}, {}, "stores vectors as float16"),
        ({"compiled": True}, {}, "compile"),
    ],
)
def test_settings_that_change_numbers_leave_the_texts_alone(base, now, why):
    found = find_reuse(record(MODELS, **base), COLUMNS, shape(**now), MODELS)
    assert not found.vectors and why in (found.why_not or "") and found.texts


def test_compiled_runs_reuse_each_other():
    assert find_reuse(record(MODELS, compiled=True), COLUMNS, shape(), MODELS, compiled=True).vectors
    assert not find_reuse(record(MODELS), COLUMNS, shape(), MODELS, compiled=True).vectors


def test_float32_vectors_may_be_stored_as_float16_now():
    found = find_reuse(record(MODELS), COLUMNS, shape(embedding_dtype="float16"), MODELS)
    assert found.vectors and found.exact


@pytest.mark.parametrize("other", [None, "recall", "ranking", "poi_table"])
def test_rounded_vectors_hold_where_no_score_is_made_of_them(other):
    now = {role: facts("new", "t1") if role == other else model for role, model in MODELS.items()}
    new = shape(embedding_dtype="float16", models={"poi_table": "p" if other == "poi_table" else None})
    found = find_reuse(record(MODELS, embedding_dtype="float16"), COLUMNS, new, now)
    assert bool(found.vectors) == (other is None) and found.exact == (other is not None)


def test_encoders_are_known_by_tower_whatever_they_are_called():
    now = {"encoders.form": facts("other name", "t2")}
    assert find_reuse(record(MODELS), COLUMNS, shape(), now).vectors == {"embedding_form": "embedding_shape"}
    now = {"encoders.form": facts("other name", "t2", PIXELS | {"size": 64})}
    assert "encoders.form" in (find_reuse(record(MODELS), COLUMNS, shape(), now).why_not or "")
    now = {"encoders.form": facts("s1", None, None)}  # a family that cannot compare towers
    assert find_reuse(record(MODELS), COLUMNS, shape(), now).vectors == {"embedding_form": "embedding_shape"}
    now = {"encoders.form": facts("s2", None)}
    assert not find_reuse(record(MODELS), COLUMNS, shape(), now).vectors


def test_a_model_more_needs_every_picture():
    now = MODELS | {"encoders.colour": facts("c1", "t9")}
    found = find_reuse(record(MODELS), COLUMNS, shape(), now)
    assert not found.vectors and "encoders.colour" in (found.why_not or "") and found.texts and found.rank_score


def test_a_ranking_model_with_its_own_tower_has_its_own_column():
    models = {"recall": facts("r1", "t1"), "ranking": facts("k1", "t5")}
    found = find_reuse(record(models), [*COLUMNS, "rank_embedding"], shape(), models)
    assert found.vectors == {"embedding": "embedding", "rank_embedding": "rank_embedding"}


def test_boxes_come_with_the_vectors_they_cut():
    cropped = PIXELS | {"crop": "border"}
    models = {"encoders.shape": facts("s1", "t2", cropped)}
    now = {"encoders.form": facts("s1", "t2", cropped)}
    found = find_reuse(record(models), [*COLUMNS, "crop_shape"], shape(), now)
    assert found.crops == {"crop_form": "crop_shape"} and found.vectors
    assert "cropped" in (find_reuse(record(models), COLUMNS, shape(), now).why_not or "")


def test_fast_decoding_depends_on_all_models_at_once():
    fast = shape()["images"] | {"decode": "fast"}
    now = {"recall": MODELS["recall"]}
    assert find_reuse(record(MODELS, images=fast), COLUMNS, shape(images=fast), now).vectors
    larger = MODELS | {"encoders.large": facts("l1", "t7", PIXELS | {"size": 448})}
    columns = [*COLUMNS, "embedding_large"]
    assert not find_reuse(record(larger, images=fast), columns, shape(images=fast), now).vectors
    assert find_reuse(record(larger), columns, shape(), now).vectors


@pytest.mark.parametrize("base", [RunRecord(), RunRecord(shape={"images": None}, models={}), record({})])
def test_a_record_that_says_little_gives_nothing(base):
    found = find_reuse(base, [], shape(), MODELS)
    assert not found.vectors and found.why_not and not found.texts and not found.rank_score


def test_a_run_of_version_8b17918_is_a_base():
    data = json.loads((OLD / "whole/run.json").read_text(encoding="utf-8"))
    old = RunRecord.model_validate(migrated(data, "run.json"))
    now = {role: facts(model.fingerprint or "", "t1") for role, model in old.models.items()}
    found = find_reuse(old, COLUMNS, old.shape, now)
    assert found.vectors == {"embedding": "embedding", "rank_embedding": "embedding"} and found.rank_score
    head = find_reuse(old, COLUMNS, old.shape, now | {"ranking": facts("k9", "t1")})  # on the recall model's tower
    assert head.vectors == found.vectors and not head.rank_score
    alone = find_reuse(old, COLUMNS, old.shape, {"ranking": facts("k9", "t1")})  # that record does not know towers
    assert not alone.vectors
