"""`aistudio init`: columns guessed from names and values, names of any kind kept, the file scores as it is."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aistudio.catalogue.guessing import guess
from aistudio.config import load_config
from aistudio.errors import ConfigError, ManifestError
from aistudio.jobs.init import conf_text, main
from aistudio.runs.manifest_sample import format_of, sample
from aistudio.runs.snapshot import find_manifest
from tests.archives import tar_of

PICTURES = ["https://cdn.shop.example/a.jpg", "https://cdn.shop.example/b.png?w=200"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(here, *args):
    assert main([*args, "--model", "demo_recall"]) == 0
    return yaml.safe_load((here / "aistudio.yaml").read_text("utf-8"))


def test_a_shop_export(here, capsys):
    (here / "export.csv").write_text(
        "\ufeffprice,SKU,Product title,Main image,url\n"
        f"9.5,A-1,Red shoe,{PICTURES[0]},https://shop.example/p/1\n"
        f"7,A-2,Blue shoe,{PICTURES[1]},https://shop.example/p/2\n",
        "utf-8",
    )
    conf = made(here, "export.csv")
    assert conf["manifest"]["columns"] == {"item_id": "SKU", "image_url": "Main image", "text": "Product title"}
    shown = capsys.readouterr().out
    assert 'image_url  "Main image"' in shown and "kept       price" in shown and '"Red shoe"' in shown
    files, columns = find_manifest(load_config("aistudio.yaml"))
    assert len(files) == 1 and columns.mapping["item_id"] == "SKU"


@pytest.mark.parametrize(
    ("names", "row", "expected"),
    [
        (["id", "img_1", "img_2", "name"], ["1", *PICTURES, "a shoe"], (("img_1", "img_2"), "id", "name", None)),
        (["编号", "标题", "图片"], ["7", "海边的日落", "/data/7.jpg"], (("图片",), "编号", "标题", None)),
        (["goods_id", "pics"], ["1", "|".join(PICTURES)], (("pics",), "goods_id", None, "|")),
        (["a", "b"], ["1", "no picture"], ((), "a", "b", None)),
        (["sku", "images", "caption"], ["1", PICTURES, "two words"], (("images",), "sku", "caption", None)),
        (["x", "y", "z"], ["12", "s3://b/c.webp", "a long text of it"], (("y",), "x", "z", None)),
    ],
)
def test_guesses(names, row, expected):
    assert guess(names, [dict(zip(names, row, strict=True))]) == expected


def test_json_lines_parquet_and_a_folder(here):
    rows = [{"sku": "1", "images": PICTURES, "title": "a red shoe"}, {"sku": "2", "images": [], "title": "b c"}]
    (here / "m.jsonl").write_text("not json\n" + "\n".join(map(json.dumps, rows)), "utf-8")
    assert made(here, "m.jsonl")["manifest"]["columns"]["image_url"] == "images"
    pq.write_table(pa.Table.from_pylist(rows), here / "m.parquet")
    assert made(here, "m.parquet", "--force")["manifest"]["format"] == "parquet"
    (here / "pictures").mkdir()
    (here / "pictures/1.jpg").write_bytes(b"\xff\xd8\xff")
    assert made(here, "pictures", "--force")["manifest"] == {"path": "pictures", "format": "folder"}


def test_what_cannot_be_used_is_one_message_and_nothing_is_written(here):
    (here / "m.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(ConfigError, match="no column looks like addresses of pictures; columns: a, b"):
        main(["m.csv", "--model", "demo_recall"])
    (here / "e.csv").write_text("", "utf-8")
    (here / "bad.parquet").write_bytes(b"PAR1 and nothing")
    for name in ("e.csv", "bad.parquet", "none.csv", "m.xlsx"):
        with pytest.raises((ConfigError, ManifestError)):
            main([name, "--model", "demo_recall"])
    with pytest.raises(ConfigError, match="neither a file nor a built-in name"):
        main(["m.csv", "--model", "nothing"])
    assert not (here / "aistudio.yaml").exists()
    (here / "aistudio.yaml").write_text("mine", "utf-8")
    with pytest.raises(ConfigError, match="--force"):
        main(["m.csv"])
    assert (here / "aistudio.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["x.csv.gz", "X.CSV", "s3://b/x.tsv.zst", "https://h/x.jsonl?sig=1"])
def test_the_format_is_in_the_name(name):
    assert format_of(name) in ("csv", "tsv", "jsonl")


HOSTILE = [
    "a: b",
    "# no",
    "yes",
    "",
    " ",
    "a\nb",
    "\x1b[31m",
    "'",
    '"',
    "{x}",
    "[1]",
    "*a",
    "&a",
    "!t",
    "%",
    "1e3",
    "\u2028",
    "😀",
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names=st.lists(st.sampled_from(HOSTILE) | st.text(max_size=12), min_size=2, max_size=5, unique=True))
def test_names_of_any_kind_are_read_back_as_they_are(names):
    names = [n.encode("utf-8", "replace").decode() for n in names]
    found = guess(names, [dict.fromkeys(names, PICTURES[0])])._replace(item_id=names[0], text=names[1])
    columns = yaml.safe_load(conf_text("m.csv", "csv", found, "out", "demo_recall"))["manifest"]["columns"]
    assert columns["item_id"] == names[0] and columns["text"] == names[1]


def test_hostile_names_in_a_file(here):
    names = ["a: #1\n", "\x1b[2J", "img[*]"]
    with (here / "m.csv").open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([names, ["1", "x", PICTURES[0]]])
    assert sample("m.csv", load_config("demo").store).names == names
    conf = made(here, "m.csv")
    assert conf["manifest"]["columns"]["image_url"] == "img[*]"
    assert "\x1b" not in (here / "aistudio.yaml").read_text("utf-8")


def test_pictures_inside_a_file(here, capsys):
    photo = b"\xff\xd8\xff" + b"\x80" * 99
    pq.write_table(pa.table({"photo": pa.array([photo] * 3), "title": ["a red shoe"] * 3}), here / "m.parquet")
    (here / "t.tar").write_bytes(tar_of({"1.jpg": photo, "1.txt": b"a red shoe"}))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": photo, "path": ""}], kind)}), here / "h.parquet")
    for args, expected in (
        (["t.tar"], {"path": "t.tar", "format": "webdataset"}),
        (["h.parquet", "--force"], {"path": "h.parquet", "format": "parquet", "columns": {"image_url": "image"}}),
    ):
        assert made(here, *args)["manifest"] == expected
        find_manifest(load_config("aistudio.yaml"))
    assert "(pictures themselves)" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no column looks like addresses of pictures; columns: photo, title"):
        made(here, "m.parquet", "--force")
