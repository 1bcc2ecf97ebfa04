"""Places: what a setting or flag may name, in which plain form it goes on, and what is refused by name."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistudio.config import load_config, load_model_config, parse_config
from aistudio.errors import ConfigError
from aistudio.places import BadPlaceError, beside, resolve_place, split_place
from aistudio.runs.record import stored_settings
from aistudio.store import open_store

ALL = ("s3", "https", "http")
MINIMAL = {"manifest": {"path": "a.csv", "format": "csv"}, "output": "out", "models": {"recall": "r.yaml"}}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("out/run", "out/run"),
        ("/data/run", "/data/run"),
        (" out ", "out"),
        ("图片/打分", "图片/打分"),
        ("a:b", "a:b"),
        ("2026-11-25T10:00/x", "2026-11-25T10:00/x"),
        ("a b#c?d%20", "a b#c?d%20"),
        ("file:///data/run", "/data/run"),
        ("FILE:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("file:/data/run", "/data/run"),
        ("s3://bucket/a b", "s3://bucket/a b"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("HTTPS://h/X?y=Z", "https://h/X?y=Z"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_plain_forms(text, plain):
    assert resolve_place(text, ALL) == plain == resolve_place(plain, ALL)


def test_home(tmp_path):
    assert resolve_place("~/run") == str(tmp_path / "home/run")
    assert resolve_place("~") == str(tmp_path / "home")
    assert resolve_place("a/~") == "a/~"


@pytest.mark.parametrize(
    "text",
    [
        "gcs://b/x", "GCS://b/x", "hdfs://n/x", "hdfs:///x", "azure://c/x", "abfss://c@a/x", "wasb://x", "dbfs:/mnt/x", "ftp://h/x",
        "s3a://b/x", "s3n://b/x", "memory://x", "https+x://h/x", "s3:/bucket/x", "s3:///x", "s3://", "https://", "http:///x",
        "file://data/run", "file:///", "file:///a?b", "file:///a#b", "C:\\runs\\x", "c:/runs/x", "\\\\server\\x",
        "$HOME/x", "${SCRATCH}/x", "~no_such_user_here/x", "", "  ", "a\0b",
        "gs:shop/x", "S3:", "s3:bucket/x", "file:data/run", "file:", "https:h/x", "arn:aws:s3:::bucket/x",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused_wherever_it_is_named_and_nothing_is_made(text, tmp_path):
    with pytest.raises(BadPlaceError):
        resolve_place(text, ALL)
    for setting in ("output", "manifest.path", "metrics.qrels", "models.poi_table", "models.recall"):
        section, _, key = setting.partition(".")
        data = MINIMAL | {section: {**MINIMAL.get(section, {}), key: text} if key else text}
        with pytest.raises(ConfigError, match=rf"^here: {setting.replace('.', '[.]')}: "):
            parse_config(data, "here")
    with pytest.raises(ConfigError):
        open_store(text)
    with pytest.raises(ConfigError, match=r"^--run: "):
        stored_settings(text)
    assert list(tmp_path.iterdir()) == []


def test_the_message_names_the_scheme_and_what_is_possible():
    with pytest.raises(ConfigError) as e:
        parse_config(MINIMAL | {"output": "gcs://shop-scores/2026-11"}, "c.yaml")
    text = str(e.value)
    assert text.startswith("c.yaml: output: gcs://shop-scores/2026-11") and "\n" not in text
    assert "a local path" in text and "s3://bucket/prefix" in text and "did you mean gs://bucket/prefix" in text
    with pytest.raises(BadPlaceError, match="did you mean s3://"):
        resolve_place("s3a://b/x")
    with pytest.raises(BadPlaceError, match="did you mean https://"):
        resolve_place("htps://h/x", ALL)
    with pytest.raises(ConfigError, match="output: https://h/x"):  # can be read, not written
        parse_config(MINIMAL | {"output": "https://h/x"}, "c.yaml")


def test_settings_are_plain_afterwards(tmp_path):
    data = MINIMAL | {
        "output": "file:///data/run",
        "manifest": {"path": ["S3://b/x.csv", "~/y.csv", "HTTP://h/z.csv"], "format": "csv"},
        "metrics": {"qrels": "~/q.tsv"},
    }
    config = parse_config(data, "here", ["models.recall=~/r.yaml"])
    home = tmp_path / "home"
    assert config.output == "/data/run" and config.models.recall == str(home / "r.yaml")
    assert config.manifest.path == ["s3://b/x.csv", str(home / "y.csv"), "http://h/z.csv"]
    assert config.metrics.qrels == str(home / "q.tsv")
    assert parse_config(config.model_dump(mode="json"), "again") == config


def test_of_a_model(tmp_path):
    conf = tmp_path / "m.yaml"
    text = "family: align\nname: m\nweights: {path: ~/w.pt, url: HTTPS://h/w.pt}\ntokenizer: file:///tok\n"
    conf.write_text(text + "extra_files: {a: {path: ~/a}}\narch: {model: org/name, text_weights: ~/t.bin}\n")
    home = str(tmp_path / "home")
    cfg = load_model_config(conf)
    assert (cfg.weights.path, cfg.weights.url, cfg.tokenizer) == (f"{home}/w.pt", "https://h/w.pt", "/tok")
    assert cfg.extra_files["a"].path == f"{home}/a"
    assert cfg.arch == {"model": "org/name", "text_weights": f"{home}/t.bin"}
    conf.write_text("family: align\nname: m\nweights: {path: s3://b/w.pt}\n")
    with pytest.raises(ConfigError, match=r"m\.yaml: weights\.path: s3://b/w\.pt: the scheme s3"):
        load_model_config(conf)


def test_relative_paths_mean_the_working_directory_and_else_the_folder_of_the_conf(tmp_path, capsys):
    confs = tmp_path / "confs"
    (confs / "data").mkdir(parents=True)
    for name in ("data/rows.csv", "data/more.csv", "r.yaml", "both.tsv"):
        (confs / name).write_text("beside")
    (tmp_path / "both.tsv").write_text("here")
    conf = confs / "c.yaml"
    conf.write_text(
        "manifest: {path: [data/rows.csv, 'data/m*.csv', nowhere.csv], format: csv}\noutput: data\n"
        "models: {recall: r.yaml, ranking: q.yaml}\nmetrics: {qrels: both.tsv}\n"
    )
    config = load_config(os.path.relpath(conf), ["models.ranking=r.yaml"])
    assert config.manifest.path == ["confs/data/rows.csv", "confs/data/m*.csv", "nowhere.csv"]
    assert config.models.recall == "confs/r.yaml"
    assert config.models.ranking == "r.yaml"  # of the command line: the working directory, always
    assert config.metrics.qrels == "both.tsv" and config.output == "data"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and "manifest.path: data/rows.csv is the one beside this file: confs/data/rows.csv" in said[0]
    conf.write_text("manifest: {path: data/rows.csv, format: csv}\noutput: out/run\nmodels: {recall: r.yaml}\n")
    assert load_config(os.path.relpath(conf)).output == "confs/out/run"  # where the manifest was found
    assert "output: out/run lies beside this file: confs/out/run" in capsys.readouterr().err
    assert load_config(conf, ["output=out/run"]).output == "out/run"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.csv").write_text("here")
    assert load_config(os.path.relpath(conf)).output == "out/run"
    capsys.readouterr()
    load_config(conf, ["manifest={path: x.csv, format: csv}", "models.recall=y.yaml"])
    assert capsys.readouterr().err == ""  # what is replaced anyway is not talked about
    assert beside("https://h/x", confs) == "https://h/x" and beside("~", confs) == "~"


def test_a_models_conf_of_a_checkout_finds_its_weights_from_anywhere(tmp_path, capsys):
    """conf/models/x.yaml says weights/x.bin, which means the folder that holds conf."""
    (tmp_path / "checkout/conf/models").mkdir(parents=True)
    (tmp_path / "checkout/weights").mkdir()
    weights = tmp_path / "checkout/weights/x.bin"
    weights.write_text("w")
    conf = tmp_path / "checkout/conf/models/x.yaml"
    conf.write_text("family: align\nname: m\nweights: {path: weights/x.bin}\n")
    assert load_model_config(conf).weights.path == str(weights)
    assert "weights.path: weights/x.bin is the one in the folder that holds conf" in capsys.readouterr().err
    other = tmp_path / "checkout/other/x.yaml"
    other.parent.mkdir()
    other.write_text(conf.read_text())
    assert load_model_config(other).weights.path == "weights/x.bin"  # no folder called conf: nothing is guessed


def test_a_folder_and_a_name():
    assert split_place("/q.tsv") == ("/", "q.tsv") and split_place("q.tsv") == (".", "q.tsv")
    assert split_place("s3://b/p/q.tsv") == ("s3://b/p", "q.tsv")
    assert open_store("/").path("x") and open_store("/").exists(str(Path(__file__)).lstrip("/"))


@given(st.text())
def test_any_text_is_resolved_once_or_refused(text):
    try:
        plain = resolve_place(text, ALL)
    except BadPlaceError as e:
        assert str(e)
        return
    assert plain == plain.strip() and plain
    if not text.lower().startswith("file:"):
        assert resolve_place(plain, ALL) == plain
