"""What fast settings change is measured on the user's own rows, told, and limited by engine.max_drift."""

import pytest

from aistudio.errors import ConfigError
from aistudio.pipeline.fidelity import exactly, fast_settings, refuse_drift
from aistudio.pipeline.probe import check_drift, print_probe
from aistudio.pipeline.score import prepare


@pytest.fixture
def manifest(image_server, tmp_path):
    urls = [image_server.url(f"ok/{i}.jpg") for i in range(12)]
    path = tmp_path / "m.csv"
    path.write_text("item_id,image_url,text\n" + "".join(f"i{i % 3},{u},text\n" for i, u in enumerate(urls)))
    return path


def test_which_settings_are_fast(manifest, make_config):
    config = make_config(manifest, engine={"precision": "bfloat16", "compile": True}, images={"decode": "fast"})
    fast = {"engine.precision": "bfloat16", "engine.compile": True, "images.decode": "fast"}
    assert fast_settings(config) == fast and fast_settings(exactly(config)) == {}
    assert exactly(config).engine.batch_size == config.engine.batch_size


def test_the_probe_tells_and_the_limit_refuses(manifest, tmp_path, make_config, in_process, capsys):
    config = make_config(manifest, engine={"precision": "bfloat16", "max_drift": 1e-9})
    with pytest.raises(ConfigError, match=r"more than engine\.max_drift"):
        print_probe(prepare(config), 12)
    told = capsys.readouterr().out
    assert "engine.precision: bfloat16 beside exact float32: 12 rows scored both ways" in told
    assert "recall_score changes by" in told and "best image of an item: " in told and "drift " in told
    assert not list(tmp_path.glob("*probe*"))
    with pytest.raises(ConfigError, match="null"):
        check_drift(prepare(config))
    assert not (tmp_path / "run" / "scores").exists()


def test_exact_settings_and_no_limit_measure_nothing(manifest, make_config, monkeypatch):
    monkeypatch.setattr("aistudio.pipeline.probe.probe", None)  # would fail
    check_drift(prepare(make_config(manifest, engine={"max_drift": 0.0})))
    check_drift(prepare(make_config(manifest, engine={"precision": "bfloat16"})))


def test_a_drift_within_the_limit_passes(manifest, make_config):
    from aistudio.evaluation.fidelity import Fidelity

    config = make_config(manifest, engine={"precision": "bfloat16", "max_drift": 0.0})
    refuse_drift(Fidelity((), 0, 0, 0), config)
