"""The same model from its own path, from an address, or half of each: same settings, same fingerprint, same vectors."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aistudio.config import ModelConfig, StoreSettings, WeightsFile
from aistudio.errors import WeightsError
from aistudio.models import check_weights, load_model
from aistudio.weights.cache import WeightsCache
from aistudio.weights.placing import pin_files, place_files
from tests.models import tiny_golden
from tests.weights.file_server import FileServer


@pytest.fixture
def cache(tmp_path: Path) -> WeightsCache:
    return WeightsCache(tmp_path / "cache", StoreSettings())


@pytest.fixture
def served(tiny: dict[str, ModelConfig], tmp_path: Path) -> Iterator[tuple[ModelConfig, FileServer]]:
    """The tiny recall model as a conf whose folder is not on this machine."""
    folder = Path(tiny["recall"].weights.path).parent
    with FileServer({f"/{p.name}": p.read_bytes() for p in folder.iterdir() if p.is_file()}) as server:
        away = tmp_path / "away"
        weights = WeightsFile(path=str(away / "recall.safetensors"), url=server.url("/recall.safetensors"))
        vocabulary = WeightsFile(path=str(away / "vocab.txt"), url=server.url("/vocab.txt"))
        update = {"weights": weights, "extra_files": {"vocabulary": vocabulary}, "tokenizer": str(away)}
        yield tiny["recall"].model_copy(update=update), server


def test_model_from_addresses_is_the_model_from_its_folder(
    tiny: dict[str, ModelConfig], served: tuple[ModelConfig, FileServer], cache: WeightsCache, tmp_path: Path
) -> None:
    cfg, server = served
    pinned = pin_files(cfg, cache)
    assert pinned.weights.path == cfg.weights.path
    body = server.files["/recall.safetensors"]
    assert pinned.weights.sha256 == hashlib.sha256(body).hexdigest() and pinned.weights.size_bytes == len(body)
    node = WeightsCache(tmp_path / "another_node", StoreSettings())
    placed = place_files(pinned, node)
    assert check_weights(placed).fingerprint == check_weights(tiny["recall"]).fingerprint
    pixels = tiny_golden.pixels()
    got, want = load_model(placed).encode_images(pixels), load_model(tiny["recall"]).encode_images(pixels)
    np.testing.assert_array_equal(got, want)
    assert sorted(server.paths) == sorted(["/recall.safetensors", "/vocab.txt"] * 2)  # once on each node
    assert place_files(pinned, node) == placed
    assert len(server.paths) == 4


def test_right_files_at_their_paths_are_used_as_they_are(
    served: tuple[ModelConfig, FileServer], cache: WeightsCache
) -> None:
    cfg, server = served
    folder = Path(cfg.weights.path).parent
    folder.mkdir()
    for name in ("recall.safetensors", "vocab.txt"):
        (folder / name).write_bytes(server.files[f"/{name}"])
    pinned = pin_files(cfg, cache)
    assert place_files(pinned, cache) is pinned
    assert server.paths == [] and not cache.folder.exists()
    # Another file under that name, on a node: the pinned one is fetched; its neighbour stays.
    (folder / "recall.safetensors").write_bytes(b"of last month")
    placed = place_files(pinned, cache)
    assert Path(placed.weights.path).read_bytes() == server.files["/recall.safetensors"]
    assert server.paths == ["/recall.safetensors"]
    assert (Path(str(placed.tokenizer)) / "vocab.txt").resolve() == (folder / "vocab.txt").resolve()


def test_wrong_file_on_the_driver_is_said(served: tuple[ModelConfig, FileServer], cache: WeightsCache) -> None:
    cfg, server = served
    path = Path(cfg.weights.path)
    path.parent.mkdir()
    path.write_bytes(b"another one")
    right = hashlib.sha256(server.files["/recall.safetensors"]).hexdigest()
    known = cfg.model_copy(update={"weights": cfg.weights.model_copy(update={"sha256": right})})
    with pytest.raises(WeightsError, match=f"expected {right}"):
        pin_files(known, cache)


def test_unlisted_neighbours_come_along(
    tiny: dict[str, ModelConfig], served: tuple[ModelConfig, FileServer], cache: WeightsCache
) -> None:
    """A tokenizer that travels with the code, weights that do not, in one folder."""
    cfg, server = served
    cfg = cfg.model_copy(update={"extra_files": {}})
    folder = Path(cfg.weights.path).parent
    folder.mkdir()
    (folder / "vocab.txt").write_bytes(server.files["/vocab.txt"])
    placed = place_files(pin_files(cfg, cache), cache)
    assert check_weights(placed).fingerprint == check_weights(tiny["recall"]).fingerprint


def test_folders_that_arch_names_are_replaced(tmp_path: Path, cache: WeightsCache) -> None:
    with FileServer({"/image/config.json": b"{}", "/text/pytorch_model.bin": b"w", "/text/vocab.txt": b"v"}) as server:
        files = {
            name: WeightsFile(path=f"{tmp_path}/hf/{name}", url=server.url(f"/{name}"))
            for name in ("image/config.json", "text/vocab.txt", "text/pytorch_model.bin")
        }
        cfg = ModelConfig(
            family="hf_dual",
            name="two_folders",
            weights=files["text/pytorch_model.bin"],
            extra_files={"config": files["image/config.json"], "vocabulary": files["text/vocab.txt"]},
            arch={
                "model": f"{tmp_path}/hf/../hf/image",
                "text_model": f"{tmp_path}/hf/text",
                "text_weights": f"{tmp_path}/hf/text/pytorch_model.bin",
                "revision": "main",
                "max_tokens": 52,
            },
        )
        placed = place_files(pin_files(cfg, cache), cache)
    arch = placed.arch
    assert [p.name for p in Path(arch["model"]).iterdir()] == ["config.json"]
    assert {p.name for p in Path(arch["text_model"]).iterdir()} == {"vocab.txt", "pytorch_model.bin"}
    assert Path(arch["text_weights"]).read_bytes() == b"w" and arch["text_weights"] == placed.weights.path
    assert (arch["revision"], arch["max_tokens"]) == ("main", 52)


def test_without_the_network(served: tuple[ModelConfig, FileServer], cache: WeightsCache) -> None:
    cfg, server = served
    assert place_files(cfg, cache, fetch=False) is cfg
    with pytest.raises(WeightsError, match=r"no such weights file; fetch it with(.|\n)*aistudio weights fetch"):
        check_weights(cfg)
    pin_files(cfg, cache)
    server.close()
    check_weights(place_files(cfg, cache, fetch=False))


def test_file_without_an_address_is_left_to_the_family(tiny: dict[str, ModelConfig], cache: WeightsCache) -> None:
    gone = tiny["recall"].model_copy(update={"weights": WeightsFile(path="weights/none.pth")})
    pinned = pin_files(gone, cache)
    assert pinned.weights.sha256 is None and place_files(pinned, cache) is pinned
    with pytest.raises(WeightsError, match="every node then fetches it once into its own cache"):
        check_weights(pinned)
