"""The weights job: what it prints and how it ends."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from aistudio.jobs.weights import main
from aistudio.models._checkpoint import save_weights
from tests.models import tiny_golden


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder of tiny published files, and the address of a server that hands them out."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tiny_golden.VOCABULARY) + "\n", encoding="utf-8")
    ranking = tiny_golden.weights(tiny_golden.ranking_shapes())
    towers = {k.removeprefix("align_model."): v for k, v in ranking.items() if k.startswith("align_model.")}
    save_weights(towers, folder / "recall.safetensors")
    save_weights(ranking, folder / "ranking.safetensors")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def confs(tmp_path: Path, published: tuple[Path, str]) -> list[str]:
    """--conf options of a recall and a ranking model that are still to be fetched."""
    _, url = published
    options = []
    for name, family, arch in (
        ("recall", "align", tiny_golden.ARCH),
        ("ranking", "siamese_poi", tiny_golden.RANKING_ARCH),
    ):
        here = tmp_path / "here"
        conf = {
            "family": family,
            "name": name,
            "weights": {"path": str(here / f"{name}.safetensors"), "url": f"{url}/{name}.safetensors"},
            "extra_files": {"vocabulary": {"path": str(here / "vocab.txt"), "url": f"{url}/vocab.txt"}},
            "tokenizer": str(here),
            "image": {"size": tiny_golden.SIZE},
            "arch": arch,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(conf, allow_unicode=True), encoding="utf-8")
        options += ["--conf", str(path)]
    return options


def test_list_fetch_verify(confs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *confs]) == 0
    assert capsys.readouterr().out.count("not here") == 4

    assert main(["verify", *confs]) == 2
    err = capsys.readouterr().err
    assert "recall.safetensors: no such weights file" in err
    assert "ranking.safetensors: no such weights file" in err  # the second has its turn, too

    assert main(["fetch", *confs]) == 0
    out = capsys.readouterr().out
    assert out.count("fetched; sha256") == 3
    assert out.count("already here") == 1  # the vocabulary, shared

    assert main(["verify", *confs]) == 0
    out = capsys.readouterr().out
    for expected in (
        "numbers, 12 wide",
        "fingerprint ",
        "海边的日落 -> [2, 5, 6, 1",
        "(cosine)",
        "(ranking",
    ):
        assert expected in out
    assert "ranking and recall have the same image tower: one pass serves both" in out


def test_cache_of_this_node(confs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["fetch", *confs, *cache]) == 0
    out = capsys.readouterr().out
    assert out.count("; sha256 ") == 4 and str(tmp_path / "cache" / "blobs") in out
    assert not (tmp_path / "here").exists()
    assert main(["list", *confs, *cache]) == 0
    out = capsys.readouterr().out
    assert out.count("(in the cache: ") == 4 and "not here" not in out
    assert main(["verify", *confs, *cache]) == 0
    assert "ranking and recall have the same image tower" in capsys.readouterr().out
    assert main(["verify", *confs, "--cache", str(tmp_path / "empty")]) == 2


def test_verify_scores_cases(confs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", *confs]) == 0
    cases = {
        "images": [{"file": "a.png"}, {"file": "broken.jpg"}],
        "texts": ["海边", "山城"],
        "rank_cases": [{"image": 0, "title": "海边", "poi_names": "湖,山城"}],
    }
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_text("no image")
    capsys.readouterr()
    assert main(["verify", *confs, "--cases", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "a.png  " in out
    assert "image 0  湖,山城" in out
    assert main(["verify", *confs, "--cases", str(tmp_path / "none")]) == 2
    assert "not a folder of cases" in capsys.readouterr().err


def test_changed_file_is_noticed(confs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", *confs]) == 0
    path = tmp_path / "here" / "recall.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    assert main(["verify", *confs]) == 2
    assert "sha256 is" in capsys.readouterr().err


def test_built_in_models_and_those_here_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/models").mkdir(parents=True)
    for name in ("mine", "siglip"):  # one of a built-in name goes before it
        text = f"family: align\nname: {name}_of_mine\nweights: {{path: w.pth}}\n"
        (tmp_path / f"conf/models/{name}.yaml").write_text(text, encoding="utf-8")
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert out.count("_of_mine (align)") == 2 and "siglip (hf_dual)" not in out and "clip_vit_b32 (hf_dual)" in out
