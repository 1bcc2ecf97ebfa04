"""The wheel as a stranger has it: built, installed away from the checkout, and used from an empty folder."""

import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from aistudio import builtin
from aistudio.config import load_config, load_model_config
from aistudio.errors import ConfigError
from aistudio.version import DISTRIBUTION, version
from tests.commands import call

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "aistudio", "conf", "weights/demo")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what belongs to it, so that the checkout stays clean; needs no network."""
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools 77 or newer")
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    (tree / "dist").mkdir()
    done = call(sys.executable, "-c", code, cwd=tree)
    assert done.returncode == 0, done.stderr[-3000:]
    [built] = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run the installed command in a folder, with this environment's dependencies and nothing of the checkout."""
    place = tmp_path_factory.mktemp("site")
    flags = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--target", place)
    done = call(sys.executable, "-m", "pip", "install", *flags, wheel, cwd=place)
    assert done.returncode == 0, done.stderr

    def aistudio(cwd, *args):
        return call(sys.executable, place / "bin/aistudio", *args, cwd=cwd, PYTHONPATH=str(place))

    aistudio.place = place
    return aistudio


def test_what_the_wheel_holds(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    [info] = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name.split("/")[0] for name in names} == {"aistudio", info}  # no `jobs`, no `tests`
    held = set(names)
    for folder in ("conf", "weights/demo"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"aistudio/builtin/{path.relative_to(ROOT)}" in held
    assert {"aistudio/py.typed", "aistudio/reports/templates/base.html", "aistudio/reports/assets/app.js"} <= held
    metadata = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    assert f"Name: {DISTRIBUTION}\n" in metadata and f"Version: {PROJECT['version']}\n" in metadata
    assert PROJECT["name"] == DISTRIBUTION and version() == PROJECT["version"]


def test_the_command_works_from_any_folder(installed, tmp_path):
    assert installed(tmp_path, "--version").stdout == f"aistudio {PROJECT['version']}\n"
    listed = installed(tmp_path, "weights", "list", "--conf", "demo_recall", "--conf", "conf/models/tirg_demo.yaml")
    assert listed.returncode == 0 and listed.stdout.count(f"{installed.place}/aistudio/builtin/weights/demo/") == 3
    (tmp_path / "m.csv").write_text("id,url\n1,http://shop.invalid/a.jpg\n", encoding="utf-8")
    (tmp_path / "my.yaml").write_text(
        "manifest: {path: m.csv, format: csv, columns: {item_id: id, image_url: url}}\noutput: out\n"
        "models: {recall: demo_recall, ranking: demo_ranking, poi_table: weights/demo/poi_table.parquet}\n",
        encoding="utf-8",
    )
    done = installed(tmp_path, "score", "--conf", "my.yaml", "--dry-run")
    assert done.returncode == 0 and "demo_ranking (siamese_poi)" in done.stdout, done.stderr
    assert "built into AI Studio" in done.stderr  # where the table was found
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.csv", "my.yaml"]


def test_the_demos_conf_is_whole_in_the_wheel(installed, tmp_path):
    """`aistudio demo` draws, then runs these confs; scripts/release.sh runs all of it from the wheel."""
    code = (
        "from aistudio.config import load_config, load_model_config; import pathlib\n"
        "for name in ('demo', 'demo_pairs'):\n"
        "    m = load_config(name).models; print(m.poi_table)\n"
        "    for conf in (m.recall, m.ranking, *m.encoders.values()):\n"
        "        print(*(f.path for f in load_model_config(conf).files), sep='\\n')\n"
    )
    done = call(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed.place))
    assert done.returncode == 0 and not done.stderr, done.stderr
    paths = [Path(line) for line in done.stdout.split()]
    assert {p.name for p in paths} == {
        "poi_table.parquet",
        "recall.safetensors",
        "ranking.safetensors",
        "composer.safetensors",
    }
    assert all(p.is_relative_to(installed.place / "aistudio/builtin/weights/demo") and p.is_file() for p in paths)


def test_names_are_found_in_a_checkout_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_model_config("demo_recall") == load_model_config(ROOT / "conf/models/demo_recall.yaml")
    assert load_model_config("tirg_demo").towers["trunk"].name == "demo_recall"
    assert {"demo_recall", "siglip"} <= set(builtin.names()) and "demo" in builtin.names(builtin.JOBS)
    assert load_config("demo").models.encoders == {"composed": "tirg_demo"}
    (tmp_path / "siglip").mkdir()  # a folder is no conf
    assert load_model_config("siglip").name == "siglip"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"^demo_recal: neither a file nor a .*; did you mean demo_recall\?"):
        load_model_config("demo_recal")
    with pytest.raises(ConfigError, match=r"Built in: .*clip_vit_b32, .*siglip.*, such as nothing_like_it.yaml"):
        load_model_config("nothing_like_it")


@pytest.mark.parametrize(
    "text", ["conf/../../etc/passwd", "/conf/models/siglip.yaml", "weights/big.bin", "conf/no.yaml"]
)
def test_only_built_in_files_stand_in(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert builtin.instead(text) == text


def test_a_file_here_goes_before_a_built_in_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/models").mkdir(parents=True)
    (tmp_path / "conf/models/siglip.yaml").write_text("family: align\nname: mine\nweights: {path: w}\n", "utf-8")
    assert load_model_config("conf/models/siglip.yaml").name == "mine"
    assert load_model_config("siglip").name == "siglip"
