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
    base: str | None = None  # an earlier run, local or in a bucket: what of it still holds is not computed again
    trust: Trust = "validators"  # what shows that a picture is the base's: address, ETag and date, or bytes
    log: LogSettings = LogSettings()
    start_over: bool = False  # together with --yes: empties a run folder made with other settings
