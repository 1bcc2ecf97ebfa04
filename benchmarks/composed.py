"""Composed retrieval at the size of Fashion200k: reading labels, composing on stored vectors, asking and judging.

    python benchmarks/composed.py                                   # 200,000 label lines, 29,789 images, 33,480 queries
    python benchmarks/composed.py --lines 4000 --images 600 --queries 700
    python benchmarks/composed.py --part compose                    # one part: read, compose or search

A data set with invented captions and empty picture files, a run of random vectors of 512 and a TIRG with random numbers
are written to a temporary folder first, which is not timed. Each part runs in a process of its own, whose memory is
printed as it was before and at its peak. `compose` compares with the bare torch module in interleaved pairs, on stored
image vectors and ready text vectors; each distinct text is encoded once. From 20,000 queries on `search` starts Ray.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import yaml

from aistudio.catalogue import LocalFiles, read_gallery, read_pairs, read_queries
from aistudio.config import ManifestSettings, ModelConfig, WeightsFile, load_model_config, parse_config
from aistudio.models import check_weights
from aistudio.models._composer import COMPOSE_ROWS
from aistudio.models._composer_open import save_composer
from aistudio.pipeline.search import plan_search, run_search
from aistudio.runs import layout
from aistudio.runs.record import without_secrets
from aistudio.schema import score_schema, vector_array
from aistudio.scoring.pinned_models import pin_model
from aistudio.scoring.query_vectors import QueryEncoder
from aistudio.store import open_store
from aistudio.training.composer_model import fresh_composer, open_trainable

DIM, SHARD, PAIRS = 512, 4_096, 7
CATEGORIES = ("dress", "jacket", "pants", "skirt", "top")
WORDS = [f"{kind}{i}" for kind in ("colour", "cloth", "cut", "detail") for i in range(40)]


def write_dataset(root: Path, lines: int, images: int, queries: int) -> None:
    """About three pictures of a caption; captions of four words and their category, of which many differ in one."""
    rng = np.random.default_rng(0)
    (root / "labels").mkdir(parents=True)
    listed: list[str] = []
    for split, count in (("train", lines - images), ("test", images)):
        for number, category in enumerate(CATEGORIES):
            out = []
            for i in range(number, count, len(CATEGORIES)):
                path = f"women/{category}s/{split}/{i // 300}/{i}_0.jpeg"
                caption = " ".join(WORDS[40 * k + rng.integers(0, 40 if k < 2 else 6)] for k in range(4))
                out.append(f"{path}\t0.9\t{caption} {category}\n")
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).touch()
                listed += [path] if split == "test" else []
            (root / "labels" / f"{category}_{split}_detect_all.txt").write_text("".join(out), encoding="utf-8")
    chosen = rng.integers(0, len(listed), (queries, 2))
    asked = [f"{listed[a]} {listed[b]}\n" for a, b in chosen]
    (root / "test_queries.txt").write_text("".join(asked), encoding="utf-8")


def write_model(folder: Path) -> str:
    cfg = ModelConfig(
        family="tirg", name="tirg", weights=WeightsFile(path=str(folder / "tirg.safetensors")),
        image={"resize": "torchvision_bilinear_center_crop"},
    )  # fmt: skip
    words = ["<UNK>", *WORDS, *CATEGORIES]
    torch.manual_seed(0)
    save_composer(fresh_composer(cfg, words), cfg.weights.path, words)
    conf = folder / "tirg.yaml"
    conf.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    return str(conf)


def settings_of(root: Path, **more: str) -> ManifestSettings:
    return ManifestSettings.model_validate({"path": str(root), "format": "fashion200k", **more})


def write_run(folder: Path, root: Path, conf: str) -> None:
    """Score files of the test pictures with random vectors, and a run.json that names the model."""
    rng, store = np.random.default_rng(1), open_store(str(folder))
    info = check_weights(load_model_config(conf))
    for number, batch in enumerate(read_gallery(LocalFiles(root), settings_of(root))):
        rows, num = batch.candidates, batch.candidates.num_rows
        vectors = vector_array(rng.normal(size=(num, DIM)).astype(np.float32))
        extra = [pa.field(name, pa.string()) for name in ("caption", "category", "detection_score")]
        schema = score_schema(extra, {"embedding_compose": DIM})
        known = {name: rows[name] for name in rows.column_names} | {
            "status": pa.array(["ok"] * num), "embedding_compose": vectors,
        }  # fmt: skip
        columns = [known[f.name].cast(f.type) if f.name in known else pa.nulls(num, f.type) for f in schema]
        store.write_table(layout.scores_key(f"{number:05d}"), pa.Table.from_arrays(columns, schema=schema))
    config = parse_config({
        "manifest": {"path": str(root), "format": "fashion200k"}, "output": str(folder),
        "models": {"recall": None, "encoders": {"compose": conf}},
    }, "benchmark")  # fmt: skip
    facts = {"conf": conf, "name": "tirg", "family": "tirg", "fingerprint": info.fingerprint, "normalised": False}
    store.write_json(layout.RUN, {"config": without_secrets(config), "models": {"encoders.compose": facts}})


def read(folder: Path) -> dict[str, float]:
    """Training pairs of the training labels, gallery and queries of the test labels."""
    root, found = folder / "set", {}
    files = LocalFiles(root)
    for name, work in (
        ("training pairs", lambda: len(read_pairs(files, settings_of(root)).children)),
        ("gallery", lambda: sum(b.candidates.num_rows for b in read_gallery(files, settings_of(root)))),
        ("queries", lambda: read_queries(files, settings_of(root)).table.num_rows),
    ):
        started = time.perf_counter()
        num = work()
        found[f"{name} ({num:,}), s"] = time.perf_counter() - started
    return found


def compose(folder: Path) -> dict[str, float]:
    """Rates on stored vectors: ours over the bare module's, median of interleaved pairs."""
    conf = str(folder / "tirg.yaml")
    config = parse_config({
        "manifest": {"path": "-", "format": "csv"}, "output": "-", "models": {"recall": None, "encoders": {"c": conf}},
    }, "benchmark")  # fmt: skip
    encoder = QueryEncoder(config, pin_model(conf, config, "models.encoders.c"))
    bare = open_trainable(load_model_config(conf)).model()
    asked = read_queries(LocalFiles(folder / "set"), settings_of(folder / "set")).table["text"].to_pylist()
    images = np.random.default_rng(2).normal(size=(len(asked), DIM)).astype(np.float32)
    started = time.perf_counter()
    encoder.compose(images, asked)
    whole_s = time.perf_counter() - started
    texts = encoder.text_vectors(asked).vectors_ND

    def ours() -> None:
        encoder.mix(images, texts)

    def plain() -> None:
        with torch.inference_mode():
            for i in range(0, len(images), COMPOSE_ROWS):
                bare.vectors(*(torch.from_numpy(c[i : i + COMPOSE_ROWS]) for c in (images, texts)))

    ratios, rates = [], []
    for number in range(PAIRS):
        seconds = dict.fromkeys((ours, plain), 0.0)
        for work in (ours, plain) if number % 2 else (plain, ours):
            started = time.perf_counter()
            work()
            seconds[work] = time.perf_counter() - started
        ratios.append(seconds[plain] / seconds[ours])
        rates.append(len(images) / seconds[ours])
    return {
        f"first time, texts included ({len(set(asked)):,} distinct), s": whole_s,
        "composed a second": statistics.median(rates), "of the bare module's rate": statistics.median(ratios),
        "lowest pair": min(ratios), "highest pair": max(ratios),
    }  # fmt: skip


