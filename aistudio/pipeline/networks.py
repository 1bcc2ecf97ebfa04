"""Looks at the environment's proxies and certificates before a run starts, with the code that its downloads use."""

import itertools
from collections.abc import Iterator

from aistudio.catalogue import Columns, inspect_manifest, read_manifest
from aistudio.config import JobConfig
from aistudio.errors import ConfigError
from aistudio.images.environment import check_environment
from aistudio.runs.manifest_files import InputFile, open_input
from aistudio.runs.snapshot import LISTED_FORMATS

_BATCHES = 50  # of each file, each of some thousand rows: a manifest seldom hides its first web address longer
_ANY_SITE = ("http://any.invalid/", "https://any.invalid/")


def check_network(config: JobConfig, files: list[InputFile], columns: Columns | None) -> None:
    """See that images with web addresses in the manifest can be fetched as far as the environment is concerned.

    The manifest is read only where a proxy or certificate is there that cannot be used. A listing of
    pictures (a folder, a data set) and a manifest that is gone (no files) have none.

    Raises:
        ConfigError: one sentence that names the variable.
    """
    try:
        check_environment(config.download, _ANY_SITE)
    except ConfigError:
        if columns is not None and config.manifest.format not in LISTED_FORMATS:
            check_environment(config.download, _addresses(config, files))


def _addresses(config: JobConfig, files: list[InputFile]) -> Iterator[str | None]:
    for file in files:
        with open_input(file, config.store) as stream:
            columns = inspect_manifest(stream, file.shown, config.manifest)
            stream.seek(0)
            for batch in itertools.islice(read_manifest(stream, file.shown, config.manifest, columns), _BATCHES):
                for name in ("image_url", "fallback_url"):
                    if name in batch.candidates.column_names:
                        yield from batch.candidates[name].to_pylist()
