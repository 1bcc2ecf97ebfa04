"""MIT-States, Fashion200k and FashionIQ in their published layouts, drawn small: galleries, queries, training pairs."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aistudio.catalogue import (
    QUERY_SCHEMA,
    LocalFiles,
    inspect_dataset,
    read_gallery,
    read_pairs,
    read_queries,
    vocabulary_texts,
)
from aistudio.catalogue.fashion200k import marked, parents, replacement
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError


def settings(format: Any, root: Path, **options: Any) -> ManifestSettings:
    return ManifestSettings(path=str(root), format=format, **options)


def gallery(format: str, root: Path, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    cfg = settings(format, root, **options)
    batches = list(read_gallery(LocalFiles(root), cfg))
    schema = inspect_dataset(cfg).schema
    for batch in batches:
        assert batch.candidates.schema == schema
        batch.candidates.validate(full=True)
    rows = [row for batch in batches for row in batch.candidates.to_pylist()]
    return rows, [row for batch in batches for row in batch.rejected.to_pylist()]


def queries(format: str, root: Path, **options: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    found = read_queries(LocalFiles(root), settings(format, root, **options))
    assert found.table.schema == QUERY_SCHEMA
    found.table.validate(full=True)
    return found.table.to_pylist(), found.left_out


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


@pytest.fixture
def mit(tmp_path: Path) -> Path:
    touch(
        tmp_path,
        *("images/ripe tomato/1.jpg", "images/ripe tomato/0.jpg", "images/sliced tomato/0.jpg"),
        *("images/old car/0.jpg", "images/new car/0.jpg", "images/new car-x/0.jpg", "images/adj tomato/9.jpg"),
        *("images/notes.txt", "images/unsorted/0.jpg", "images/very old car/0.jpg", "images/ripe tomato/readme.md"),
    )
    return tmp_path


def test_mitstates_gallery(mit: Path) -> None:
    rows, rejected = gallery("mitstates", mit)
    wanted = ["images/ripe tomato/0.jpg", "images/ripe tomato/1.jpg", "images/sliced tomato/0.jpg"]
    assert [row["row_id"] for row in rows] == wanted
    assert rows[0]["image_url"] == f"{mit}/images/ripe tomato/0.jpg"
    assert [(r["text"], r["state"], r["noun"]) for r in rows][-1] == ("sliced tomato", "sliced", "tomato")
    reasons = Counter(r["reason"] for r in rejected)
    assert reasons == {"a folder that is not named by state and noun": 1, "not a .jpg file directly in its folder": 1}
    train, _ = gallery("mitstates", mit, split="train")  # listings sorted folder by folder, not as strings
    assert [r["item_id"] for r in train] == ["new car", "new car-x", "old car"]


def test_mitstates_queries_ask_for_every_other_state(mit: Path) -> None:
    rows, left_out = queries("mitstates", mit)
    assert left_out == {}
    assert [(r["row_id"][-5], r["text"], r["complete_text"], len(r["relevant"])) for r in rows] == [
        ("0", "sliced", "sliced tomato", 1),
        ("1", "sliced", "sliced tomato", 1),
        ("0", "ripe", "ripe tomato", 2),
    ]
    assert rows[2]["category"] == "tomato" and rows[2]["target_caption"] == "ripe tomato"


def test_mitstates_pairs(mit: Path) -> None:
    pairs: Any = read_pairs(LocalFiles(mit), settings("mitstates", mit))
    assert [pairs.targets(i) for i in range(3)] == [[("new car", "new"), ("old car", "old")], [], pairs.targets(0)]
    drawn = list(pairs.draws([2, 0, 1, 1, 0], random.Random(1)))
    assert len(drawn) == 5 and drawn[0].source == pairs.pictures[2].row_id
    for first, second in zip(drawn[::2], drawn[1::2], strict=False):
        assert first.source == second.source and first.text != second.text
    assert list(vocabulary_texts(pairs, "words")) == ["new car", "new car-x", "old car"]


TWO_LABELS = ("labels/dress_test_detect_all.txt", "labels/dress_train_detect_all.txt")
LINES = {
    "dress_train": ["a\t0.5\tred knee length dress", "b\t0.5\tblue knee length dress", "c\t0.1\tgreen long gown"],
    "top_train": ["d\t0.5\tv.neck & top?*", "no tabs", "e\t1\t  ", "a\t0.5\tlisted again"],
    "dress_test": ["s\t0\tred mini dress", "t\t0\tblue mini dress", "u\t0\tblue mini dress", "v\t0\tpink gown"],
    "top_test": ["w\t0\tblue silk top"],
}


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    (tmp_path / "labels").mkdir()
    for name, lines in LINES.items():
        content = "".join(f"women/x/p{line}\n" if "\t" in line else line + "\n" for line in lines)
        (tmp_path / "labels" / f"{name}_detect_all.txt").write_text(content, encoding="utf-8")
    (tmp_path / "labels" / "jacket_test_detect_all.txt").write_bytes(b"")
    asked = ["ps pt", "pt ps", "ps pv", "pq pt", "pw ps", "", "one", "pu ps"]
    lines = [" ".join(f"women/x/{p}" for p in line.split()) for line in asked]
    (tmp_path / "test_queries.txt").write_text("\n".join(lines), encoding="utf-8")
    touch(tmp_path, *(f"women/x/p{name}" for name in "abdstw"))
    return tmp_path


def test_fashion200k_gallery(fashion: Path) -> None:
    rows, rejected = gallery("fashion200k", fashion)
    assert [r["row_id"][-1] for r in rows] == ["s", "t", "w"]
    assert {r["item_id"] for r in rows} == {"x"} and rows[2]["category"] == "top"
    assert Counter(r["reason"] for r in rejected) == {"missing picture": 2}
    rows, rejected = gallery("fashion200k", fashion, split="train")
    assert rows[-1]["caption"] == "vdotmarkneck andmark topquestionmarkstarmark"
    reasons = {"missing picture", "wrong field count: 1, expected 3", "a caption without a word"}
    assert {r["reason"] for r in rejected} == reasons | {"a picture that is listed twice"}
    assert [r["row_id"][-1] for r in gallery("fashion200k", fashion, categories=["top"])[0]] == ["w"]


def test_fashion200k_queries(fashion: Path) -> None:
    rows, left_out = queries("fashion200k", fashion)
    assert [(r["row_id"][-1], r["text"], [x[-1] for x in r["relevant"]]) for r in rows] == [
        ("s", "replace red with blue", ["t"]),
        ("t", "replace blue with red", ["s"]),
        ("w", "replace blue with red", ["s"]),
    ]
    assert left_out == {
        "no picture of the target's caption": 1,
        "a picture that is not in the labels of split test": 1,
        "not a line of two paths": 1,
        "missing picture": 1,
    }
    with pytest.raises(ManifestError, match="split test only"):
        queries("fashion200k", fashion, split="train")


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("red dress", "red long dress", "replace dress with long"),  # no source word differs: its last one
        ("red red top", "red top", "replace top with top"),  # words differ by number only
        ("a b c", "x y z", "replace a with x"),  # several differ: the first of each
        ("redder top", "red top", "replace redder with red"),  # words, not substrings
    ],
)
def test_fashion200k_replacement(source: str, target: str, text: str) -> None:
    assert replacement(source, target) == text


def test_fashion200k_parents_and_marks() -> None:
    assert parents("red embroidered dress")[0] == "embroide dress"
    assert parents("a  b") == ["b", "a"]
    assert parents("one") == [""]
    assert marked(" a & b. ") == "a andmark bdotmark"


def test_fashion200k_pairs(fashion: Path) -> None:
    pairs: Any = read_pairs(LocalFiles(fashion), settings("fashion200k", fashion))
    assert pairs.targets(0) == [("blue knee length dress", "replace red with blue")]
    assert pairs.targets(2) == []
    drawn = list(pairs.draws([2, 0, 1], random.Random(0)))
    assert all(d.text in ("replace red with blue", "replace blue with red") for d in drawn)
    assert drawn[1].source.endswith("pa") and drawn[1].target.endswith("pb")
    assert "green long gown" in list(vocabulary_texts(pairs, "words"))  # its picture is missing, its words are not


def test_fashion200k_reads_many_captions_of_one_parent(tmp_path: Path) -> None:
    """20,000 captions below one parent: a list that is searched for each of them would take minutes."""
    (tmp_path / "labels").mkdir()
    names = [f"women/p/{i}.jpeg" for i in range(20_000)]
    content = "".join(f"{name}\t0\tw{i} dress\n" for i, name in enumerate(names))
    (tmp_path / "labels" / "dress_train_detect_all.txt").write_text(content, encoding="utf-8")
    touch(tmp_path, *names[:3])
    pairs: Any = read_pairs(LocalFiles(tmp_path), settings("fashion200k", tmp_path))
    assert len(pairs.texts) == 20_000 and len(pairs.targets(0)) == 2


def write_fashioniq(root: Path, category: str, split: str, entries: list[Any], ids: list[str]) -> None:
    for folder, name, value in (("captions", "cap", entries), ("image_splits", "split", ids)):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{name}.{category}.{split}.json").write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def iq(tmp_path: Path) -> Path:
    good = {"candidate": "A", "target": "B", "captions": ["Is RED", " with  dots "]}
    dead = {"candidate": "A", "target": "GONE", "captions": ["x", "y"]}
    for split in ("train", "val"):
        odd: list[Any] = [{"candidate": "A", "target": "B", "captions": ["only one"]}, 3]
        write_fashioniq(tmp_path, "dress", split, [good, dead, *odd], ["A", "B", "GONE"])
        write_fashioniq(tmp_path, "shirt", split, [good | {"candidate": "C"}], ["C", "B"])
        write_fashioniq(tmp_path, "toptee", split, [], ["D"])
    write_fashioniq(tmp_path, "dress", "test", [{"candidate": "A", "captions": ["", "z"]}], ["A"])
    touch(tmp_path, *(f"all_imgs/{name}.jpg" for name in "ABCD"))
    return tmp_path


def test_fashioniq_gallery(iq: Path) -> None:
    rows, rejected = gallery("fashioniq", iq)
    assert [(r["row_id"], r["categories"]) for r in rows] == [
        ("A", "dress"),
        ("B", "dress,shirt"),
        ("C", "shirt"),
        ("D", "toptee"),
    ]
    assert [(r["raw"], r["reason"], r["line_number"]) for r in rejected] == [
        ("all_imgs/GONE.jpg", "missing picture", 3)
    ]
    assert [r["row_id"] for r in gallery("fashioniq", iq, categories=["shirt"])[0]] == ["C", "B"]


def test_fashioniq_queries(iq: Path) -> None:
    rows, left_out = queries("fashioniq", iq)
    assert [(r["row_id"], r["text"], r["relevant"], r["category"]) for r in rows] == [
        ("A", "dress is red and it  with  dots ", ["B"], "dress"),
        ("C", "shirt is red and it  with  dots ", ["B"], "shirt"),
    ]
    assert left_out == {"missing picture": 1, "an entry without two captions": 1, "an entry without a candidate": 1}
    single, _ = queries("fashioniq", iq, categories=["dress"])
    assert [r["text"] for r in single] == ["is red  with  dots "]
    (open_ended,), _ = queries("fashioniq", iq, split="test", categories=["dress"])
    assert open_ended["relevant"] is None and open_ended["text"] == " z"


def test_fashioniq_pairs_and_their_letters(iq: Path) -> None:
    pairs: Any = read_pairs(LocalFiles(iq), settings("fashioniq", iq))
    assert [(p.source, p.target) for p in pairs.draws([1, 0], random.Random(0))] == [("C", "B"), ("A", "B")]
    words = list(vocabulary_texts(pairs, "words"))
    assert len(words) == 3  # that of the missing picture too
    assert "".join(vocabulary_texts(pairs, "reference")) == "".join(words)


def _lists(value: Any) -> Callable[[Path], None]:
    return lambda root: (root / "captions" / "cap.dress.val.json").write_text(json.dumps(value)) and None


@pytest.mark.parametrize(
    ("format", "change", "message"),
    [
        ("mitstates", lambda root: None, "not MIT-States: no folder images"),
        ("mitstates", lambda root: touch(root, "images/flat.jpg"), "no picture of this split"),
        ("fashion200k", lambda root: None, "not Fashion200k: no label file of test"),
        ("fashion200k", lambda root: touch(root, *TWO_LABELS), "no picture of this split"),
        ("fashioniq", lambda root: None, "not FashionIQ: no readable file image_splits"),
    ],
)
def test_a_wrong_layout_is_one_clear_message(tmp_path: Path, format: str, change: Any, message: str) -> None:
    change(tmp_path)
    for read in (read_queries, read_pairs, lambda *a: list(read_gallery(*a))):
        with pytest.raises(ManifestError, match=message.replace("test", "(test|train)")) as e:
            read(LocalFiles(tmp_path), settings(format, tmp_path))
        assert "expected" in str(e.value) and str(tmp_path) in str(e.value)


@pytest.mark.parametrize("value", [{"a": 1}, 3, None])
def test_fashioniq_lists_that_are_none(iq: Path, value: Any) -> None:
    _lists(value)(iq)
    with pytest.raises(ManifestError, match=r"cap.dress.val.json: holds"):
        queries("fashioniq", iq)
    (iq / "captions" / "cap.dress.val.json").write_text("[" * 100_000)
    with pytest.raises(ManifestError, match=r"cap.dress.val.json: not JSON"):
        queries("fashioniq", iq)


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("mitstates", {"split": "val"}, "no split 'val'; known: test, train"),
        ("mitstates", {"categories": ["tomato"]}, "known: none"),
        ("fashioniq", {"categories": ["dress", "top"]}, r"\['top'\]; known: dress, shirt, toptee"),
        ("fashioniq", {"categories": []}, "empty list"),
        ("fashioniq", {"columns": {"text": "caption"}}, "fills them itself"),
        ("fashioniq", {"passthrough": ["caption"]}, "does not have; columns found: categories"),
        ("csv", {}, "no data set of composed retrieval"),
    ],
)
def test_settings_that_a_data_set_does_not_have(iq: Path, format: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        gallery(format, iq, **options)


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere: not a folder"):
        LocalFiles(tmp_path / "nowhere")


def test_names_that_are_not_text_cost_their_row(mit: Path) -> None:
    (mit / "images" / "ripe tomato" / "\udcff.jpg").write_bytes(b"x")
    rows, rejected = gallery("mitstates", mit)
    assert len(rows) == 3
    assert "the file name is not valid text" in {r["reason"] for r in rejected}
    assert pa.array([r["raw"] for r in rejected]).validate() is None
