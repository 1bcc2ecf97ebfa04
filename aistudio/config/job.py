"""The settings of one job file: a section for each part."""

from typing import Literal

from aistudio.config.base import Settings
from aistudio.config.download import DownloadSettings
from aistudio.config.engine import EngineSettings
from aistudio.config.images import ImagesSettings
from aistudio.config.log import LogSettings
from aistudio.config.manifest import ManifestSettings
from aistudio.config.metrics import MetricsSettings
from aistudio.config.models import ModelsSettings
from aistudio.config.report import ReportSettings
from aistudio.config.search import SearchSettings
from aistudio.config.select import SelectSettings
from aistudio.config.serve import ServeSettings
from aistudio.config.store import StoreSettings

Trust = Literal["url", "validators", "content"]


class JobConfig(Settings):
    """One job file."""

    manifest: ManifestSettings
    output: str
    """Folder of the run, local or in a bucket; where one is already, the same settings resume it. Example:
    `s3://shop/scores/2026-11`
    """
    models: ModelsSettings
    download: DownloadSettings = DownloadSettings()
    images: ImagesSettings = ImagesSettings()
    store: StoreSettings = StoreSettings()
    engine: EngineSettings = EngineSettings()
    metrics: MetricsSettings = MetricsSettings()
    select: SelectSettings = SelectSettings()
    report: ReportSettings = ReportSettings()
    search: SearchSettings = SearchSettings()
    serve: ServeSettings = ServeSettings()
    base: str | None = None
    """An earlier run, a folder or in a bucket: what of it still holds is not computed again. Example: `s3://shop/monday`"""
    trust: Trust = "validators"
    """What shows that a picture is still the base's: its address (`url`), its ETag and date (`validators`) or its bytes
    (`content`).
    """
    log: LogSettings = LogSettings()
    start_over: bool = False
    """Empties a run folder that was made with other settings, together with `--yes` on the command line."""
