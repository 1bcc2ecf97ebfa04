"""Settings: what is accepted, and that every mistake is one message that names file, key and remedy."""

from pathlib import Path

import pytest

from aistudio.builtin import is_name
from aistudio.config import load_config, load_model_config, parse_config
from aistudio.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
MINIMAL = {"manifest": {"path": "a.csv", "format": "csv"}, "output": "out", "models": {"recall": "r.yaml"}}


def test_overrides_are_yaml_and_reach_nested_settings(tmp_path):
    conf = tmp_path / "c.yaml"
    conf.write_text("manifest: {path: a.csv, format: csv}\noutput: out\nmodels: {recall: r.yaml, ranking: q.yaml}\n")
    config = load_config(
        conf,
        [
            "download.timeout_s=3",
            "models.ranking=null",
            'download.url_map={"https://a/": "http://b/"}',
            "metrics.k=[5, 1]",
            "manifest.image_separator=|",
        ],
    )
    assert config.download.timeout_s == 3.0
    assert config.models.ranking is None
    assert config.download.url_map == {"https://a/": "http://b/"}
    assert config.metrics.k == [1, 5]
    assert config.manifest.image_separator == "|"  # to YAML the head of an empty block


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("download.timeout=3", "download.timeout is not a setting; did you mean timeout_s?"),
        ("download.retries=-1", "download.retries: Input should be greater than or equal to 0 (found -1)"),
        ("manifest.format=xls", "manifest.format: Input should be 'poi_recall'"),
        ("metrics.k=[0]", "metrics.k: needs at least one K, each 1 or more"),
        ("engine=7", "engine: Input should be a valid dictionary"),
        ("nonsense", "expected section.key=value"),
        ("output.x=1", "output is a value, not a section"),
        ("download.headers={a", "not valid YAML"),
    ],
)
def test_a_wrong_override_names_the_key_and_what_would_be_right(tmp_path, override, message):
    conf = tmp_path / "c.yaml"
    conf.write_text("manifest: {path: a.csv, format: csv}\noutput: out\nmodels: {recall: r.yaml}\n")
    with pytest.raises(ConfigError) as e:
        load_config(conf, [override])
    assert message in str(e.value)
    assert "\n" not in str(e.value) or "YAML" in str(e.value)


def test_a_missing_section_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ConfigError, match="here: models is missing"):
        parse_config({k: v for k, v in MINIMAL.items() if k != "models"}, "here")
    (tmp_path / "score.yaml").write_text("{}")
    with pytest.raises(ConfigError, match=r"no such conf file; did you mean .*score\.yaml"):
        load_config(tmp_path / "scores.yaml")


def test_settings_cannot_be_changed_after_they_are_read():
    config = parse_config(MINIMAL, "here")
    with pytest.raises(ValueError, match="frozen"):
        config.output = "elsewhere"


@pytest.mark.parametrize("conf", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda p: p.name)
def test_every_job_file_in_the_repository_is_valid_and_points_to_model_files(conf):
    config = load_config(conf)
    for path in (config.models.recall, config.models.ranking):
        if path:
            load_model_config(path if is_name(path) else ROOT / path)


@pytest.mark.parametrize("conf", sorted((ROOT / "conf/models").glob("*.yaml")), ids=lambda p: p.name)
def test_every_model_file_in_the_repository_is_valid_and_names_a_family(conf):
    assert (ROOT / "aistudio/models" / f"{load_model_config(conf).family}.py").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("url", "ftp://host/w", "expected an address that begins with https://"),
        ("url", "file:///etc/passwd", "expected an address that begins with https://"),
        ("sha256", "abc", "weights.sha256"),
    ],
)
def test_weights_address_and_checksum_are_checked(tmp_path, key, value, message):
    path = tmp_path / "m.yaml"
    path.write_text(f"family: align\nname: m\nweights: {{path: w, {key}: '{value}'}}\n")
    with pytest.raises(ConfigError, match=message):
        load_model_config(path)


