"""The doors to MIT-States, Fashion200k and FashionIQ: gallery, queries and training pairs of composed retrieval.

`split` and `categories` of the manifest's settings choose; the readers of each data set stand in its own file.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Literal, get_args

from aistudio.catalogue import fashion200k, fashioniq, mitstates
from aistudio.catalogue._dataset import DatasetFiles, Queries, dataset_columns, gallery_batches
from aistudio.catalogue.fashion200k import Fashion200kPairs
from aistudio.catalogue.fashioniq import FashionIqPairs
from aistudio.catalogue.mitstates import MitStatesPairs
from aistudio.catalogue.table import Batch, Columns
from aistudio.config import DatasetFormat, ManifestSettings
from aistudio.errors import ManifestError

DATASET_FORMATS: tuple[str, ...] = get_args(DatasetFormat)
TrainingPairs = MitStatesPairs | Fashion200kPairs | FashionIqPairs
_READERS: dict[str, ModuleType] = {"mitstates": mitstates, "fashion200k": fashion200k, "fashioniq": fashioniq}


def inspect_dataset(settings: ManifestSettings) -> Columns:
    """The columns of a data set's gallery; no file is read. Raises ManifestError for columns that it does not have."""
    return dataset_columns(settings, _reader(settings).COLUMNS)


def read_gallery(files: DatasetFiles, settings: ManifestSettings) -> Iterator[Batch]:
    """The pictures of a split as candidate rows, in the published order (listings sorted).

    row_id is the picture's path below the root (FashionIQ: its id), item_id the state and noun, the product or the id,
    text the caption. What is left out (a missing picture, an unusable line) comes as rejected, with the reason.

    Args:
        files: the data set's files.
        settings: format, split (null: test, FashionIQ val), categories (null: all).

    Raises:
        ManifestError: the folder is not laid out as this data set, or has no such split or category.
    """
    columns = inspect_dataset(settings)
    yield from gallery_batches(_reader(settings).list_pictures(files, settings), files, columns, columns.found)


def read_queries(files: DatasetFiles, settings: ManifestSettings) -> Queries:
    """The queries of a split as a table of QUERY_SCHEMA. Arguments and errors as `read_gallery`."""
    queries: Queries = _reader(settings).read_queries(files, settings)
    return queries


def read_pairs(files: DatasetFiles, settings: ManifestSettings) -> TrainingPairs:
    """Read the training triples, by default of split train. Arguments and errors as `read_gallery`."""
    if settings.split is None:
        settings = settings.model_copy(update={"split": "train"})
    pairs: TrainingPairs = _reader(settings).read_pairs(files, settings)
    return pairs


def vocabulary_texts(pairs: TrainingPairs, variant: Literal["reference", "words"]) -> Iterable[str]:
    """The texts that a vocabulary is built from.

    On FashionIQ the published code extends its list of texts by strings, which gives their letters: the vocabulary
    knows words of one letter only. "reference" repeats that, "words" does not; elsewhere both are the same.
    """
    if variant == "reference" and isinstance(pairs, FashionIqPairs):
        return (letter for text in pairs.texts for letter in text)
    return pairs.texts


def _reader(settings: ManifestSettings) -> ModuleType:
    if settings.format not in _READERS:
        known = ", ".join(_READERS)
        raise ManifestError(f"manifest.format: {settings.format} is no data set of composed retrieval; known: {known}")
    return _READERS[settings.format]
