"""The ranking head (family `siamese_poi`), trained on frozen vectors of pictures that the towers have not seen.

Pairs of pictures of one sight, as an offer shows them: with the sight as POI, with a second POI beside it, or with a
title only. Loss: BCE(sigmoid(s_a - s_b), clicks_a > clicks_b), the paper's.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from aistudio.demo.sights import SIGHTS
from aistudio.demo.texts import offer_texts
from aistudio.models.siamese_poi import SiamesePoiModel
from aistudio.poi_table import PoiTable, item_pois, query_text
from aistudio.schema import poi_table_schema


@dataclass(frozen=True)
class RankingRecipe:
    """How the head is trained; the defaults made weights/demo."""

    steps: int = 1500
    pairs_per_batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.1  # of the picture vector's entries, against learning pictures by heart
    offers_per_sight: int = 12
    log_every: int = 250


@dataclass(frozen=True)
class Vectors:
    """M pictures as the head sees them: unit rows (M, D) float32, sight (M,), clicks (M,)."""

    images: np.ndarray
    sight: np.ndarray
    clicks: np.ndarray


def build_poi_rows(vectors: Vectors, encode: Callable[[list[str]], np.ndarray]) -> pa.Table:
    """POI table of the sights in `vectors`: one row per way of writing the name, all with the mean picture vector."""
    names, pictures, counts = [], [], []
    for number in np.unique(vectors.sight):
        mine = vectors.images[vectors.sight == number]
        sight = SIGHTS[number]
        for name in (sight.name, sight.zh, sight.en):
            names.append(name)
            pictures.append(mine.mean(axis=0).tolist())
            counts.append([len(mine), 0, 0])
    columns = {"name": names, "image_vector": pictures, "name_vector": encode(names).tolist(), "counts": counts}
    return pa.table(columns, schema=poi_table_schema(vectors.images.shape[1]))


def train_ranking(
    model: SiamesePoiModel,
    vectors: Vectors,
    table: PoiTable,
    encode: Callable[[list[str]], np.ndarray],
    recipe: RankingRecipe,
    seed: int,
    log: Callable[[str], None] = print,
) -> float:
    """Train everything but `align_model` in place; leaves the model in eval mode. Returns the last step's loss."""
    torch.manual_seed(seed)
    offers = _Offers(vectors, table, encode, recipe.offers_per_sight, seed)
    pairs = _all_pairs(vectors)
    rng = np.random.default_rng([seed, 77])
    model.train()
    model.align_model.eval().requires_grad_(False)
    model.dice_bn.momentum = 0.05
    head = [p for name, p in model.named_parameters() if not name.startswith("align_model.")]
    optimizer = torch.optim.AdamW(head, recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    images, value = torch.from_numpy(vectors.images), float("nan")
    for step in range(1, recipe.steps + 1):
        chosen = pairs[rng.integers(0, len(pairs), recipe.pairs_per_batch)]
        offer = offers.draw(vectors.sight[chosen[:, 0]], rng)
        a, b = (F.dropout(images[chosen[:, side]], recipe.dropout) for side in (0, 1))
        both = model.score(torch.cat([a, b]), *(torch.cat([x, x]) for x in offer))
        better, worse = both.chunk(2)
        loss = F.softplus(worse - better).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        value = loss.item()
        if step % recipe.log_every == 0 or step == recipe.steps:
            log(f"ranking step {step}/{recipe.steps}  loss {value:.3f}")
    model.eval()
    return value


class _Offers:
    """Texts and POIs of made-up offers, encoded once; `draw` picks one for each pair."""

    def __init__(
        self, vectors: Vectors, table: PoiTable, encode: Callable[[list[str]], np.ndarray], per_sight: int, seed: int
    ) -> None:
        rng = random.Random(f"offers/{seed}")
        numbers = np.unique(vectors.sight).tolist()
        written = [offer_texts(SIGHTS[n], rng) for n in numbers for _ in range(per_sight)]
        pois = [item_pois(names, table) for _, names in written]
        self._first = {n: i * per_sight for i, n in enumerate(numbers)}
        self._per_sight = per_sight
        texts = [query_text(names, title) for title, names in written]
        self._columns = (
            torch.from_numpy(encode(texts)),
            torch.from_numpy(np.stack([p.pictures for p in pois])),
            torch.from_numpy(np.stack([p.names for p in pois])),
            torch.tensor([p.count for p in pois]),
        )

    def draw(self, sights: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """(N,) sight numbers -> text (N,D), POI pictures (N,P,D), POI names (N,P,D), number of POIs (N,)."""
        rows = [self._first[int(s)] + int(rng.integers(self._per_sight)) for s in sights]
        return tuple(column[rows] for column in self._columns)


def _all_pairs(vectors: Vectors) -> np.ndarray:
    """(P, 2) int64: every ordered pair of pictures of one sight, the more clicked first, ties left out."""
    found = []
    for number in np.unique(vectors.sight):
        rows = np.flatnonzero(vectors.sight == number)
        better, worse = np.nonzero(vectors.clicks[rows][:, None] > vectors.clicks[rows][None, :])
        found.append(np.stack([rows[better], rows[worse]], axis=1))
    return np.concatenate(found)
