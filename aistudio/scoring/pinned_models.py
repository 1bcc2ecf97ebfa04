"""The same weights on every node: the driver finds and pins them, a node that lacks them fetches them once.

What the driver found (checksums, and the fingerprint that run.json records) travels to the workers with the run. A
worker needs neither the conf files nor a shared disk, and refuses to work with anything else than what was pinned.
"""

import socket
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from aistudio.config import ImageSpec, JobConfig, ModelConfig, WeightsFile, load_model_config
from aistudio.errors import ConfigError, StoreError, WeightsError
from aistudio.models import ImageEncoder, TextTokenizer, open_tokenizer, pin_revision, require_kind
from aistudio.poi_table import PoiTable
from aistudio.run_record import ModelFacts
from aistudio.schema import crop_column
from aistudio.scoring.remembered_checks import checked
from aistudio.store import open_store
from aistudio.weights.cache import WeightsCache, default_folder
from aistudio.weights.files import file_sha256
from aistudio.weights.placing import pin_files, place_file, place_files


class PinnedModel(NamedTuple):
    """A model as the driver found it; picklable."""

    conf: str  # the YAML's path
    config: ModelConfig  # with the checksum of every file
    fingerprint: str
    image_tower_fingerprint: str | None
    image_spec: ImageSpec
    normalised: bool
    hub_files: tuple[tuple[str, str], ...] = ()  # (hf://org/name@commit/file, sha256)
    dim: int = 0  # width of its vectors

    def facts(self) -> ModelFacts:
        """Describe the model for run.json. Addresses stay out: they may carry keys."""
        return ModelFacts(
            conf=self.conf,
            name=self.config.name,
            family=self.config.family,
            fingerprint=self.fingerprint,
            normalised=self.normalised,
            image_tower_fingerprint=self.image_tower_fingerprint,
            pixels=self.image_spec.identity(),
            files={file.path: file.sha256 for file in self.config.files if file.sha256} | dict(self.hub_files),
        )


class PinnedModels(NamedTuple):
    """All that a run's workers load; picklable."""

    recall: PinnedModel | None = None
    ranking: PinnedModel | None = None
    encoders: tuple[tuple[str, PinnedModel], ...] = ()  # by name
    poi_table: WeightsFile | None = None

    @property
    def by_role(self) -> dict[str, PinnedModel]:
        """The models under `recall`, `ranking` and `encoders.<name>`: the names of their settings."""
        roles = {"recall": self.recall, "ranking": self.ranking}
        roles |= {f"encoders.{name}": model for name, model in self.encoders}
        return {role: model for role, model in roles.items() if model is not None}

    def facts(self) -> dict[str, ModelFacts]:
        """Describe the models for run.json, by role."""
        return {role: model.facts() for role, model in self.by_role.items()}

    @property
    def num_bytes(self) -> int:
        """Size of all models' files; those of unknown size count nothing."""
        return sum(file.size_bytes or 0 for model in self.by_role.values() for file in model.config.files)

    @property
    def specs(self) -> tuple[ImageSpec, ...]:
        """The pixel formats that the models take, each once."""
        return tuple(dict.fromkeys(model.image_spec for model in self.by_role.values()))

    @property
    def crops(self) -> dict[str, int]:
        """The columns of boxes that a run stores, each with the place of its pixel format among `specs`."""
        specs = self.specs
        return {
            crop_column(role): specs.index(model.image_spec)
            for role, model in self.by_role.items()
            if model.image_spec.crop != "none"
        }


def pin_models(config: JobConfig) -> PinnedModels:
    """Find, check and pin the job's models and its POI table; what is not here but has an address is fetched.

    Raises:
        ConfigError, WeightsError: what a user must change.
    """
    models = config.models
    return PinnedModels(
        pin_model(models.recall, config, "models.recall") if models.recall else None,
        pin_model(models.ranking, config, "models.ranking") if models.ranking else None,
        tuple((name, pin_model(conf, config, f"models.encoders.{name}")) for name, conf in models.encoders.items()),
        _pin_poi_table(config),
    )


