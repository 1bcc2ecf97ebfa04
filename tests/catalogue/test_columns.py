"""Column mapping: defaults, overrides, renamed passthrough columns, and what each mistake says."""

import pyarrow as pa
import pytest

from aistudio.catalogue.columns import resolve
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError


def settled(found, columns=None, passthrough="all", types=None):
    settings = ManifestSettings(path="m", format="csv", columns=columns or {}, passthrough=passthrough)
    return resolve(found, types or {}, settings, "m.csv")


def kept(columns):
    return {name: field.name for name, field in columns.passthrough}


def test_same_names_are_the_default_but_row_id_must_be_asked_for():
    columns = settled(["row_id", "item_id", "image_url", "poi_names"])
    assert columns.mapping == {"item_id": "item_id", "image_url": "image_url", "poi_names": "poi_names"}
    assert kept(columns) == {"row_id": "manifest_row_id"}
    assert settled(["row_id", "item_id", "image_url"], {"row_id": "row_id"}).mapping["row_id"] == "row_id"


def test_mapping_overrides_and_frees_the_other_column():
    columns = settled(["sku", "item_id", "image_url"], {"item_id": "sku"})
    assert columns.mapping["item_id"] == "sku"
    assert kept(columns) == {"item_id": "manifest_item_id"}


def test_clashing_names_get_a_number_and_types_are_kept():
    columns = settled(
        ["item_id", "image_url", "width", "manifest_width", "manifest_width_2"], types={"width": pa.int64()}
    )
    assert kept(columns) == {
        "width": "manifest_width_3",
        "manifest_width": "manifest_width",
        "manifest_width_2": "manifest_width_2",
    }
    assert columns.schema.field("manifest_width_3").type == pa.int64()


def test_passthrough_by_name():
    found = ["item_id", "image_url", "a", "b"]
    assert kept(settled(found, passthrough=["b"])) == {"b": "b"}
    assert kept(settled(found, passthrough=[])) == {}
    assert kept(settled(found, passthrough=["item_id"])) == {"item_id": "manifest_item_id"}


@pytest.mark.parametrize(
    ("found", "columns", "passthrough", "parts"),
    [
        (["sku", "img_url"], {"item_id": "sku"}, "all", ["no column for image_url", "sku, img_url", "'img_url'?"]),
        (["sku", "image_url"], {"item_id": "skuu"}, "all", ["maps item_id to 'skuu'", "did you mean 'sku'?"]),
        (["item_id", "image_url"], {"itemid": "item_id"}, "all", ["columns.itemid", "did you mean 'item_id'?"]),
        (["item_id", "image_url", "Colour"], {}, ["color"], ["passthrough names 'color'", "did you mean 'Colour'?"]),
        (["item_id", "image_url", "a", "a"], {}, "all", ["column 'a' appears more than once"]),
        ([], {}, "all", ["no column for item_id; columns found: none"]),
    ],
)
def test_mistakes_name_what_was_found(found, columns, passthrough, parts):
    with pytest.raises(ManifestError) as e:
        settled(found, columns, passthrough)
    for part in ["m.csv", *parts]:
        assert part in str(e.value)
