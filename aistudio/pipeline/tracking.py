"""Tells MLflow of a run or a training, by its own client, in a few seconds or not at all.

A server that is down, slow or refuses costs a warning: what is stored is whole without it. One run folder is one run
of MLflow's, whatever is reported about it later (metrics, a retry); settings reported once stay as they were.
"""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from aistudio.config import LogSettings
from aistudio.errors import ConfigError
from aistudio.pipeline.stopping import leave_behind_at_exit
from aistudio.places import is_local
from aistudio.runs.tracked import Tracked
from aistudio.secrets import HIDDEN, redact
from aistudio.storable import error_text

LIMIT_S = 8.0  # for all of it, the client's import too
KEY = "aistudio.key"
_AT_ONCE = 100  # entries of a request
_OUTCOMES = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder was asked for
    "MLFLOW_DISABLE_TELEMETRY": "true",
}  # fmt: skip


def check_tracking(settings: LogSettings) -> None:
    """Refuse `log.mlflow` without its client. Raises ConfigError before any work is done."""
    if settings.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "log.mlflow needs the package mlflow-skinny, which is not installed here: "
            "pip install 'aistudio-catalogue[mlflow]'"
        )


def track(settings: LogSettings, make: Callable[[], Tracked]) -> None:
    """Tell of what `make` gives, where `log.mlflow` asks for it; problems are printed, never raised."""
    place = settings.mlflow
    if place is None:
        return
    problems: list[str] = []

    def work() -> None:
        try:
            _tell(place, settings.experiment, make())
        except Exception as e:  # noqa: BLE001 - whatever it is, the work itself is done
            problems.append(error_text(redact(str(e)) or type(e).__name__))

    worker = threading.Thread(target=work, name="mlflow", daemon=True)
    worker.start()
    worker.join(LIMIT_S)
    if worker.is_alive():
        leave_behind_at_exit()  # it may hang in a connection
        problems.append(f"no answer within {LIMIT_S:g} s")
    if problems:
        print(
            f"warning: log.mlflow: {redact(place)}: {problems[0]}; what is stored is whole without it", file=sys.stderr
        )


def _tell(place: str, experiment: str, tracked: Tracked) -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=_address(place))
    run = _run(client, experiment, tracked)
    now, run_id = int(time.time() * 1000), run.info.run_id
    params = [Param(k, v) for k, v in tracked.params.items() if k not in run.data.params]
    metrics = [Metric(k, v, now, 0) for k, v in tracked.metrics.items()]
    tags = [RunTag(k, v) for k, v in tracked.tags.items()]
    for start in range(0, max(map(len, (params, metrics, tags))), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        client.log_batch(run_id, metrics=metrics[part], params=params[part], tags=tags[part])
    client.set_terminated(run_id, status=_OUTCOMES[tracked.outcome])


def _run(client: Any, experiment: str, tracked: Tracked) -> Any:
    """MLflow's run of this run or training, made where there is none."""
    known = client.get_experiment_by_name(experiment)
    number = known.experiment_id if known is not None else client.create_experiment(experiment)
    found = client.search_runs([number], filter_string=f"tags.`{KEY}` = '{tracked.key}'", max_results=1)
    return found[0] if found else client.create_run(number, run_name=tracked.name, tags={KEY: tracked.key})


def _address(place: str) -> str:
    """A folder as an absolute address. Credentials that were not stored come from MLFLOW_TRACKING_USERNAME."""
    if is_local(place):
        from pathlib import Path

        return Path(place).absolute().as_uri()
    return place.replace(f"//{HIDDEN}@", "//", 1)
