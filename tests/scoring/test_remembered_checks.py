"""A check of the same files and settings by the same code is made once; anything else is checked."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aistudio.config import load_model_config
from aistudio.errors import WeightsError
from aistudio.jobs.score import main
from aistudio.models import _declared as declared
from aistudio.models import check_is_remembered, check_weights, families, kind
from aistudio.scoring import remembered_checks
from aistudio.scoring.remembered_checks import checked

ROOT = Path(__file__).resolve().parents[2]
CONFS = sorted((ROOT / "conf/models").glob("*.yaml"))


@pytest.fixture
def counted(monkeypatch):
    """How often files were really checked."""
    calls: list[str] = []

    def check(cfg):
        calls.append(cfg.name)
        return check_weights(cfg)

    monkeypatch.setattr(remembered_checks, "check_weights", check)
    return calls


@pytest.fixture
def model(tiny_models, tmp_path):
    """The tiny recall model with files of its own."""
    cfg = load_model_config(tiny_models["recall"])
    for name in (Path(cfg.weights.path).name, "vocab.txt"):
        (tmp_path / name).write_bytes((Path(cfg.tokenizer) / name).read_bytes())
    weights = cfg.weights.model_copy(update={"path": str(tmp_path / Path(cfg.weights.path).name)})
    return cfg.model_copy(update={"weights": weights, "tokenizer": str(tmp_path)})


def test_the_same_is_checked_once_and_found_alike(model, tmp_path, counted):
    folder = tmp_path / "checks"
    first = checked(model, folder)
    assert checked(model, folder) == first == check_weights(model) and counted == [model.name]
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("what", ["weights", "vocabulary", "settings", "code", "kept"])
def test_anything_else_is_checked(what, model, tmp_path, counted, monkeypatch):
    folder = tmp_path / "checks"
    first = checked(model, folder)
    if what == "weights":
        path = Path(model.weights.path)
        path.write_bytes(path.read_bytes()[:-8])  # cut: no weights file any more
        with pytest.raises(WeightsError, match="damaged"):
            checked(model, folder)
    elif what == "vocabulary":
        with Path(model.tokenizer, "vocab.txt").open("a") as f:
            f.write("more\n")
        assert checked(model, folder).fingerprint != first.fingerprint
    elif what == "settings":
        image = model.image.model_copy(update={"mean": (0.1, 0.2, 0.3)})
        assert checked(model.model_copy(update={"image": image}), folder).fingerprint != first.fingerprint
    elif what == "code":
        monkeypatch.setattr(remembered_checks, "_code", lambda: "of tomorrow")
        assert checked(model, folder) == first
    else:
        (kept,) = folder.iterdir()
        for text in ("", "[]", "{}", json.dumps(json.loads(kept.read_text()) | {"image_spec": 3})):
            kept.write_text(text)
            assert checked(model, folder) == first
    assert len(counted) == (5 if what == "kept" else 2)


def test_a_folder_that_cannot_be_written_costs_nothing(model, tmp_path, counted):
    (tmp_path / "file").write_text("no folder")
    assert checked(model, tmp_path / "file") == checked(model, tmp_path / "file") and len(counted) == 2


def test_what_a_family_says_of_itself_is_read_as_python_has_it():
    for name in families():
        module = importlib.import_module(f"aistudio.models.{name}")
        for constant in ("KIND", "FROM_HUB", "TOKENIZER", "REMEMBERED"):
            assert declared(name).get(constant) == getattr(module, constant, None), (name, constant)


@pytest.mark.parametrize("path", CONFS, ids=lambda p: p.stem)
def test_models_whose_files_a_conf_does_not_name_are_always_checked(path):
    cfg = load_model_config(path)
    of_libraries = cfg.family in ("hf_dual", "open_clip", "timm", "sentence_transformers", "vision")
    assert kind(cfg) and not (check_is_remembered(cfg) and of_libraries)


def test_a_driver_that_has_seen_the_models_needs_no_torch(model, tmp_path):
    """Checks, plan and a look at the texts; a new process, as torch is loaded here."""
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(model.model_dump(mode="json")), encoding="utf-8")
    (tmp_path / "m.csv").write_text("item_id,image_url,text\n1,http://shop.invalid/a.jpg,abc\n", encoding="utf-8")
    (tmp_path / "job.yaml").write_text(
        f"manifest: {{path: {tmp_path}/m.csv, format: csv}}\noutput: {tmp_path}/out\n"
        f"models: {{recall: {tmp_path}/m.yaml, ranking: null}}\nengine: {{weights_cache: {tmp_path}/w}}\n"
    )
    assert main(["--conf", f"{tmp_path}/job.yaml", "--dry-run"]) == 0
    code = (
        "import sys; from aistudio.jobs.score import main\n"
        f"code = main(['--conf', '{tmp_path}/job.yaml', '--dry-run'])\n"
        "print(code, [m for m in ('torch', 'torchvision', 'transformers', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
