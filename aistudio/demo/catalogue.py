"""Writes the demo catalogue: image files, the recall manifest, the ranking pairs, and what to expect of both.

    <folder>/images/<sight>/<number>.<suffix>
    <folder>/recall.csv    poi_id,poi_name,image_url,rank_number,width,height,extend (no header), broken rows included
    <folder>/pairs.txt     ten fields split by $record$: the A/B pairs
    <folder>/truth.csv     what every picture shows, its true utility and its clicks
    <folder>/info.json     CatalogueInfo

Addresses start with BASE_URL, a host that does not exist: a job rewrites it (`download.url_map`) to wherever the
folder is served, so the manifests do not depend on a port. Pairs are in pairs.py, broken rows in faults.py.
"""

import csv
import dataclasses
import json
import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aistudio.demo.draw import Attributes, draw_image
from aistudio.demo.encode import encode_image
from aistudio.demo.faults import BASE_URL, FAULTS, ManifestRow, write_fault
from aistudio.demo.pairs import BestPossible, Picture, write_pairs
from aistudio.demo.preference import IMPRESSIONS, click_rate, observed_clicks, utility
from aistudio.demo.sights import SIGHTS, Sight

DEMO_SEED = 1


@dataclass(frozen=True)
class CatalogueInfo:
    """What was written and what a run over it must find. Paths are relative to the catalogue's folder."""

    seed: int
    num_sights: int
    num_images: int  # whole pictures; the recall manifest reaches all of them
    num_rows: int  # of the recall manifest
    num_pairs: int
    recall_manifest: str
    pairs_manifest: str
    base_url: str
    expected_status: dict[str, int]  # of the recall manifest, by status; every row of the pairs is ok
    special_rows: list[dict[str, str | int]]  # line, image_url, kind, status
    chance_hit_rate_at_5: float  # of a random order of the images
    best_possible: BestPossible


def write_catalogue(
    folder: str | Path,
    seed: int = DEMO_SEED,
    num_sights: int | None = None,
    images_per_sight: int = 10,
    num_pairs: int = 400,
    broken: bool = True,
) -> CatalogueInfo:
    """Draw a catalogue into `folder` (made if need be; files of the same names are replaced).

    Args:
        seed: equal seeds give equal catalogues, with the same Pillow version.
        num_sights: how many sights, from the first; None: all of them.
        images_per_sight: whole pictures of each sight, not counting those behind a redirect and the like; at least 2.
        num_pairs: A/B pairs, all different and without ties; both pictures are of one sight.
        broken: add one row for each of FAULTS.

    Raises:
        ValueError: more sights than there are, or more pairs than the pictures can form.
    """
    folder = Path(folder)
    sights = SIGHTS[:num_sights]
    if num_sights is not None and num_sights > len(SIGHTS):
        raise ValueError(f"{num_sights} sights asked for, there are {len(SIGHTS)}")
    rows: list[ManifestRow] = []
    pictures: list[Picture] = []
    for number, sight in enumerate(sights):
        rng = np.random.default_rng([seed, number, 0])
        for index in range(images_per_sight):
            picture, row = _write_picture(folder, sight, seed, index, rng)
            pictures.append(picture)
            rows.append(row)
    rows += _broken_rows(folder, sights, seed, images_per_sight) if broken else []
    rows.sort(key=lambda row: (int(row.item_id), row.rank))
    _write_recall(folder / "recall.csv", rows)
    best = write_pairs(folder / "pairs.txt", pictures, num_pairs, seed)
    _write_truth(folder / "truth.csv", pictures)
    info = _describe(rows, seed, len(sights), num_pairs, best)
    (folder / "info.json").write_text(json.dumps(dataclasses.asdict(info), indent=2, ensure_ascii=False) + "\n")
    return info


def read_info(folder: str | Path) -> CatalogueInfo:
    """The info.json of a written catalogue."""
    data = json.loads((Path(folder) / "info.json").read_text(encoding="utf-8"))
    return CatalogueInfo(**{**data, "best_possible": BestPossible(**data["best_possible"])})


def _write_picture(
    folder: Path, sight: Sight, seed: int, index: int, rng: np.random.Generator
) -> tuple[Picture, ManifestRow]:
    path, size, shown = save_picture(folder, sight, seed, index)
    value = utility(sight, shown)
    clicks = observed_clicks(click_rate(value), rng)
    row = ManifestRow(sight.item_id, sight.name, BASE_URL + path, index + 1, *size)
    return Picture(sight, path, shown, value, clicks), row


def save_picture(folder: Path, sight: Sight, seed: int, index: int) -> tuple[str, tuple[int, int], Attributes]:
    """Draw one picture into the folder: its relative path, (width, height) and what it shows."""
    image, shown = draw_image(sight, seed, index)
    body, suffix = encode_image(image, random.Random(f"{seed}/{sight.key}/{index}/file"))
    path = f"images/{sight.key}/{index:03d}.{suffix}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(body)
    return path, image.size, shown


def _broken_rows(folder: Path, sights: tuple[Sight, ...], seed: int, images_per_sight: int) -> list[ManifestRow]:
    """One row for each fault, spread over the sights."""
    rows = []
    step = max(1, len(sights) // len(FAULTS))
    for number, kind in enumerate(FAULTS):
        sight = sights[number * step % len(sights)]
        index = images_per_sight + number
        path, size, _ = save_picture(folder, sight, seed, index)
        url = write_fault(folder, kind, path)
        rows.append(ManifestRow(sight.item_id, sight.name, url, index + 1, *size, kind=kind))
    return rows


def _write_recall(path: Path, rows: list[ManifestRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerows((r.item_id, r.name, r.image_url, r.rank, r.width, r.height, "demo") for r in rows)


def _write_truth(path: Path, pictures: list[Picture]) -> None:
    fields = [f.name for f in dataclasses.fields(Attributes)]
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["item_id", "image_url", *fields, "utility", "click_rate", "clicks", "impressions"])
        for p in pictures:
            shown = [getattr(p.shown, name) for name in fields]
            writer.writerow(
                [p.sight.item_id, BASE_URL + p.path, *shown, p.utility, click_rate(p.utility), p.clicks, IMPRESSIONS]
            )


def _describe(rows: list[ManifestRow], seed: int, num_sights: int, num_pairs: int, best: BestPossible) -> CatalogueInfo:
    status = Counter(row.status for row in rows)
    special: list[dict[str, str | int]] = [
        {"line": line, "image_url": row.image_url, "kind": row.kind, "status": row.status}
        for line, row in enumerate(rows, start=1)
        if row.kind
    ]
    whole = Counter(row.item_id for row in rows if row.status == "ok")
    return CatalogueInfo(
        seed=seed,
        num_sights=num_sights,
        num_images=whole.total(),
        num_rows=len(rows),
        num_pairs=num_pairs,
        recall_manifest="recall.csv",
        pairs_manifest="pairs.txt",
        base_url=BASE_URL,
        expected_status=dict(sorted(status.items())),
        special_rows=special,
        chance_hit_rate_at_5=chance_hit_rate(list(whole.values()), 5),
        best_possible=best,
    )


def chance_hit_rate(relevant: list[int], k: int) -> float:
    """Expected hit rate@k when all images are in random order; `relevant`: number of images of each query."""
    total = sum(relevant)
    missed = [math.comb(total - n, k) / math.comb(total, k) for n in relevant]
    return 1 - sum(missed) / len(missed)
