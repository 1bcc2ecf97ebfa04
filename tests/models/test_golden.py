"""Parity: the published models against the reference's numbers, and a tiny case of our own that runs everywhere."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aistudio.config import ModelConfig
from aistudio.models import load_model, load_ranking
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
    model = load_ranking(tiny["ranking"], table, optimize=optimize)
    titles, pois = (list(column) for column in zip(*tiny_golden.RANK_CASES, strict=True))
    for vector, want in zip(model.encode_images(tiny_golden.pixels()), expected["rank"], strict=True):
        got = model.rank(np.repeat(vector[None], len(titles), axis=0), titles, pois)
        np.testing.assert_allclose(got, want, atol=5e-6)


def test_published_models_pass_the_shared_check(golden_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("golden_check", golden_dir / "check.py")
    assert spec is not None and spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    code = check.main("tests.models.golden_adapter", ["public"])
    assert code == 0, capsys.readouterr().out


def adapter() -> Any:
    spec = importlib.util.spec_from_file_location("golden_adapter", Path(__file__).with_name("golden_adapter.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_adapter_sees_black_where_the_job_fails_a_row(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    """Truncated anywhere, empty, no image at all, or an image of a format that is not decoded."""
    golden = adapter()
    golden._state["recall"] = load_model(tiny["recall"])
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        Image.fromarray(noise).save(tmp_path / f"whole.{kind}", kind)
        body = (tmp_path / f"whole.{kind}").read_bytes()
        for name, part in (("half", body[: len(body) // 2]), ("header", body[:40]), ("last", body[:-40])):
            (tmp_path / f"{name}.{kind}").write_bytes(part)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"<html>not found</html>")
    (tmp_path / "drawing.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    paths = sorted(tmp_path.iterdir())
    pixels = golden.read_pixels([str(path) for path in paths])
    seen = {path.name for path, own in zip(paths, pixels, strict=True) if own.any()}
    assert seen == {"whole.JPEG", "whole.PNG", "whole.WEBP", "whole.BMP"}


def test_adapters_recall_is_the_papers(tmp_path: Path) -> None:
    """Ties stay in file order, owners are compared whole, short lines are skipped, odd numbers are numbers."""
    lines = [
        "7,a,t/8_1.jpg,0.5", "7,a,t/7_1.jpg,0.5", "x", "", "7,a,t/9_1.jpg,1e-07",
        "70,b,t/7_2.jpg,-0.5", "70,b,t/700_2.jpg,-0.25", "70,b,t/70_2.jpg,-0.75",
        "9,c,t/90_3.jpg,0.1", "11,d,t/11_1.jpg,0.2",
    ]  # fmt: skip
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    golden = adapter()
    assert [golden.recall_at_k(str(path), k) for k in (1, 2, 3, 100)] == [0.25, 0.5, 0.75, 0.75]
