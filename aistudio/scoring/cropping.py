"""The detectors that crop pictures for the models of a run, loaded on this node."""

from collections.abc import Iterable

from aistudio.config import DetectorSettings, JobConfig, ModelConfig
from aistudio.images.crop import Cropper
from aistudio.models import load_detector
from aistudio.scoring.pinned_models import node_cache
from aistudio.weights.cache import WeightsCache
from aistudio.weights.files import require_file
from aistudio.weights.placing import place_file


def load_detectors(models: Iterable[ModelConfig], config: JobConfig) -> dict[DetectorSettings, Cropper]:
    """Load each detector that a model, or a tower of it, crops with (`image.crop: model`), once, on the CPU.

    Raises:
        ConfigError: torchvision has no such detector.
        WeightsError: its weights are missing, damaged, or not those of the conf file.
    """
    users = {m.image.detector: m for model in models for m in _with_towers(model) if m.image.detector is not None}
    return {
        detector: load_detector(detector, _weights(user, node_cache(config))).cut for detector, user in users.items()
    }


def _with_towers(model: ModelConfig) -> Iterable[ModelConfig]:
    yield model
    for tower in model.towers.values():
        yield from _with_towers(tower)


def _weights(model: ModelConfig, cache: WeightsCache) -> str:
    file = model.extra_files["detector"]
    path = str(place_file(file, cache))
    require_file(file.model_copy(update={"path": path}), model.name)
    return path
