"""The composers, data sets, losses and metrics behind the functions that the shared check of composed retrieval calls.

    PYTHONPATH=tests python ../shared/composed/check.py composed_adapter --strict

Weights are written by the recipe to files of the published format and opened by `load_model`.
"""

import atexit
import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aistudio.catalogue import LocalFiles, read_gallery, read_pairs, read_queries, vocabulary_texts
from aistudio.config import ComposerLossSettings, ImageSpec, ImagesSettings, ManifestSettings, ModelConfig, WeightsFile
from aistudio.images.decode import decode
from aistudio.index import cosine_top
from aistudio.metrics import composed
from aistudio.models import load_model
from aistudio.models._words import Vocabulary, build_vocabulary
from aistudio.training.composer_losses import composer_losses, given_triplets
from aistudio.training.composer_model import open_trainable, word_tensors
from aistudio.training.composer_step import (
    ComposerBatch,
    ComposerRates,
    backward,
    composer_optimizer,
    encode_batch,
    gradient_norms,
    without_dropout,
)
from aistudio.training.pixels import Normalise

FAMILIES = {"tirg": "tirg", "composeae": "compose_ae", "realspace": "real_space_concat_ae"}
SPEC = ImageSpec(resize="torchvision_bilinear_center_crop")
_folder = tempfile.TemporaryDirectory(prefix="composed_")
atexit.register(_folder.cleanup)


def setup(*folders: str) -> None:
    """The reference's numbers were made by one thread; a training trace amplifies the last bit within a few steps."""
    torch.set_num_threads(1)


