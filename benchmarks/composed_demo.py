"""Recall@1 of the demo's composer on drawings never trained on, beside image only, text only and weighted sum.

    python benchmarks/composed_demo.py [--models A.yaml B.yaml C.yaml] [--seeds 1 2] [--images-per-sight 10]

The baselines are those of the demo's recall model; the sum's weight is the best on pictures of the training seed. A hit
is a picture of the same sight that shows what was asked for; the reference itself is taken out. Several composers are
trainings of other seeds: the worst of them counts.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistudio.config import ImageSpec, ImagesSettings, load_model_config, load_train_config
from aistudio.demo.catalogue import save_picture
from aistudio.demo.changes import Asked, questions
from aistudio.demo.draw import Attributes
from aistudio.demo.sights import SIGHTS
from aistudio.images.decode import decode
from aistudio.index import cosine_top
from aistudio.metrics.composed import without_rows
from aistudio.models import load_composer, load_recall

KINDS = ("all", "hour", "weather", "passers-by", "composition")
WEIGHTS = [round(0.05 * i, 2) for i in range(1, 20)]
Vectors = np.ndarray


class Drawn(NamedTuple):
    """Pictures of one seed, what may be asked of them, and how it is said."""

    pixels: np.ndarray
    asked: list[Asked]
    texts: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["conf/models/tirg_demo.yaml"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of held-out drawings")
    parser.add_argument("--images-per-sight", type=int, default=10)
    args = parser.parse_args()
    recall: Any = load_recall(load_model_config("conf/models/demo_recall.yaml"))
    settings: Any = load_train_config("conf/train/demo_composer.yaml")
    train_seed = settings.data.drawn.seed
    if {train_seed, settings.data.validation.drawn.seed} & set(args.seeds):
        parser.error(f"seeds {train_seed} and {settings.data.validation.drawn.seed} were looked at in training")
    tuned = measure_sums(recall, draw(train_seed, args.images_per_sight, recall.image_spec))
    weight = max(WEIGHTS, key=lambda w: tuned[w]["all"])
    print(f"weighted sum: text weight {weight} is best on drawings of the training seed ({tuned[weight]['all']:.3f})\n")
    composers: dict[str, Any] = {conf: load_composer(load_model_config(conf)) for conf in args.models}
    print(f"| drawings | ranked by | questions | {' | '.join(KINDS)} |\n|---|---|---|{'---|' * len(KINDS)}")
    ratios = []
    for seed in args.seeds:
        drawn = draw(seed, args.images_per_sight, recall.image_spec)
        sums = measure_sums(recall, drawn, [0.0, 1.0, weight])
        names = {0.0: "image only", 1.0: "text only", weight: f"weighted sum, {weight}"}
        for w, name in names.items():
            row(seed, name, sums[w], drawn)
        for conf, model in composers.items():
            vectors = encode(model.encode_images, drawn.pixels)
            found = hits(model.compose(vectors[references(drawn)], drawn.texts), vectors, drawn)
            row(seed, conf, found, drawn)
            ratios.append(found["all"] / max(sums[w]["all"] for w in names))
    print(f"\nworst ratio to the best baseline: {min(ratios):.2f} (of {len(ratios)})")
    return 0 if min(ratios) >= 2 else 1


def row(seed: int, name: str, found: dict[str, float], drawn: Drawn) -> None:
    """Print a line of the table."""
    cells = " | ".join(f"{found[kind]:.3f}" for kind in KINDS)
    print(f"| seed {seed} | {name} | {len(drawn.asked):,} | {cells} |", flush=True)


def draw(seed: int, num: int, spec: ImageSpec) -> Drawn:
    """Draw `num` pictures of each sight, and read them as a job does."""
    pixels, shown = [], list[tuple[str, Attributes]]()
    with tempfile.TemporaryDirectory(prefix="aistudio-bench-") as tmp:
        for sight in SIGHTS:
            for index in range(num):
                path, _, attributes = save_picture(Path(tmp), sight, seed, index)
                read = decode((Path(tmp) / path).read_bytes(), [spec], ImagesSettings(thumbnail_px=0))
                pixels.append(read.pixels[0])
                shown.append((sight.item_id, attributes))
    asked = list(questions(shown))
    return Drawn(np.stack(pixels), asked, [one.change.texts[i % len(one.change.texts)] for i, one in enumerate(asked)])


def encode(function: Callable[[np.ndarray], Vectors], pixels: np.ndarray) -> Vectors:
    """Encode pictures, a few at a time."""
    return np.concatenate([function(pixels[i : i + 64]) for i in range(0, len(pixels), 64)])


def references(drawn: Drawn) -> list[int]:
    """The pictures that the questions are asked with."""
    return [one.reference for one in drawn.asked]


def measure_sums(recall: Any, drawn: Drawn, weights: list[float] | None = None) -> dict[float, dict[str, float]]:
    """Recall@1 of (1 - w) * image + w * text for each weight, by kind of change."""
    vectors = encode(recall.encode_images, drawn.pixels)
    distinct = list(dict.fromkeys(drawn.texts))
    texts = dict(zip(distinct, recall.encode_texts(distinct), strict=True))
    image, text = vectors[references(drawn)], np.stack([texts[t] for t in drawn.texts])
    return {w: hits((1 - w) * image + w * text, vectors, drawn) for w in weights or WEIGHTS}


def hits(asked: Vectors, gallery: Vectors, drawn: Drawn) -> dict[str, float]:
    """Share of questions whose first picture is right, by kind and of all."""
    _, ranked = cosine_top(asked, gallery, 2)
    first = without_rows(ranked, np.array(references(drawn)))[:, 0]
    hit = np.array([int(i) in one.right for i, one in zip(first, drawn.asked, strict=True)])
    kind = np.array([one.change.kind for one in drawn.asked])
    return {name: float(hit[(kind == name) | (name == "all")].mean()) for name in KINDS}


if __name__ == "__main__":
    raise SystemExit(main())
