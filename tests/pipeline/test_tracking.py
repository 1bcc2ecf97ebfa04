"""MLflow's own client reads what was logged; a server that is down, hangs or refuses is a warning."""

import os
import socket
import sys
import threading

import pytest

from aistudio.config import LogSettings, parse_config
from aistudio.errors import ConfigError
from aistudio.jobs.aggregate import main as aggregate
from aistudio.pipeline import stopping, tracking
from aistudio.pipeline.tracking import check_tracking, track
from aistudio.runs.tracked import Tracked, tracked_run
from tests.evaluation.stored_run import catalogue, write_run

TOLD = Tracked("k" * 32, "mine", "finished", {"a": "1"}, {"m_at_5": 0.25}, {"aistudio.output": "o"})


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """What is set for the client goes away again; a hanging thread of a test does not end the process."""
    for name in tracking._ENVIRONMENT:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setattr(stopping, "_hanging", threading.Event())


@pytest.fixture
def client(tmp_path):
    pytest.importorskip("mlflow")

    def make():
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=(tmp_path / "ml").as_uri())

    return make


def runs_of(client, experiment="aistudio"):
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id])


def test_a_run_is_told_once_whatever_comes_later(tmp_path, client, capsys):
    settings = LogSettings(mlflow=str(tmp_path / "ml"), experiment="shop")
    track(settings, lambda: TOLD)
    later = TOLD._replace(params={"a": "2", "b": "x" * 500}, metrics={f"m{i}": i for i in range(250)})
    track(settings, lambda: later)
    track(settings, lambda: TOLD._replace(key="other", outcome="failed"))
    assert capsys.readouterr().err == ""
    [other, mine] = sorted(runs_of(client(), "shop"), key=lambda r: r.info.status)
    assert (other.info.status, mine.info.status) == ("FAILED", "FINISHED")
    assert mine.data.params == {"a": "1", "b": "x" * 500} and mine.info.run_name == "mine"
    assert mine.data.metrics == {"m_at_5": 0.25, **{f"m{i}": i for i in range(250)}}
    assert mine.data.tags["aistudio.output"] == "o"


def test_aggregate_tells_its_metrics(tmp_path, client, capsys):
    store = write_run(tmp_path / "run", *catalogue())
    folder = f"log.mlflow={tmp_path / 'ml'}"
    assert aggregate(["--run", store.root, "--set", folder]) == 0
    assert aggregate(["--run", store.root, "--set", folder, "--set", "metrics.query=image"]) == 0
    assert "warning: log" not in capsys.readouterr().err
    [run] = runs_of(client())
    for name in ("text", "image"):
        value = store.read_json(f"metrics/{name}/metrics.json")["hit_rate@5"]["value"]
        assert run.data.metrics[f"metrics.{name}.hit_rate_at_5"] == value
    assert run.data.params["manifest.path"] == "m.csv"


def test_train_tells_of_a_training(tmp_path, client, monkeypatch):
    from aistudio.config import load_train_config
    from aistudio.jobs import train
    from aistudio.training import programs

    folder = f"log.mlflow={tmp_path / 'ml'}"
    settings = load_train_config("conf/train/demo_recall.yaml", [folder, f"output={tmp_path / 'out'}/"])
    record = {"state": "finished", "config": settings.model_dump(mode="json"), "settings": {}, "inputs": {},
              "counts": {}, "name": "m", "best": {"step": 3, "metrics": {"hit_rate@1": 0.5}}}  # fmt: skip
    monkeypatch.setattr(programs, "train", lambda *_: programs.Finished(record, True))
    assert train._finished(settings, "aistudio train").record is record
    [run] = runs_of(client())
    assert run.info.run_name == "out" and run.data.metrics == {"metrics.hit_rate_at_1": 0.5, "best_step": 3}
    assert run.data.tags["aistudio.report"] == f"{tmp_path}/out/report/index.html"
    assert run.data.params["task"] == "recall" and run.data.params["optimiser.learning_rate"]


@pytest.fixture
def silent():
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_server_that_never_answers(silent, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "LIMIT_S", 0.3)
    track(LogSettings(mlflow=f"http://u:secret@127.0.0.1:{silent}"), lambda: TOLD)
    said = capsys.readouterr().err
    assert "no answer within 0.3 s; what is stored is whole" in said and "secret" not in said
    assert stopping._hanging.is_set()


def test_a_server_that_is_down_and_a_folder_that_is_none(tmp_path, capsys, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setattr(tracking, "LIMIT_S", 60)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "0" if name.endswith("RETRIES") else "1")
    track(LogSettings(mlflow=f"http://127.0.0.1:{port}"), lambda: TOLD)
    assert "warning: log.mlflow: http://127.0.0.1" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    track(LogSettings(mlflow=str(tmp_path / "file")), lambda: TOLD)
    assert "warning: log.mlflow" in capsys.readouterr().err
    track(LogSettings(mlflow=str(tmp_path / "ml")), lambda: tracked_run(None))
    assert "warning: log.mlflow" in capsys.readouterr().err


def test_places():
    assert LogSettings(mlflow="file:///x/y").mlflow == "/x/y" and LogSettings().mlflow is None
    base = {"manifest": {"path": "m", "format": "csv"}, "output": "o", "models": {"recall": "r"}}
    with pytest.raises(ConfigError, match=r"log\.mlflow: .*the scheme s3: cannot be used here"):
        parse_config(base | {"log": {"mlflow": "s3://b/x"}}, "c")
    assert tracking._address("http://***@h:5000/x") == "http://h:5000/x"
    assert tracking._address("/a b").startswith("file:///a%20b")


def test_without_the_client_it_is_refused_before_the_work(monkeypatch):
    check_tracking(LogSettings())
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'aistudio-catalogue\[mlflow\]'"):
        check_tracking(LogSettings(mlflow="x"))
