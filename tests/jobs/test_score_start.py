"""When `score` begins to start a local Ray: at once for a new run, after the checks where there was one."""

import pytest
import yaml

from aistudio.errors import ConfigError, ManifestError
from aistudio.jobs import score
from aistudio.pipeline import cluster, early_ray
from aistudio.pipeline import score as pipeline_score


@pytest.fixture
def order(monkeypatch):
    """What happens, in order. The manifest is found to be missing."""
    seen = []

    def prepare(config, **options):
        seen.append("checks")
        raise ManifestError("no such file")

    monkeypatch.setattr(early_ray, "begin", lambda settings: seen.append("Ray"))
    monkeypatch.setattr(pipeline_score, "prepare", prepare)
    return seen


@pytest.fixture
def command(tmp_path):
    """`command(output)`: the arguments of a run into that folder."""

    def arguments(output, *more):
        conf = tmp_path / "conf.yaml"
        columns = {"item_id": "id", "image_url": "url"}
        manifest = {"path": str(tmp_path / "m.csv"), "format": "csv", "columns": columns}
        conf.write_text(
            yaml.safe_dump({"manifest": manifest, "output": str(output), "models": {"recall": "demo_recall"}})
        )
        return ["--conf", str(conf), *more]

    return arguments


def test_a_new_run_starts_ray_before_anything_is_checked(order, command, tmp_path):
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "run", tmp_path / "empty"):
        with pytest.raises(ManifestError):
            score.main(command(output))
    assert order == ["Ray", "checks"] * 2


@pytest.mark.parametrize("why", ["there was a run", "dry run", "in a bucket"])
def test_where_nothing_may_be_to_do_ray_waits_for_the_checks(why, order, command, tmp_path):
    (tmp_path / "run").mkdir()
    if why == "there was a run":
        (tmp_path / "run/run.json").write_text("{}")
    output = "s3://bucket/run" if why == "in a bucket" else tmp_path / "run"
    with pytest.raises(ManifestError):
        score.main(command(output, *(["--dry-run"] if why == "dry run" else [])))
    assert order == ["checks"]


def test_a_machine_where_ray_cannot_start_is_told_first(order, command, tmp_path, monkeypatch):
    def refuse():
        raise ConfigError("no room in Ray's folder")

    monkeypatch.setattr(cluster.surroundings, "check_machine", refuse)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="no room"):
        score.main(command(tmp_path / "run"))
    assert order == []