def settings(keys_json: str, composer: str, text_dim: int, words: list[str]) -> ModelConfig:
    """The recipe's weights as a checkpoint of the published format, its vocabulary beside it."""
    recipe: Any = importlib.import_module("recipe")  # check.py has its folder on the path
    folder = Path(tempfile.mkdtemp(dir=_folder.name))
    state = recipe.make_state_dict(keys_json, len(words))
    torch.save({"it": 0, "model_state_dict": state}, folder / "latest_checkpoint.pth")
    (folder / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return ModelConfig(
        family=FAMILIES[composer],
        name=composer,
        weights=WeightsFile(path=str(folder / "latest_checkpoint.pth")),
        extra_files={"vocabulary": WeightsFile(path=str(folder / "words.txt"))},
        image=SPEC,
        arch={"text_dim": text_dim},
    )


def load(keys_json: str, composer: str, text_dim: int, words: list[str]) -> Any:
    cfg = settings(keys_json, composer, text_dim, words)
    model = load_model(cfg)
    model.settings = cfg
    return model


def pixels(paths: list[str]) -> np.ndarray:
    found = [decode(Path(path).read_bytes(), [SPEC], ImagesSettings(thumbnail_px=0)) for path in paths]
    return np.stack([image.pixels[0] for image in found])


def encode_images(model: Any, paths: list[str]) -> np.ndarray:
    return model.encode_images(pixels(paths))


def encode_texts(model: Any, texts: list[str]) -> np.ndarray:
    return model.text_vectors(texts)


def compose(model: Any, paths: list[str], texts: list[str] | None, given: np.ndarray | None) -> dict[str, Any]:
    z = encode_images(model, paths)
    q = model.text_vectors(texts) if given is None else given
    vectors = model.compose(z, texts) if texts is not None else model.compose_vectors(z, q)
    _, image, text = model.mix(z, q)
    return {"composed": vectors} | ({} if image is None else {"image_decoded": image, "text_decoded": text})


def compose_conjugate(model: Any, paths: list[str], given: np.ndarray) -> Any:
    return model.mix(encode_images(model, paths), given, conjugate=True).vectors


def tokenize(words: list[str], texts: list[str]) -> list[list[int]]:
    return Vocabulary(words, "case").tokenize(texts)


def preprocess(paths: list[str]) -> Any:
    return Normalise(SPEC, torch.device("cpu"))(torch.from_numpy(pixels(paths)))


def vocabulary(dataset: str, root: str, variant: Any) -> list[str]:
    return build_vocabulary(vocabulary_texts(read_pairs(LocalFiles(root), manifest(dataset, root)), variant))


def manifest(dataset: Any, root: str, split: Any = None, category: str | None = None) -> ManifestSettings:
    categories = None if category in (None, "all") else [category]
    return ManifestSettings(path=root, format=dataset, split=split, categories=categories)


def query_rows(dataset: str, root: str, split: Any, category: str | None) -> list[dict[str, Any]]:
    return read_queries(LocalFiles(root), manifest(dataset, root, split, category)).table.to_pylist()


def queries(dataset: str, root: str, split: str, category: str | None) -> list[dict[str, Any]]:
    rows = query_rows(dataset, root, split, category)
    return [row | {"source": row["row_id"], "target": row["relevant"][0]} for row in rows]


def gallery_rows(dataset: str, root: str, split: Any, category: str | None) -> list[dict[str, Any]]:
    batches = read_gallery(LocalFiles(root), manifest(dataset, root, split, category))
    return [row for batch in batches for row in batch.candidates.to_pylist()]


def gallery(root: str, split: str, category: str) -> list[str]:
    return [row["row_id"] for row in gallery_rows("fashioniq", root, split, category)]


def training_pairs(dataset: str, root: str) -> dict[str, list[tuple[str, str]]]:
    pairs: Any = read_pairs(LocalFiles(root), manifest(dataset, root))
    found = {picture.row_id: pairs.targets(i) for i, picture in enumerate(pairs.pictures)}
    return {source: targets for source, targets in found.items() if targets}


KS = (1, 5, 10, 50, 100)


def recall_by_caption(
    query_vectors: Any, gallery_vectors: Any, source_index: Any, targets: Any, captions: Any, ks: Any
) -> Any:
    _, ranked = cosine_top(query_vectors, gallery_vectors, max(ks) + 1)
    ranked = composed.without_rows(ranked, np.asarray(source_index))
    return composed.by_caption(ranked, captions, targets, ks)["composition"]


def recall_by_id(query_vectors: Any, gallery_vectors: Any, ids: Any, targets: Any, categories: Any, ks: Any) -> Any:
    _, ranked = cosine_top(query_vectors, gallery_vectors, composed.rows_needed(ids, ks))
    return composed.by_id(ranked, ids, targets, categories, ks)


def evaluate(model: Any, dataset: str, root: str, complete_text: bool, category: str | None) -> dict[str, float]:
    shown, asked = (read(dataset, root, None, category) for read in (gallery_rows, query_rows))
    vectors = encode_images(model, [row["image_url"] for row in shown])
    place = {row["row_id"]: i for i, row in enumerate(shown)}
    source = np.array([place[q["row_id"]] for q in asked])
    texts = [q["complete_text"] if complete_text and q["complete_text"] else q["text"] for q in asked]
    found = model.compose(vectors[source], texts)
    if dataset == "fashioniq":
        ids, targets = [row["row_id"] for row in shown], [q["relevant"][0] for q in asked]
        return composed.reference_names(recall_by_id(found, vectors, ids, targets, [q["category"] for q in asked], KS))
    _, ranked = cosine_top(found, vectors, max(KS) + 1)
    captions, targets = [row["caption"] for row in shown], [q["target_caption"] for q in asked]
    return composed.reference_names(composed.by_caption(composed.without_rows(ranked, source), captions, targets, KS))


def evaluate_sample(model: Any, root: str, items: list[dict[str, Any]], complete_text: bool) -> dict[str, float]:
    vectors = encode_images(model, [f"{root}/{item['target']}" for item in items])
    sources = encode_images(model, [f"{root}/{item['source']}" for item in items])
    found = model.compose(sources, [item["complete_text" if complete_text else "text"] for item in items])
    captions = [item["target_caption"] for item in items]
    _, ranked = cosine_top(found, vectors, max(KS))
    return composed.reference_names(composed.by_caption(ranked, captions, captions, KS))


def batch_tensors(opened: Any, batch: dict[str, Any], given: Any) -> ComposerBatch:
    images = [preprocess(batch[side]).contiguous() for side in ("source", "target")]
    texts = word_tensors(opened.vocabulary, batch["texts"]) if given is None else (torch.from_numpy(given),)
    return ComposerBatch(*images, *texts)


def drawn(triplets: Any) -> Any:
    return given_triplets(**triplets) if triplets else None


def losses(model: Any, batch: dict[str, Any], loss: Any, triplets: Any, given: Any) -> dict[str, Any]:
    opened = open_trainable(model.settings)
    trained = opened.model()
    vectors = encode_batch(trained, batch_tensors(opened, batch, given))
    return composer_losses(trained, vectors, ComposerLossSettings(base=loss), drawn(triplets))


def train(model: Any, batch: dict[str, Any], loss: Any, steps: list[dict[str, Any]], given: Any) -> list[Any]:
    opened = open_trainable(model.settings)
    trained = opened.model().train()
    without_dropout(trained)
    optimizer, schedule = composer_optimizer(trained, ComposerRates(weight_decay=5e-5, decay_every=2))
    tensors = batch_tensors(opened, batch, given)
    trace = []
    for step in steps:
        before = {"a": trained.a.detach().clone(), "norm_s": trained.normalization_layer.norm_s.detach().clone()}
        found = backward(trained, tensors, optimizer, ComposerLossSettings(base=loss), drawn(step["triplets"]))
        trace.append({"losses": found, "grad_norm": gradient_norms(optimizer), **before})
        optimizer.step()
        schedule.step()
    return trace
