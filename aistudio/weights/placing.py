"""Where a model's files are on this node: as the conf says when the right ones are there, else from the node's cache.

The driver pins (`pin_files`): it finds every file and writes its checksum into the settings. Every node then places
(`place_files`) exactly those files and gets the same settings with its own paths in them.
"""

from pathlib import Path
from typing import Any

from aistudio.config import ModelConfig, WeightsFile
from aistudio.errors import WeightsError
from aistudio.weights.cache import WeightsCache
from aistudio.weights.files import expected_sha256, fetch_command, file_sha256, require_file


def pin_files(cfg: ModelConfig, cache: WeightsCache) -> ModelConfig:
    """`cfg` with the checksum and size of each file that is at its path or can be fetched.

    A file that is neither stays as it is: whether that matters is the family's to say (`check_weights`).

    Raises:
        WeightsError: the file at a path is not the one expected, or cannot be fetched.
    """
    extra = {key: _pin(file, cfg.name, cache) for key, file in cfg.extra_files.items()}
    towers = {key: pin_files(tower, cache) for key, tower in cfg.towers.items()}
    weights = _pin(cfg.weights, cfg.name, cache)
    return cfg.model_copy(update={"weights": weights, "extra_files": extra, "towers": towers})


def _pin(file: WeightsFile, name: str, cache: WeightsCache) -> WeightsFile:
    if Path(file.path).is_file():
        found, path = require_file(file, name), Path(file.path)
    elif file.url:
        try:
            path = cache.get(file.model_copy(update={"sha256": expected_sha256(file)}))
        except WeightsError as e:
            raise WeightsError(f"{e}\n  or have it at {file.path}: {fetch_command(name)}") from None
        found = file_sha256(path)
    else:
        return file
    return file.model_copy(update={"sha256": found, "size_bytes": path.stat().st_size})


def place_file(file: WeightsFile, cache: WeightsCache, *, fetch: bool = True) -> Path:
    """Where `file` is on this node; its own path when it is nowhere and has no address.

    Args:
        fetch: download it when it is not here. False: the network is not asked.

    Raises:
        WeightsError: as WeightsCache.get.
    """
    path = Path(file.path)
    if not file.url or (path.is_file() and (not file.sha256 or file_sha256(path) == file.sha256.lower())):
        return path
    return cache.get(file) if fetch else cache.find(file) or path


def place_files(cfg: ModelConfig, cache: WeightsCache, *, fetch: bool = True) -> ModelConfig:
    """`cfg` with this node's paths; the very same object when all files are where it says.

    Models want some files side by side and under their own names (a tokenizer's, a Hugging Face folder's). So a
    folder of which a file comes from the cache is replaced by a folder of links, wherever the settings name it.

    Raises:
        WeightsError: as WeightsCache.get.
    """
    places = {file.path: place_file(file, cache, fetch=fetch) for file in cfg.files}
    moved = {_folder(path) for path, place in places.items() if place != Path(path)}
    if not moved:
        return cfg
    views = {}
    for folder in moved:
        mine = {Path(path).name: place for path, place in places.items() if _folder(path) == folder and place.is_file()}
        views[folder] = cache.view(folder, mine)

    def located(value: Any) -> Any:
        """A path in a replaced folder, or such a folder itself, as it is called now; anything else unchanged."""
        if not isinstance(value, str):
            return value
        if (view := views.get(Path(value).resolve())) is not None:
            return str(view)
        view = views.get(_folder(value))
        return str(view / Path(value).name) if view and (view / Path(value).name).is_file() else value

    def moved_file(file: WeightsFile) -> WeightsFile:
        return file.model_copy(update={"path": located(file.path)})

    def moved_model(model: ModelConfig) -> ModelConfig:
        return model.model_copy(
            update={
                "weights": moved_file(model.weights),
                "extra_files": {key: moved_file(file) for key, file in model.extra_files.items()},
                "tokenizer": located(model.tokenizer),
                "arch": {key: located(value) for key, value in model.arch.items()},
                "towers": {key: moved_model(tower) for key, tower in model.towers.items()},
            }
        )

    return moved_model(cfg)


def _folder(path: str) -> Path:
    return Path(path).parent.resolve()