def test_weights_cache_is_a_place_on_each_node():
    data = {"manifest": {"path": "m", "format": "csv"}, "output": "o", "models": {"recall": "r"}}
    assert parse_config(data, "c", ["engine.weights_cache=~/w"]).engine.weights_cache == "~/w"
    with pytest.raises(ConfigError, match=r"engine\.weights_cache: expected an absolute path"):
        parse_config(data, "c", ["engine.weights_cache=reports/w"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "download: {retries: 1}\nimages: {}\ndownload:\n  retries: 0\n",
            "download stands there twice (lines 1 and 3)",
        ),
        ("output: a\nmanifest: {path: x}\n'output': b\n", "output stands there twice (lines 1 and 3)"),
        (
            "manifest:\n  columns:\n    text: a\n    text: b\n",
            "manifest.columns.text stands there twice (lines 3 and 4)",
        ),
        ("x: [{a: 1}, {b: 1, b: 2}]\n", "x[1].b stands there twice (lines 1 and 1)"),
        ("a: &a\n  k: 1\n  k: 1\nb: *a\n", "a.k stands there twice (lines 2 and 3)"),
    ],
)
def test_a_setting_that_stands_there_twice_is_refused(tmp_path, text, message):
    conf = tmp_path / "twice.yaml"
    conf.write_text(text)
    for load in (load_config, load_model_config):
        with pytest.raises(ConfigError) as e:
            load(conf)
        assert str(e.value).startswith(f"{conf}: ") and message in str(e.value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("download.headers={Accept: a, accept: b}", "download.headers: .*Accept and accept are the same header field"),
        ('download.headers={A: "b\\r\\nC: d"}', "download.headers: .*control character"),
        ("download.headers={A B: c}", "'A B' is no name of a header field"),
        ('download.user_agent="a\\nb"', "download.user_agent: .*control character"),
        ("download.timeout_s=.inf", "download.timeout_s: .*finite"),
        ("engine.start_timeout_s=.nan", "engine.start_timeout_s: "),
        ("download.headers=" + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_would_fail_every_request_is_refused_at_once(item, message):
    data = {"manifest": {"path": "m", "format": "csv"}, "output": "o", "models": {"recall": "r"}}
    with pytest.raises(ConfigError, match=message):
        parse_config(data, "c", [item])


def test_a_conf_that_is_nested_too_deeply_is_one_message(tmp_path):
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match=r"deep\.yaml: not valid YAML: nested too deeply"):
        load_config(tmp_path / "deep.yaml")


def test_twice_in_an_override_is_refused_and_a_merge_key_is_not_twice(tmp_path):
    conf = tmp_path / "c.yaml"
    conf.write_text(
        "manifest: &m {path: a.csv, format: csv, limit: 3}\noutput: out\nmodels: {recall: r.yaml}\n"
        "images: &i {thumbnail_px: 64}\n"
    )
    with pytest.raises(ConfigError, match=r"--set .*: text stands there twice"):
        load_config(conf, ["manifest.columns={text: a, text: b}"])
    conf.write_text(
        "manifest: {path: a.csv, format: csv}\noutput: out\nmodels: {recall: r.yaml}\n"
        "download: {<<: {retries: 1, timeout_s: 3}, retries: 2}\n"
    )
    config = load_config(conf)
    assert (config.download.retries, config.download.timeout_s) == (2, 3)


def test_a_base_is_a_place_and_trust_one_of_three_words():
    assert (parse_config(MINIMAL, "c.yaml").base, parse_config(MINIMAL, "c.yaml").trust) == (None, "validators")
    found = parse_config(MINIMAL, "c.yaml", ["base=S3://bucket/run", "trust=content"])
    assert (found.base, found.trust) == ("s3://bucket/run", "content")
    for item, message in (("base=https://h/run", "base: .* cannot be used here"), ("trust=hope", "trust: .*'url'")):
        with pytest.raises(ConfigError, match=message):
            parse_config(MINIMAL, "c.yaml", [item])


def test_the_flag_for_a_base_is_text_whatever_yaml_would_make_of_it(tmp_path, monkeypatch):
    from aistudio.jobs.score import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("item_id,image_url\na,http://h/a.jpg\n")
    (tmp_path / "c.yaml").write_text(
        "manifest: {path: m.csv, format: csv}\noutput: out\nmodels: {recall: demo_recall}\n"
    )
    with pytest.raises(ConfigError, match=r"base: .*/2026: no run\.json there"):
        main(["--conf", "c.yaml", "--base", "2026", "--dry-run"])
