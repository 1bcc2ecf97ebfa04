"""Looks at the environment's proxies and certificates before a run starts, with the code that its downloads use."""

import itertools
from collections.abc import Iterator

from aistudio.catalogue import Columns
from aistudio.config import JobConfig
from aistudio.errors import ConfigError
from aistudio.images.environment import check_environment
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.picture_files import LeftOut
from aistudio.runs.snapshot import LISTED_FORMATS, read_input

_BATCHES = 50  # of each file, each of some thousand rows: a manifest seldom hides its first web address longer
_ANY_SITE = ("http://any.invalid/", "https://any.invalid/")
_NO_ADDRESSES = (*LISTED_FORMATS, "webdataset", "zip")


def check_network(config: JobConfig, files: list[InputFile], columns: Columns | None) -> None:
    """See that images with web addresses in the manifest can be fetched as far as the environment is concerned.

    The manifest is read only where a proxy or certificate is there that cannot be used. A listing of
    pictures (a folder, a data set), an archive and a manifest that is gone (no files) have none.

    Raises:
        ConfigError: one sentence that names the variable.
    """
    try:
        check_environment(config.download, _ANY_SITE)
    except ConfigError:
        if columns is not None and config.manifest.format not in _NO_ADDRESSES:
            check_environment(config.download, _addresses(config, files, columns))


def _addresses(config: JobConfig, files: list[InputFile], columns: Columns) -> Iterator[str | None]:
    for index in range(len(files)):
        batches = read_input(config, files, index, columns, many=False, pictures=LeftOut())
        for batch in itertools.islice(batches, _BATCHES):
            for name in ("image_url", "fallback_url"):
                if name in batch.candidates.column_names:
                    yield from batch.candidates[name].to_pylist()
