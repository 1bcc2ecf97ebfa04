"""The doors: what every format has in common."""

import io
import pickle
from typing import get_args

import pytest

from aistudio.catalogue import MANIFEST_SUFFIXES, inspect_manifest
from aistudio.config import DatasetFormat, ManifestSettings

DATASETS = get_args(DatasetFormat)  # a root folder of a published data set: other doors (datasets.py)
FORMATS = get_args(ManifestSettings.model_fields["format"].annotation)


def test_every_format_has_suffixes():
    assert set(MANIFEST_SUFFIXES) == set(FORMATS)
    assert ".csv.gz" in MANIFEST_SUFFIXES["csv"]
    assert all(s == s.lower() and s.startswith(".") for suffixes in MANIFEST_SUFFIXES.values() for s in suffixes)


# Parquet keeps its schema at the end of the file, as a zip its directory; archives: test_archives.py
@pytest.mark.parametrize(
    "fmt", sorted(set(FORMATS) - {"folder", "parquet", "lance", "webdataset", "zip", "sql", *DATASETS})
)
def test_inspecting_reads_no_more_than_the_head(fmt):
    head = {
        "csv": b"item_id,image_url\n",
        "tsv": b"item_id\timage_url\n",
        "jsonl": b'{"item_id": 1, "image_url": "u"}\n',
        "poi_recall": b"1,a,u,1,1,1,x\n",
        "ranking_pairs": "$record$".join("0123456789").encode() + b"\n",
    }
    stream = io.BytesIO(head[fmt] * 200_000)
    columns = inspect_manifest(stream, "m", ManifestSettings(path="m", format=fmt))
    assert stream.tell() < 1_000_000
    assert columns == pickle.loads(pickle.dumps(columns))
    assert columns.schema.names[:2] == ["row_id", "item_id"]
