"""Every file that is refused, with its message, and every form that is taken."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aistudio.config import ModelConfig, WeightsFile
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights, load_model
from aistudio.models._checkpoint import read_state_dict, save_weights
from tests.models import tiny_golden


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return tiny_golden.weights(tiny_golden.shapes())


def with_file(cfg: ModelConfig, path: Path) -> ModelConfig:
    return cfg.model_copy(update={"weights": WeightsFile(path=str(path))})


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("min_loss", [0.018, np.float64(0.018), np.float32(0.018), np.int64(3), torch.tensor(0.018)])
def test_training_checkpoint_with_any_plain_loss(
    tiny: dict[str, ModelConfig], state: dict[str, torch.Tensor], tmp_path: Path, min_loss: Any
) -> None:
    extras = {
        "relations_emb.weight": torch.zeros(4, 100),
        "linear_relation.weight": torch.zeros(3, 100),
        "linear_relation.bias": torch.zeros(3),
        "logit_scale": torch.tensor(3.0),
        "text_model.embeddings.position_ids": torch.arange(12)[None],
        "text_model.pooler.dense.weight": torch.zeros(16, 16),
        "text_model.pooler.dense.bias": torch.zeros(16),
        "image_model._bn0.num_batches_tracked": torch.tensor(1000),
    }
    path = saved({"epoch": 19, "min_loss": min_loss, "state_dict": state | extras}, tmp_path / "c.pth")
    model, plain = load_model(with_file(tiny["recall"], path)), load_model(tiny["recall"])
    np.testing.assert_array_equal(model.encode_texts(["海边"]), plain.encode_texts(["海边"]))
    assert model.image_tower_fingerprint == plain.image_tower_fingerprint
    assert model.fingerprint != plain.fingerprint  # another file


def test_numpy_1_scalars_are_taken_too(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    content = {"state_dict": {"a": torch.ones(2)}, "min_loss": np.float64(1), "epoch": 1}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    body = path.read_bytes()
    assert b"cnumpy._core.multiarray\nscalar\n" in body
    path.write_bytes(body.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert read_state_dict(path)["a"].tolist() == [1, 1]


def test_bare_state_dict_and_half_precision_safetensors(
    tiny: dict[str, ModelConfig], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    bare = load_model(with_file(tiny["recall"], saved(state, tmp_path / "bare.pth")))
    want = load_model(tiny["recall"]).encode_images(tiny_golden.pixels())
    np.testing.assert_array_equal(bare.encode_images(tiny_golden.pixels()), want)
    save_weights(state, tmp_path / "half.safetensors", torch.float16)
    half = load_model(with_file(tiny["recall"], tmp_path / "half.safetensors"))
    np.testing.assert_allclose(half.encode_images(tiny_golden.pixels()), want, atol=0.02)


class Hostile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_hostile_pickle_is_refused_and_not_run(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    for i, legacy in enumerate((False, True)):
        path = tmp_path / f"{i}.pth"
        content = {"state_dict": {}, "min_loss": Hostile(victim)}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(WeightsError, match=r"refused: the file asks for (posix|nt)\.mkdir"):
            check_weights(with_file(tiny["recall"], path))
    assert not victim.exists()


def test_numpy_scalar_of_objects_is_refused(tmp_path: Path) -> None:
    class ObjectScalar:
        def __reduce__(self) -> Any:
            return np._core.multiarray.scalar, (np.dtype("O"), b"x")

    path = saved({"state_dict": {"a": torch.zeros(1)}, "min_loss": ObjectScalar()}, tmp_path / "o.pth")
    with pytest.raises(WeightsError, match="refused"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page saved as weights"),
        (b"\n <html>not found</html>", "web page saved as weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"\x00\x01\x02" * 100, "not a weights file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json here!}", "damaged safetensors"),
    ],
)
def test_foreign_files(tmp_path: Path, body: bytes, message: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(body)
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)


def test_truncated_files(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_weights(state, tmp_path / "w.safetensors")
    saved(state, tmp_path / "w.pth")
    for name, message in (("w.safetensors", "damaged safetensors"), ("w.pth", "damaged or truncated")):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(WeightsError, match=message):
            read_state_dict(path)


def test_missing_unknown_and_misshapen_tensors_are_all_listed(
    tiny: dict[str, ModelConfig], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrong = dict(state)
    del wrong["image_model._fc.bias"]
    wrong["surprise.weight"] = torch.zeros(2)
    wrong["text_hidden_layer.bias"] = torch.zeros(99)
    path = saved(wrong, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as e:
        check_weights(with_file(tiny["recall"], path))
    assert "1 tensors missing: image_model._fc.bias" in str(e.value)
    assert "1 tensors unknown: surprise.weight" in str(e.value)
    assert "text_hidden_layer.bias is (99,), expected (12,)" in str(e.value)


def test_ranking_file_is_not_a_recall_model(tiny: dict[str, ModelConfig]) -> None:
    with pytest.raises(WeightsError, match="not weights of this model"):
        check_weights(with_file(tiny["recall"], Path(tiny["ranking"].weights.path)))


def test_numbers_that_are_not_finite(
    tiny: dict[str, ModelConfig], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = saved(state | {"image_model._fc.bias": torch.full((20,), torch.nan)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"not finite numbers in image_model\._fc\.bias"):
        load_model(with_file(tiny["recall"], path))


@pytest.mark.parametrize(
    "content", [[1, 2], {"state_dict": {"a": 1}}, {}, {"state_dict": {"a": torch.zeros(1)}, "optimizer": 1}]
)
def test_files_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match=r"no state dict|unknown entries beside state_dict: optimizer"):
        read_state_dict(saved(content, tmp_path / "w.pth"))


def test_missing_file_names_the_command(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    cfg = with_file(tiny["recall"], tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=r"none\.pth: no such weights file; put it there, or give it an address"):
        check_weights(cfg)
    no_tokenizer = tiny["recall"].model_copy(update={"tokenizer": str(tmp_path)})
    with pytest.raises(WeightsError, match=r"vocab\.txt: no such tokenizer file"):
        check_weights(no_tokenizer)
    with pytest.raises(ConfigError, match="tokenizer is missing"):
        check_weights(tiny["recall"].model_copy(update={"tokenizer": None}))


def test_size_and_checksum_are_compared(tiny: dict[str, ModelConfig]) -> None:
    path = tiny["recall"].weights.path
    for file, message in (
        (WeightsFile(path=path, size_bytes=5), "expected 5"),
        (WeightsFile(path=path, sha256="0" * 64), "sha256 is"),
    ):
        with pytest.raises(WeightsError, match=message):
            check_weights(tiny["recall"].model_copy(update={"weights": file}))


def test_vocabulary_of_another_model(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*tiny_golden.VOCABULARY, "多"]), encoding="utf-8")
    with pytest.raises(WeightsError, match="17 entries, but the model has 16"):
        load_model(tiny["recall"].model_copy(update={"tokenizer": str(tmp_path)}))
    (tmp_path / "vocab.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(WeightsError, match="not a WordPiece vocabulary: sep_token not found"):
        load_model(tiny["recall"].model_copy(update={"tokenizer": str(tmp_path)}))
