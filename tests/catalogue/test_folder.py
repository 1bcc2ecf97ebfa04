"""A folder of images as a manifest."""

import pytest

from aistudio.catalogue import folder_candidates, inspect_folder
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


def with_columns(columns, **kw):
    return ManifestSettings(path="x", format="folder", columns=columns, **kw)


def test_columns_are_folder_file_and_path():
    paths = ["/r/shoes/1/a.jpg", "/r/b.jpg"]
    batch = next(folder_candidates(paths, "/r", with_columns({"text": "folder", "item_id": "file"})))
    rows = batch.candidates.to_pylist()
    assert [(r["item_id"], r["text"], r["row_id"]) for r in rows] == [
        ("a.jpg", "shoes/1", "shoes/1/a.jpg"),
        ("b.jpg", "r", "b.jpg"),
    ]
    assert [(r["source_file"], r["source_line"], r["image_position"]) for r in rows] == [
        ("/r", 1, None),
        ("/r", 2, None),
    ]
    assert inspect_folder("/r", SETTINGS).schema.names[-1] == "file"  # what is not mapped is kept
    assert inspect_folder("/r", with_columns({}, passthrough=[])).passthrough == ()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "no_such_column"}, r"maps text to 'no_such_column'.*columns found: folder, file, path"),
        ({"text": "foldr"}, "did you mean 'folder'"),
        ({"image_url": "path"}, r"columns\.image_url is not a column that can be mapped in format folder"),
        ({"txt": "folder"}, r"columns\.txt is not a column.*did you mean 'text'"),
        ({"text": ["folder", "file"]}, "takes one column"),
    ],
)
def test_unknown_mappings_are_refused(columns, message):
    with pytest.raises(ManifestError, match=message):
        inspect_folder("/r", with_columns(columns))


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ManifestError, match="image_separator has no meaning"):
        inspect_folder("/r", with_columns({}, image_separator="|"))
    with pytest.raises(ManifestError, match=r"passthrough names 'price'"):
        inspect_folder("/r", with_columns({}, passthrough=["price"]))