def search(folder: Path) -> dict[str, float]:
    """The whole verb: queries read, composed, searched, judged, written."""
    started = time.perf_counter()
    plan = plan_search(str(folder / "run"), "q", model="compose", queries=f"fashion200k:{folder / 'set'}")
    planned = time.perf_counter()
    about = run_search(plan).about
    ended = time.perf_counter()
    return {
        f"plan ({about['queries']:,} queries), s": planned - started,
        f"search ({about['gallery_rows']:,} rows), s": ended - planned,
        "not asked": about["queries_failed"],
    }  # fmt: skip


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("lines", 200_000), ("images", 29_789), ("queries", 33_480)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parts = {"read": read, "compose": compose, "search": search}
    parser.add_argument("--part", choices=[*parts], help="only this one")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # the prepared folder, in a part's own process
    args = parser.parse_args()
    if args.inside:
        before = peak_mib()
        found = parts[args.part](Path(args.inside))
        print(json.dumps(found | {"memory before, MiB": before, "peak memory, MiB": peak_mib()}))
        return
    with tempfile.TemporaryDirectory(prefix="composed_") as place:
        folder = Path(place)
        write_dataset(folder / "set", args.lines, args.images, args.queries)
        write_run(folder / "run", folder / "set", write_model(folder))
        for part in [args.part] if args.part else parts:
            command = [sys.executable, "-W", "ignore", __file__, "--part", part, "--inside", place]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                print(f"{part:<8} {name:<60} {value:>12,.2f}", flush=True)


if __name__ == "__main__":
    main()
