"""What the training benchmark trains on and compares with: made-up data, bare PyTorch loops over arrays in memory."""

import copy
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from aistudio.runs import layout as run_layout
from aistudio.schema import score_schema, vector_array
from aistudio.store import open_store
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.history import History
from aistudio.training.images import augmented
from aistudio.training.info_nce import info_nce_losses
from aistudio.training.loop import Loop
from aistudio.training.recall import padded
from aistudio.training.team import Team

SHARD = 50_000
HEAD = {"attention": [64, 16], "hidden": 256}  # the published one


def write_pairs_run(folder: str, num_pairs: int, dim: int) -> None:
    """Write score files with the sides of pairs: random unit vectors, a thousand texts, click rates of a direction."""
    store, rng = open_store(folder), np.random.default_rng(0)
    fields = [pa.field("pair_id", pa.string()), pa.field("side", pa.string()), pa.field("ctr", pa.float64())]
    schema, liked = score_schema(fields, {"embedding": dim}), rng.normal(size=dim)
    for start in range(0, 2 * num_pairs, SHARD):
        rows = np.arange(start, min(start + SHARD, 2 * num_pairs))
        vectors = rng.normal(size=(len(rows), dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = [str(i) for i in rows]
        known = {
            "row_id": names, "item_id": [str(i // 2) for i in rows], "image_url": names, "content_hash": names,
            "text": [f"hotel {i // 2 % 1000}" for i in rows], "status": ["ok"] * len(rows),
            "pair_id": [str(i // 2) for i in rows], "side": ["ab"[i % 2] for i in rows],
            "ctr": 1 / (1 + np.exp(-vectors @ liked)), "embedding": vector_array(vectors),
        }  # fmt: skip
        columns = [pa.array(known[f.name], f.type) if f.name in known else pa.nulls(len(rows), f.type) for f in schema]
        store.write_table(run_layout.scores_key(f"{start:09d}"), pa.Table.from_arrays(columns, schema=schema))
    store.write_json(run_layout.RUN, {"config": {"manifest": {"path": "-", "format": "csv"}, "output": folder,
                                                 "models": {"recall": "-"}}, "fingerprint": "made up"})  # fmt: skip


def write_model(folder: Path, dim: int) -> str:
    """Write a conf of the demo's ranking model with another width and a larger head; returns its path."""
    data = yaml.safe_load(Path("conf/models/demo_ranking.yaml").read_text(encoding="utf-8"))
    data["arch"] |= HEAD | {"dim": dim}
    path = folder / "ranking.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)


def write_jpegs(data: Any, url_map: dict[str, str], folder: Path) -> list[str]:
    """Decode each distinct image of a data set and write it as JPEG; returns the paths by image number."""
    folder.mkdir()
    image = data.column("image")
    first = np.unique(image, return_index=True)[1]
    paths = []
    base, target = next(iter(url_map.items()))
    for number, url in enumerate(data.readable(first, "image_url")):
        path = folder / f"{number}.jpg"
        Image.open(url.replace(base, target.removeprefix("file://"))).convert("RGB").save(path, quality=90)
        paths.append(str(path))
    return paths


def our_loop(task: Any, settings: Any, metric: str) -> Callable[[], None]:
    """Return a call that makes `settings.steps` updates by the house's loop; nothing is judged."""
    task.validate = lambda: {metric: 0.5}

    def run() -> None:
        with tempfile.TemporaryDirectory(prefix="aistudio-bench-") as folder:
            store = open_store(folder)
            store.write_json("attempts/000001.json", {})
            Loop(task, settings, Checkpoints(store, 1, "f"), History(store), Team()).run()

    return run


def update(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: torch.Tensor) -> None:
    """One step of a bare loop."""
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def bare_ranking(task: Any, settings: Any) -> Callable[[], None]:
    """Return a call that makes the same updates of a head in a bare loop over arrays in memory."""
    rows, pois = task.data.rows, task.data.pois
    vectors = task.data.train.arrays["vectors"][np.arange(len(task.data.train.arrays["vectors"]))]
    texts = torch.from_numpy(task.data.texts[np.arange(len(task.data.texts))])
    images, labels = torch.from_numpy(vectors), torch.from_numpy(rows.label)
    a, b, text, poi = (torch.from_numpy(x) for x in (rows.image_a, rows.image_b, rows.text, rows.poi))
    pictures, names, index, count = (torch.from_numpy(x) for x in (pois.pictures, pois.names, pois.index, pois.count))

    def run() -> None:
        module = copy.deepcopy(task.module)
        task_mode(module)
        head = [p for n, p in module.named_parameters() if not n.startswith("align_model.")]
        optimizer = torch.optim.AdamW(head, 1e-3, weight_decay=0.05)
        order, size = torch.randperm(len(a)), settings.batch_size
        for step in range(settings.steps):
            at = order[torch.arange(step * size, (step + 1) * size) % len(order)]
            shown = index[poi[at]]
            rest = (texts[text[at]], pictures[shown], names[shown], count[poi[at]])
            both = module.score(images[torch.cat([a[at], b[at]])], *(torch.cat([x, x]) for x in rest))
            score_a, score_b = both.chunk(2)
            update(optimizer, head, F.binary_cross_entropy_with_logits(score_a - score_b, labels[at]))

    return run


def task_mode(module: nn.Module) -> None:
    """Train the head, keep towers frozen in eval mode."""
    module.train()
    module.get_submodule("align_model").eval().requires_grad_(False)


class Jpegs(TorchDataset):  # type: ignore[type-arg]
    """Decodes a JPEG each time that it is asked for."""

    def __init__(self, paths: list[str], image: np.ndarray, stored_px: int, size: int) -> None:
        self.paths, self.image, self.stored_px, self.size = paths, image, stored_px, size

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        picture = Image.open(io.BytesIO(Path(self.paths[self.image[row]]).read_bytes())).convert("RGB")
        pixels = np.asarray(picture.resize((self.stored_px, self.stored_px), Image.Resampling.BILINEAR))
        return augmented(pixels, self.size, True, np.random.default_rng()).copy(), row


def cached_batches(task: Any, settings: Any) -> Callable[[], Iterator[tuple[torch.Tensor, np.ndarray]]]:
    """Return an endless stream of random batches from the cached pixels in memory, cropped and mirrored."""
    data, rows = task.data.train, task.data.rows
    pixels = data.arrays["pixels"][np.arange(len(data.arrays["pixels"]))]
    size, rng = task.dual.image_spec.size, np.random.default_rng(0)

    def batches() -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        while True:
            order = rng.permutation(len(rows.row))
            for start in range(0, len(order) - settings.batch_size + 1, settings.batch_size):
                at = order[start : start + settings.batch_size]
                shown = np.stack([augmented(pixels[i], size, True, rng) for i in rows.image[at]])
                yield torch.from_numpy(shown), at

    return batches


def decoded_batches(
    task: Any, settings: Any, paths: list[str], workers: int
) -> Callable[[], Iterator[tuple[torch.Tensor, np.ndarray]]]:
    """Return the same from a DataLoader whose workers decode every image in every epoch."""
    size, stored = task.dual.image_spec.size, settings.cache_px(task.dual.image_spec.size)
    jpegs = Jpegs(paths, task.data.rows.image, stored, size)
    loader = DataLoader(
        jpegs, settings.batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )

    def batches() -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        while True:
            for pixels, rows in loader:
                yield pixels, rows.numpy()

    return batches


def bare_recall(
    task: Any, settings: Any, batches: Callable[[], Iterator[tuple[torch.Tensor, np.ndarray]]]
) -> Callable[[], None]:
    """Return a call that makes the same updates of a dual encoder in a bare loop; its texts are tokenised before."""
    rows = task.data.rows
    ids = task.dual.tokenize(task.data.train.readable(rows.row, "text"))
    items = torch.from_numpy(rows.item)
    stream = batches()
    next(stream)  # workers of a DataLoader have started

    def run() -> None:
        parameters = [p for p in task.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05)
        task.train_mode()
        for _ in range(settings.steps):
            pixels, at = next(stream)
            images = F.normalize(task.dual.images(task._normalise(pixels)), dim=-1)
            words, mask = padded([ids[i] for i in at.tolist()], task.dual.pad_id)
            texts = F.normalize(task.dual.texts(words, mask), dim=-1)
            scale = task._heads.log_scale.exp()
            update(optimizer, parameters, info_nce_losses(images, texts, scale, items[at]).mean())

    return run


def seconds(work: Callable[[], None]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
