"""Data sets of composed retrieval as manifests: their files, local or on S3, and what stands for them in a run.

A data set is one folder of several files, so it is listed as a whole: a run's identity is made from the pictures found,
and what is read later must be the same pictures.
"""

import hashlib
import io
import json
from typing import BinaryIO

from aistudio.catalogue import Batch, Columns, DatasetFiles, LocalFiles, inspect_dataset, read_gallery
from aistudio.catalogue._dataset import in_listing_order
from aistudio.config import JobConfig, ManifestSettings, StoreSettings
from aistudio.errors import ManifestError, StoreError
from aistudio.places import in_bucket
from aistudio.runs.manifest_files import InputFile
from aistudio.store import open_store


class StoreFiles:
    """A data set below an S3 prefix."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        self.root = root.rstrip("/")
        self._store = open_store(self.root, settings)

    def paths(self, folder: str) -> list[str]:
        try:
            return in_listing_order(entry.key for entry in self._store.list(f"{folder}/"))
        except StoreError as e:
            raise ManifestError(f"manifest.path: {self.root}: cannot be listed: {e}") from None

    def open(self, path: str) -> BinaryIO:
        try:
            return io.BytesIO(self._store.read_bytes(path))
        except StoreError as e:
            raise ManifestError(f"{self.url(path)}: cannot be read: {e}") from None

    def url(self, path: str) -> str:
        return f"{self.root}/{path}"


def dataset_files(root: str | list[str], store: StoreSettings) -> DatasetFiles:
    """Open a data set's root folder, local or in a bucket.

    Raises:
        ManifestError: several places, a web address, or no folder.
    """
    if not isinstance(root, str):
        raise ManifestError("manifest.path: a data set is one folder, found a list")
    if in_bucket(root):
        return StoreFiles(root, store)
    if root.startswith(("http://", "https://")):
        raise ManifestError(
            f"manifest.path: {root}: a web address cannot be listed; a data set is a folder or a bucket"
        )
    return LocalFiles(root)


def find_dataset(config: JobConfig) -> tuple[InputFile, Columns]:
    """Return the entry of a data set (its "size" is the number of its pictures), and its columns.

    Raises:
        ManifestError: the folder is not laid out as this data set.
    """
    columns = inspect_dataset(config.manifest)
    return _listed(config.manifest, _gallery(config)), columns


def dataset_batches(config: JobConfig, found: InputFile | None = None) -> list[Batch]:
    """The data set's pictures as candidate rows, with what was left out.

    Args:
        found: what `find_dataset` gave; None: it may have been another one.

    Raises:
        ManifestError: as `find_dataset`, and where it lists other pictures than `found`.
    """
    batches = _gallery(config)
    if found is not None and _listed(config.manifest, batches) != found:
        raise ManifestError(
            f"manifest.path: {config.manifest.path}: pictures or labels came or went while the run was starting; "
            "start again"
        )
    return batches


def _gallery(config: JobConfig) -> list[Batch]:
    files = dataset_files(config.manifest.path, config.store)
    return list(read_gallery(files, config.manifest))


def _listed(settings: ManifestSettings, batches: list[Batch]) -> InputFile:
    digest = hashlib.sha256()
    for batch in batches:
        for table in (batch.candidates, batch.rejected):
            values = [table[name].to_pylist() for name in table.column_names]
            digest.update(json.dumps(values, default=str).encode("utf-8", "surrogatepass"))
    rows = sum(batch.candidates.num_rows for batch in batches)
    return InputFile(str(settings.path), rows, digest.hexdigest())
