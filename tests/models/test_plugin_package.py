"""The example package as a stranger has it: a wheel, installed into an environment of its own beside ours, and used."""

import json
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.commands import call

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).parent / "example_package" / "example_family.py"
PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "example-family"
version = "1.2"

[project.entry-points."aistudio.families"]
quarters = "example_family"

[tool.setuptools]
py-modules = ["example_family"]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the packages of this one, our checkout and the example's wheel; its Python."""
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools 77 or newer")
    pytest.importorskip("pip", reason="installing a wheel needs pip")
    pytest.importorskip("venv", reason="this Python makes no virtual environments")
    tree = tmp_path_factory.mktemp("example")
    shutil.copy2(EXAMPLE, tree / "example_family.py")
    (tree / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    (tree / "dist").mkdir()
    built = call(sys.executable, "-c", code, cwd=tree)
    assert built.returncode == 0, built.stderr[-3000:]
    [wheel] = (tree / "dist").glob("*.whl")
    assert sorted(n.rpartition("/")[2] for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".py")) == [
        "example_family.py"
    ]
    place = tmp_path_factory.mktemp("venv")
    made = call(sys.executable, "-m", "venv", "--without-pip", place, cwd=tree)
    assert made.returncode == 0, made.stderr
    python = place / "bin/python"
    found = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tree)
    site = Path(found.stdout.strip())
    assert site.is_relative_to(place)
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(ROOT)}
    (site / "shared.pth").write_text("\n".join(sorted(shared)) + "\n", encoding="utf-8")
    flags = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    installed = call(python, "-m", "pip", "install", *flags, wheel, cwd=tree)
    assert installed.returncode == 0, installed.stderr
    assert (site / "example_family.py").is_file() and (site / "example_family-1.2.dist-info").is_dir()
    return python


CONF = "family: {}\nname: mean_colours\nweights: {{path: none}}\nimage: {{size: 32}}\n"


def job(folder: Path, family: str = "quarters", suffix: str = "jpg") -> Path:
    (folder / "quarters.yaml").write_text(CONF.format(family), encoding="utf-8")
    lines = ["id,url", *(f"{i},{folder}/{i}.{suffix}" for i in range(4))]
    (folder / "m.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "job.yaml"
    path.write_text(
        "manifest: {path: m.csv, format: csv, columns: {item_id: id, image_url: url}}\noutput: run\n"
        "models: {recall: null, ranking: null, encoders: {look: quarters.yaml}}\n",
        encoding="utf-8",
    )
    return path


def test_the_package_is_not_in_this_environment():
    """Otherwise the tests below would show nothing."""
    found = call(sys.executable, "-c", "import example_family", cwd=ROOT)
    assert found.returncode == 1 and "No module named" in found.stderr


def test_a_command_knows_the_family_and_names_its_package(environment, tmp_path):
    done = call(environment, "-m", "aistudio", "score", "--conf", job(tmp_path), "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and "mean_colours (quarters)" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
    missing = call(sys.executable, "-m", "aistudio", "score", "--conf", job(tmp_path), "--dry-run", cwd=tmp_path,
                   PYTHONPATH=str(ROOT))  # fmt: skip
    assert missing.returncode == 2 and "family 'quarters' is not known" in missing.stderr
    wrong = call(environment, "-m", "aistudio", "score", "--conf", job(tmp_path, "quarter"), "--dry-run", cwd=tmp_path)
    assert wrong.returncode == 2 and "quarters" in wrong.stderr  # among the known ones


def test_its_vectors_come_out_of_it(environment, tmp_path):
    """The whole job in that environment, without Ray: four pictures of one colour each, and their mean colours."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 99, 199)]
    for i, colour in enumerate(colours):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{i}.png")
    path = job(tmp_path, suffix="png")
    code = (
        "import json\n"
        "from aistudio.config import load_config\n"
        "from aistudio.runs import layout\n"
        "from tests.score_here import score_here\n"
        f"store = score_here(load_config({str(path)!r}))\n"
        "table = store.read_table(layout.score_keys(store)[0], ['status', 'embedding_look'])\n"
        "print(json.dumps([table['status'].to_pylist(), table['embedding_look'].to_pylist()]))\n"
    )
    done = call(environment, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    statuses, vectors = json.loads(done.stdout.splitlines()[-1])
    assert statuses == ["ok"] * 4
    assert vectors == [[float(c) for c in colour] * 4 for colour in colours]
