"""A training on several workers: Ray Train starts them, ours is everything else.

Ray Train (V2) places the workers, joins them by torch.distributed (gloo on CPUs, NCCL on GPUs) and starts all of them
anew when one or its node fails. Checkpoints are ours: the first worker commits them through the store, and every start,
after a failure or typed again, goes on from the newest.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from aistudio.config import EngineSettings, parse_train_config
from aistudio.config.train import TrainSettings
from aistudio.errors import AIStudioError, ConfigError, ManifestError, RunMismatchError, WeightsError
from aistudio.pipeline.cluster import connect
from aistudio.pipeline.plan import Resources
from aistudio.pipeline.stopping import signals_as_before
from aistudio.storable import error_text
from aistudio.training import programs
from aistudio.training.inputs import choose_device
from aistudio.training.team import Team

Say = Callable[[str], None]
_KINDS = {kind.__name__: kind for kind in (AIStudioError, ConfigError, ManifestError, RunMismatchError, WeightsError)}


def train_on_workers(settings: TrainSettings, say: Say, command: str) -> programs.Finished:
    """Train on a Ray cluster, or on a Ray started here.

    Raises:
        ConfigError and its like: found here, before a worker starts.
        AIStudioError: the training failed part-way; the same command goes on.
    """
    store = programs.open_output(settings)
    done = programs.finished_before(store, settings)
    if done is not None:
        return programs.Finished(done, True)
    with connect(EngineSettings(address=settings.workers.address), environments=True) as resources:
        num, use_gpu = plan_workers(settings, resources)
        _check_here(settings, say)
        say(f"training on {num} workers{' with a GPU each' if use_gpu else ''}; rates are for the whole batch")
        with tempfile.TemporaryDirectory(prefix="aistudio-ray-train-") as storage:
            return _fit(settings, command, num, use_gpu, storage)


def plan_workers(settings: TrainSettings, resources: Resources) -> tuple[int, bool]:
    """Return the number of workers and whether each gets a GPU.

    auto: one for each GPU; without GPUs one for each node. It is lowered until it divides batch_size.

    Raises:
        ConfigError: batch_size cannot be shared evenly by the number that is asked for.
    """
    wanted, gpus = settings.workers.num_workers, int(resources.gpus)
    use_gpu = settings.device != "cpu" and gpus > 0
    if wanted == "auto":
        num = max(1, gpus if use_gpu else resources.nodes)
        return max(n for n in range(1, num + 1) if settings.batch_size % n == 0), use_gpu
    if settings.batch_size % wanted:
        raise ConfigError(f"batch_size {settings.batch_size} cannot be shared evenly by {wanted} workers")
    return wanted, use_gpu


def _check_here(settings: TrainSettings, say: Say) -> None:
    """Find users' mistakes before workers start, and prepare the data where the driver's disk is theirs."""
    setup = programs.set_up(settings, Team(), choose_device("cpu"), say)
    setup.cache.close()
    setup.keeping.cleanup()


def _fit(settings: TrainSettings, command: str, num: int, use_gpu: bool, storage: str) -> programs.Finished:
    cpus = {} if use_gpu and settings.workers.cpus_per_worker == 1.0 else {"CPU": settings.workers.cpus_per_worker}
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"settings": settings.model_dump(mode="json"), "command": command},
        scaling_config=ScalingConfig(
            num_workers=num, use_gpu=use_gpu, resources_per_worker={**cpus, **({"GPU": 1} if use_gpu else {})} or None
        ),
        run_config=RunConfig(
            name="training", storage_path=storage, failure_config=FailureConfig(settings.workers.max_failures)
        ),
    )
    with signals_as_before() as again:
        try:
            result = trainer.fit()
        except Exception as e:  # noqa: BLE001 - Ray Train has an exception for each way to fail, none of them ours
            raise AIStudioError(
                f"the training failed on its workers: {error_text(e)}; "
                "the same command goes on from the last checkpoint"
            ) from None
        finally:
            again()  # Ray Train's own would stay, and Ctrl-C reach a training that is over
    return _finished(result.return_value or {})


def _finished(outcome: dict[str, Any]) -> programs.Finished:
    if "error" in outcome:
        raise _KINDS.get(str(outcome["kind"]), AIStudioError)(str(outcome["error"]))
    if "record" not in outcome:
        raise AIStudioError("the training ended without a result; the same command goes on from the last checkpoint")
    return programs.Finished(outcome["record"], False)


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """Run on each worker; what the first one returns is the result.

    An error of ours is returned, for Ray Train would start the same again. Not by `ray.train.report`: Ray Train keeps
    what is reported only beside a checkpoint of its own, and there is none.
    """
    context = ray.train.get_context()
    settings = parse_train_config(config["settings"], "settings")
    device = ray.train.torch.get_device()
    team = Team(context.get_world_rank(), context.get_world_size(), device)
    try:
        return {"record": programs.train(settings, team, _say, config["command"]).record}
    except AIStudioError as e:
        return {"error": str(e), "kind": type(e).__name__}


def _say(text: str) -> None:
    print(text, flush=True)