def files_to_fetch(config: JobConfig) -> list[WeightsFile]:
    """List the models' files that are neither at their paths nor in this node's cache, and have an address.

    The network is not asked. Raises ConfigError for a conf that cannot be read or a model of another kind.
    """
    cache, models = node_cache(config), config.models
    confs = {"models.recall": models.recall, "models.ranking": models.ranking}
    confs |= {f"models.encoders.{name}": conf for name, conf in models.encoders.items()}
    missing: dict[str, WeightsFile] = {}
    for setting, conf in confs.items():
        if conf is None:
            continue
        settings = load_model_config(conf)
        require_kind(settings, setting)
        for file in settings.files:
            if file.url and not place_file(file, cache, fetch=False).is_file():
                missing[file.path] = file
    return list(missing.values())


def pin_model(conf: str, config: JobConfig, setting: str) -> PinnedModel:
    """Pin the model of one conf file, which `setting` names. Raises ConfigError and WeightsError."""
    cache = node_cache(config, driver=True)
    settings = load_model_config(conf)
    require_kind(settings, setting)
    pinned = pin_revision(pin_files(settings, cache))
    info = checked(place_files(pinned, cache), cache.folder.parent / "checks")
    hub = hub_files(pinned, info.files)
    tower = info.image_tower_fingerprint
    files = tuple(hub.items())
    return PinnedModel(conf, pinned, info.fingerprint, tower, info.image_spec, info.normalised, files, info.dim)


def hub_files(cfg: ModelConfig, files: dict[str, str]) -> dict[str, str]:
    """Return checksums of a hub model's files by their place on the hub; none where the model is not from there."""
    commit, found = cfg.arch.get("revision"), {}
    for path, sha256 in files.items():
        _, below, name = path.partition(f"/snapshots/{commit}/")
        if commit and below:
            found[f"hf://{cfg.arch['model']}@{commit}/{name}"] = sha256
    return found


M = TypeVar("M", bound=ImageEncoder)


def load_pinned(model: PinnedModel, config: JobConfig, load: Callable[[ModelConfig], M]) -> M:
    """Load a pinned model on this node by `load`, which is load_recall or one of its kind.

    Raises:
        WeightsError: its files are not here and cannot be fetched, or are not those of the run; names the node.
    """
    try:
        loaded = load(place_files(model.config, node_cache(config)))
    except WeightsError as e:
        raise _on_this_node(e) from None
    if loaded.fingerprint != model.fingerprint:
        raise WeightsError(
            f"node {socket.gethostname()}: {model.conf}: the model's files here are not those of the run (fingerprint "
            f"{loaded.fingerprint}, expected {model.fingerprint}); name all of them in the conf with their url, or "
            "put the same ones on every node"
        )
    return loaded


def open_pinned_tokenizer(model: PinnedModel, config: JobConfig) -> TextTokenizer | None:
    """The model's tokenizer on this node, without the model; None when its family has none that can be asked.

    Raises:
        WeightsError: its files are not here and cannot be fetched; names the node.
    """
    try:
        return open_tokenizer(place_files(model.config, node_cache(config)))
    except WeightsError as e:
        raise _on_this_node(e) from None


def load_poi_table(table: WeightsFile | None, config: JobConfig) -> PoiTable | None:
    """The pinned POI table on this node; None when there is none.

    Raises:
        WeightsError: not here, out of reach, or another one than the run's. ConfigError: not a POI table.
    """
    if table is None:
        return None
    try:
        path = place_file(table, node_cache(config))
        if (found := file_sha256(path)) != table.sha256:
            raise WeightsError(f"models.poi_table: {path}: sha256 is {found}, the run's is {table.sha256}")
        return PoiTable.from_arrow(open_store(str(path.parent)).read_table(path.name))
    except OSError as e:
        raise _on_this_node(f"models.poi_table: {table.path}: {e.strerror or e}") from None
    except (WeightsError, StoreError) as e:
        raise _on_this_node(e) from None


def _pin_poi_table(config: JobConfig) -> WeightsFile | None:
    path = config.models.poi_table
    if not path:
        return None
    try:
        table = WeightsFile(path=path, url=path if "://" in path else None)
        place = place_file(table, node_cache(config, driver=True))
        return table.model_copy(update={"sha256": file_sha256(place)})
    except (OSError, ValueError, WeightsError) as e:
        raise ConfigError(f"models.poi_table: {path}: {e}; `aistudio poi_table` makes one") from None


def node_cache(config: JobConfig, *, driver: bool = False) -> WeightsCache:
    folder = default_folder(config.engine.weights_cache)
    return WeightsCache(folder, config.store, patient=not driver, announce=driver)


def _on_this_node(error: object) -> WeightsError:
    text, host = str(error), socket.gethostname()
    return WeightsError(text if host in text else f"node {host}: {text}")
