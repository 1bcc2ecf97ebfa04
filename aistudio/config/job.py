"""The settings of one job file: a section for each part."""

from aistudio.config.base import Settings
from aistudio.config.download import DownloadSettings
from aistudio.config.engine import EngineSettings
from aistudio.config.images import ImagesSettings
from aistudio.config.manifest import ManifestSettings
from aistudio.config.metrics import MetricsSettings
from aistudio.config.models import ModelsSettings
from aistudio.config.report import ReportSettings
from aistudio.config.search import SearchSettings
from aistudio.config.select import SelectSettings
from aistudio.config.serve import ServeSettings
from aistudio.config.store import StoreSettings


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
    start_over: bool = False
    """Empties a run folder that was made with other settings, together with `--yes` on the command line."""
