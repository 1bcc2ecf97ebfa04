"""Manifests of every format, read as one stream of candidate tables.

The room opens nothing itself: it is handed binary streams (local, S3 or HTTP, that is the caller's
business) and yields `Batch(candidates, rejected)`. Nothing that a line contains raises: a line becomes
candidate rows or one rejected row. Only a file that is unusable as a whole is a ManifestError. Data sets of composed
retrieval consist of several files: for them there is `DatasetFiles`.
"""

from aistudio.catalogue._dataset import QUERY_SCHEMA, DatasetFiles, LocalFiles, Pair, Queries
from aistudio.catalogue.datasets import (
    DATASET_FORMATS,
    TrainingPairs,
    inspect_dataset,
    read_gallery,
    read_pairs,
    read_queries,
    vocabulary_texts,
)
from aistudio.catalogue.duplicates import find_duplicates
from aistudio.catalogue.folder import FOLDER_COLUMNS, IMAGE_SUFFIXES, folder_candidates, inspect_folder
from aistudio.catalogue.inline import pictures_in
from aistudio.catalogue.manifest import MANIFEST_SUFFIXES, inspect_manifest, read_manifest
from aistudio.catalogue.record_batches import columns_of_schema, records_batch, wanted_columns
from aistudio.catalogue.table import Batch, Columns, Reading

__all__ = [
    "DATASET_FORMATS",
    "FOLDER_COLUMNS",
    "IMAGE_SUFFIXES",
    "MANIFEST_SUFFIXES",
    "QUERY_SCHEMA",
    "Batch",
    "Columns",
    "DatasetFiles",
    "LocalFiles",
    "Pair",
    "Queries",
    "Reading",
    "TrainingPairs",
    "columns_of_schema",
    "find_duplicates",
    "folder_candidates",
    "inspect_dataset",
    "inspect_folder",
    "inspect_manifest",
    "pictures_in",
    "read_gallery",
    "read_manifest",
    "read_pairs",
    "read_queries",
    "records_batch",
    "vocabulary_texts",
    "wanted_columns",
]
