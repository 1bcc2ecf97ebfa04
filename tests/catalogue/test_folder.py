"""A folder of images as a manifest."""

import pytest

from aistudio.catalogue import folder_candidates
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

SETTINGS = ManifestSettings(path="x", format="folder")


def candidates(paths, root, settings=SETTINGS):
    batches = list(folder_candidates(paths, root, settings))
    rows = [r for b in batches for r in b.candidates.to_pylist()]
    return [(r["row_id"], r["item_id"], r["image_url"]) for r in rows], [
        r for b in batches for r in b.rejected.to_pylist()
    ]


@pytest.mark.parametrize("root", ["/data/hotels", "/data/hotels/", "s3://bucket/hotels", "."])
def test_an_item_is_a_folder(root):
    base = root.rstrip("/")
    names = ["1/a.jpg", "1/deep/b.PNG", "notes.txt", "c.webp"]
    rows, rejected = candidates([f"{base}/{n}" for n in names], root)
    assert rows == [
        ("1/a.jpg", "1", f"{base}/1/a.jpg"),
        ("1/deep/b.PNG", "1/deep", f"{base}/1/deep/b.PNG"),
        ("c.webp", base.rpartition("/")[2], f"{base}/c.webp"),
    ]
    assert rejected == []


def test_paths_that_are_no_candidates_are_named():
    rows, rejected = candidates(["/r/a/1.jpg", "/other/2.jpg", "/r/b/\udcff.jpg"], "/r")
    assert [r[0] for r in rows] == ["a/1.jpg"]
    assert [(r["line_number"], r["reason"]) for r in rejected] == [
        (2, "outside the folder /r/"),
        (3, "the file name is not valid text"),
    ]


def test_many_paths_come_in_batches():
    batches = folder_candidates((f"/r/{n}/x.jpg" for n in range(2500)), "/r", SETTINGS)
    assert [b.candidates.num_rows for b in batches] == [1000, 1000, 500]


def test_no_columns_to_map():
    with pytest.raises(ManifestError, match="no columns to map"):
        candidates([], "/r", ManifestSettings(path="x", format="folder", columns={"item_id": "a"}))
