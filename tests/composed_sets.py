"""MIT-States, Fashion200k and FashionIQ in their published layouts, drawn small: every picture is a real JPEG."""

import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

STATES = {"tomato": ("ripe", "sliced", "old"), "castle": ("ancient", "old"), "car": ("new", "old")}  # car: training
CAPTIONS = {
    "test": {"dress": ("red mini dress", "blue mini dress", "blue long dress"), "top": ("red silk top",)},
    "train": {"dress": ("red wool dress", "green wool dress"), "top": ("blue knit top",)},
}
IDS = {"dress": "ABCD", "shirt": "EFG", "toptee": "GHI"}  # G is in two lists


def draw(path: Path) -> None:
    """Write a picture of its own, the same each time, for a path."""
    rng = np.random.default_rng(zlib.crc32(path.as_posix().encode()[-30:]))
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((60, 44), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)


def mitstates(root: Path) -> Path:
    """Two test nouns and a training noun, two pictures of each state."""
    for noun, states in STATES.items():
        for state in states:
            for i in range(2):
                draw(root / "images" / f"{state} {noun}" / f"{i}.jpg")
    draw(root / "images" / "adj castle" / "0.jpg")  # of no state: left out by definition
    return root


def fashion200k(root: Path) -> Path:
    """Two pictures of each caption, one of them listed and not there; queries between captions of one category."""
    asked = []
    (root / "labels").mkdir(parents=True)
    for split, categories in CAPTIONS.items():
        for category, captions in categories.items():
            lines = []
            for number, caption in enumerate(captions):
                for i in range(2):
                    path = f"women/{category}s/{split}/{number}/{number}_{i}.jpeg"
                    lines.append(f"{path}\t0.9\t{caption}\n")
                    if (split, category, number, i) != ("test", "dress", 2, 1):
                        draw(root / path)
            (root / "labels" / f"{category}_{split}_detect_all.txt").write_text("".join(lines), encoding="utf-8")
    for source, target in ((0, 1), (1, 0), (1, 2), (2, 1)):
        asked.append(f"women/dresss/test/{source}/{source}_0.jpeg women/dresss/test/{target}/{target}_0.jpeg\n")
    (root / "test_queries.txt").write_text("".join(asked), encoding="utf-8")
    return root


def fashioniq(root: Path) -> Path:
    """Each picture of a list asks for the next one; one query names a picture that is gone."""
    for name in {name for names in IDS.values() for name in names}:
        draw(root / "all_imgs" / f"{name}.jpg")
    for category, names in IDS.items():
        for split in ("train", "val"):
            entries = [
                {"candidate": a, "target": b, "captions": [f"Is more {b.lower()}", "has a long collar"]}
                for a, b in zip(names, names[1:] + names[:1], strict=True)
            ]
            dead = [{"candidate": names[0], "target": "GONE", "captions": ["is red", "is blue"]}]
            gone = ["GONE"] if category == "dress" else []
            for folder, file, value in (
                ("captions", "cap", entries + (dead if gone else [])),
                ("image_splits", "split", [*names, *gone]),
            ):
                (root / folder).mkdir(exist_ok=True)
                path = root / folder / f"{file}.{category}.{split}.json"
                path.write_text(json.dumps(value), encoding="utf-8")
    return root


DRAWN = {"mitstates": mitstates, "fashion200k": fashion200k, "fashioniq": fashioniq}
