"""Settings: frozen and validated, one file for each section.

Sizes and times carry their unit in the name. Settings hold values only; nothing here touches the network, a model or
a data path. reading.py is the only reader of YAML.
"""

from aistudio.config.base import Settings
from aistudio.config.download import DownloadSettings, HostSettings
from aistudio.config.engine import EngineSettings
from aistudio.config.images import ImagesSettings
from aistudio.config.job import JobConfig, Trust
from aistudio.config.log import LogSettings
from aistudio.config.manifest import DatasetFormat, ManifestSettings
from aistudio.config.metrics import MetricsSettings
from aistudio.config.model_text import is_model_text
from aistudio.config.models import DetectorSettings, ImageSpec, ModelConfig, ModelsSettings, Resize, WeightsFile
from aistudio.config.reading import (
    load_config,
    load_model_config,
    load_train_config,
    load_trainings,
    parse_config,
    parse_train_config,
)
from aistudio.config.report import ReportSettings
from aistudio.config.search import SearchSettings
from aistudio.config.select import SelectSettings
from aistudio.config.serve import ServeSettings
from aistudio.config.store import StoreSettings
from aistudio.config.train import ComposerTraining, RankingTraining, RecallTraining, TrainConfig, TrainSettings
from aistudio.config.train_composer import ComposerLossSettings

__all__ = [
    "ComposerLossSettings",
    "ComposerTraining",
    "DatasetFormat",
    "DetectorSettings",
    "DownloadSettings",
    "EngineSettings",
    "HostSettings",
    "ImageSpec",
    "ImagesSettings",
    "JobConfig",
    "LogSettings",
    "ManifestSettings",
    "MetricsSettings",
    "ModelConfig",
    "ModelsSettings",
    "RankingTraining",
    "RecallTraining",
    "ReportSettings",
    "Resize",
    "SearchSettings",
    "SelectSettings",
    "ServeSettings",
    "Settings",
    "StoreSettings",
    "TrainConfig",
    "TrainSettings",
    "Trust",
    "WeightsFile",
    "is_model_text",
    "load_config",
    "load_model_config",
    "load_train_config",
    "load_trainings",
    "parse_config",
    "parse_train_config",
]
