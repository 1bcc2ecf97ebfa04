"""Parity: the published models against the reference's numbers, and a tiny case of our own that runs everywhere."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aistudio.config import ModelConfig
from aistudio.models import load_model
from aistudio.poi_table import PoiTable, to_arrow
from tests.models import tiny_golden


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return json.loads(tiny_golden.EXPECTED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def table() -> PoiTable:
    pictures = {name: tiny_golden.vector("picture" + name) for name in tiny_golden.POIS_WITH_PICTURES}
    names = {name: tiny_golden.vector("name" + name) for name in tiny_golden.POIS_WITH_NAMES}
    return PoiTable.from_arrow(to_arrow(tiny_golden.POI_COUNTS, pictures, names, tiny_golden.DIM))


def test_stored_numbers_are_those_of_the_written_out_forward(expected: dict[str, Any]) -> None:
    again = tiny_golden.expected()
    for name in ("images", "texts", "rank"):
        np.testing.assert_allclose(expected[name], again[name], atol=1e-9)


@pytest.mark.parametrize("optimize", [True, False])
def test_tiny_recall_model(tiny: dict[str, ModelConfig], expected: dict[str, Any], optimize: bool) -> None:
    model = load_model(tiny["recall"], optimize=optimize)
    np.testing.assert_allclose(model.encode_images(tiny_golden.pixels()), expected["images"], atol=2e-6)
    assert model.tokenize(tiny_golden.TEXTS) == expected["token_ids"]
    np.testing.assert_allclose(model.encode_texts(tiny_golden.TEXTS), expected["texts"], atol=2e-6)


@pytest.mark.parametrize("optimize", [True, False])
def test_tiny_ranking_model(
    tiny: dict[str, ModelConfig], expected: dict[str, Any], table: PoiTable, optimize: bool
) -> None:
    model = load_model(tiny["ranking"], poi_table=table, optimize=optimize)
    titles, pois = (list(column) for column in zip(*tiny_golden.RANK_CASES, strict=True))
    for vector, want in zip(model.encode_images(tiny_golden.pixels()), expected["rank"], strict=True):
        got = model.rank(np.repeat(vector[None], len(titles), axis=0), titles, pois)
        np.testing.assert_allclose(got, want, atol=5e-6)


def test_published_models_pass_the_shared_check(golden_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("golden_check", golden_dir / "check.py")
    assert spec is not None and spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    code = check.main("golden_adapter", ["public"])
    assert code == 0, capsys.readouterr().out
