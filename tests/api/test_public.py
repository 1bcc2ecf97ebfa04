"""The public names: loaded late, typed, documented in docs/python.md, and no more documented than there are."""

import inspect
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aistudio

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
CLASSES = [name for name in aistudio.__all__ if name[0].isupper() and not name.endswith("Error")]
FUNCTIONS = [n for n in aistudio.__all__ if n not in CLASSES and n[0] != "_" and not n.endswith("Error")]


def members(name: str) -> set[str]:
    """Attributes of a class that are meant for users: methods, properties and annotated fields, without tuple's own."""
    cls = getattr(aistudio, name)
    own = {n for n in vars(cls) if not n.startswith("_")} | set(getattr(cls, "__annotations__", {}))
    if name == "Run":
        own |= {"path", "settings"}  # set in __init__
    return {n for n in own if not n.startswith("_")}


def test_the_import_loads_nothing_but_itself():
    code = "import sys; before = set(sys.modules); import aistudio; print(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"aistudio"}
    assert not [name for name in run.stdout.split() if name.startswith("aistudio.")]


def test_opening_a_run_loads_neither_torch_nor_ray():
    run = ROOT / "tests/data/run_8b17918/whole"
    code = f"import sys, aistudio; aistudio.open_run({str(run)!r}).rows(['row_id']).table(); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "ray"} & set(out.stdout.split())


def test_every_name_is_there_and_says_what_it_does():
    assert dir(aistudio) == sorted(aistudio.__all__)
    for name in aistudio.__all__:
        value = getattr(aistudio, name)
        if name == "__version__":
            assert re.match(r"\d", value)
            continue
        assert (inspect.getdoc(value) or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aistudio.nothing


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_has_a_docstring_and_types(name):
    for attribute in members(name):
        value = inspect.getattr_static(getattr(aistudio, name), attribute, None)
        value = value.fget if isinstance(value, property) else value
        if inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{attribute}"
            assert "return" in value.__annotations__, f"{name}.{attribute}"


def test_the_page_names_what_there_is_and_nothing_else():
    documented = set(re.findall(r"`((?:aistudio|[A-Z]\w+)\.\w+)", PAGE))
    public = {f"aistudio.{name}" for name in aistudio.__all__}
    public |= {f"{name}.{attribute}" for name in CLASSES for attribute in members(name)}
    assert public - documented == set()
    assert documented - public == {"aistudio.errors"}


def test_the_page_has_the_signatures():
    headings = re.findall(r"^### `(?:aistudio\.)?([\w.]+)\((.*)\)`$", PAGE, re.MULTILINE)
    assert {name for name, _ in headings} >= {*FUNCTIONS, "Run.rows", "Run.vectors", "Run.images", "Run.search"} - {
        "Run.search"
    }
    for name, written in headings:
        value = aistudio
        for part in name.split("."):
            value = getattr(value, part)
        parameters = [
            p.replace(annotation=p.empty) for p in inspect.signature(value).parameters.values() if p.name != "self"
        ]
        signature = str(inspect.Signature(parameters))[1:-1]
        assert signature == written, name


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "tests/data/run_8b17918/whole", tmp_path / "run")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AISTUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["python_tour.py", str(tmp_path / "run")])
    runpy.run_path(str(ROOT / "docs/python_tour.py"))
    out = capsys.readouterr().out
    assert "30 rows, {'ok': 27, 'http_error': 3}" in out and "27 images have a vector of 128 numbers" in out
    assert "like the text" in out and "hit_rate@1" in out and "report/index.html" in out
