"""The `drawn:` data source: a catalogue drawn once into the cache, then read like any other manifest."""

import csv
import hashlib
import json
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np

from aistudio.config import ManifestSettings
from aistudio.config.train_data import DrawnData
from aistudio.demo.catalogue import save_picture, write_catalogue
from aistudio.demo.draw import Attributes
from aistudio.demo.faults import BASE_URL
from aistudio.demo.preference import IMPRESSIONS, click_rate, observed_clicks, utility
from aistudio.demo.sights import SIGHTS
from aistudio.demo.texts import caption

CAPTIONS = 3  # texts of each picture


def drawn_catalogue(settings: DrawnData, pairs: bool, cache: Path) -> tuple[ManifestSettings, dict[str, str]]:
    """Draw a catalogue below `cache` unless it is there; return its manifest and the url_map that finds its pictures.

    Args:
        pairs: A/B pairs as `ranking_pairs`; else one row for each picture and caption, with ctr.
    """
    name = hashlib.sha256(json.dumps([settings.model_dump(), pairs]).encode()).hexdigest()[:16]
    folder = (cache / f"drawn-{name}").absolute()
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".drawn-", dir=cache) as tmp:
            made = Path(tmp) / "catalogue"
            (_draw_pairs if pairs else _draw_captions)(made, settings)
            if not folder.is_dir():  # another process may have been faster
                shutil.move(made, folder)
    place = f"file://{folder}/"
    url_map = {BASE_URL: place, f"{BASE_URL}original/": place}
    if pairs:
        return ManifestSettings(path=str(folder / "pairs.txt"), format="ranking_pairs"), url_map
    return ManifestSettings(path=str(folder / "captions.csv"), format="csv"), url_map


def _draw_pairs(folder: Path, settings: DrawnData) -> None:
    write_catalogue(
        folder, settings.seed, settings.num_sights, settings.images_per_sight, settings.num_pairs, broken=False
    )


def _draw_captions(folder: Path, settings: DrawnData) -> None:
    """One line for each picture and text: its sight, what is written about it, how often it was clicked."""
    folder.mkdir(parents=True)
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(("item_id", "image_url", "text", "ctr"))
        for number, sight in enumerate(SIGHTS[: settings.num_sights]):
            clicks, words = (
                np.random.default_rng([settings.seed, number, 0]),
                random.Random(f"{settings.seed}/{number}"),
            )
            for index in range(settings.images_per_sight):
                path, _, shown = save_picture(folder, sight, settings.seed, index)
                rate = observed_clicks(click_rate(utility(sight, shown)), clicks) / IMPRESSIONS
                for text in _captions(number, shown, words):
                    writer.writerow((sight.item_id, BASE_URL + path, text, f"{rate:.6f}"))


def _captions(number: int, shown: Attributes, words: random.Random) -> list[str]:
    return list(dict.fromkeys(caption(SIGHTS[number], shown, words)[0] for _ in range(CAPTIONS)))
