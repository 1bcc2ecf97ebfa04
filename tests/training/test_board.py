"""TensorBoard files and their pictures."""

import gc
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from aistudio.store import open_store
from aistudio.training import layout, programs
from aistudio.training.board import Board, flattened, tiled
from aistudio.training.neighbours import SHOWN, Neighbours
from aistudio.training.team import Team
from tests.training import tiny_training as tiny


def jpeg(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(out, "JPEG")
    return out.getvalue()


def test_a_grid_of_pictures_has_a_row_for_each_list():
    grid = tiled([[jpeg((255, 0, 0)), None], [b"no picture"]], 8)
    assert grid.shape == (16, 16, 3) and grid[4, 4, 0] > 250 and grid[4, 4, 1] < 5
    assert (grid[:8, 8:] == 128).all() and (grid[8:] == 128).all()
    assert tiled([], 8).shape == (8, 8, 3)


def test_its_files_are_gone_with_it(tmp_path):
    pytest.importorskip("tensorboard")
    board = Board(open_store(str(tmp_path)))
    board.begin(0)
    board.scalar("loss", 1.0, 1)
    board.write()
    folder = Path(board._folder)
    assert folder.is_dir() and open_store(str(tmp_path)).list(layout.TENSORBOARD)
    del board
    gc.collect()
    assert not folder.exists()


def test_settings_are_flattened():
    assert flattened({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {"a.b": 1, "a.c.d": None, "e": [1]}


@pytest.mark.parametrize("chunk", [3, 7, 50])
def test_neighbours_are_those_of_a_plain_sort(chunk):
    rng = np.random.default_rng(chunk)
    vectors, queries = rng.normal(size=(20, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    image = rng.integers(0, 20, 50)
    image[:20] = np.arange(20)
    texts = ["a", "", "b", "a", "c", *[" "] * 45]

    class Data:
        def __len__(self) -> int:
            return len(texts)

        def readable(self, rows: np.ndarray, name: str) -> list[str]:
            return [texts[row] for row in rows]

        def column(self, name: str) -> np.ndarray:
            return image

    model = SimpleNamespace(dim=4, encode_texts=lambda asked: queries[["abc".index(t) for t in asked]])
    found = Neighbours(model, Data())
    assert found.texts == ["a", "b", "c"]
    for start in range(0, 50, chunk):
        rows = np.arange(start, min(start + chunk, 50))
        found.add(image[rows], vectors[image[rows]])
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :SHOWN]
    assert found.rows() == [[own, *best] for own, best in zip((0, 2, 4), expected.tolist(), strict=True)]


def test_the_files_hold_numbers_settings_pictures_and_the_outcome(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install aistudio-catalogue[train])")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = tiny.recall(tmp_path, epochs=2)
    record = programs.train(tiny.parsed(data), Team(), print, "-").record
    folder = tmp_path / "out" / layout.TENSORBOARD
    assert open_store(data["output"]).list(layout.TENSORBOARD)
    read = EventAccumulator(str(folder), {"images": 0, "scalars": 0, "tensors": 0})
    read.Reload()
    tags = read.Tags()
    assert {"train/loss", "train/lr", "train/images_per_s", "train/grad_norm", "val/mrr"} <= set(tags["scalars"])
    assert [e.value for e in read.Scalars("best/mrr")] == pytest.approx([record["best"]["metrics"]["mrr"]])
    assert tags["images"] == ["val/neighbours"] and len(read.Images("val/neighbours")) == 2
    text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "task: recall" in text and "epochs: 2" in text
