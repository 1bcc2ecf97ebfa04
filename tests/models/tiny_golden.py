"""A small golden case that runs everywhere: tiny towers, weights from their names, and a forward of its own.

Nothing here uses aistudio.models: key names and shapes follow from the sizes below by the published naming rules,
padding from the formula, BERT and the head are written out. `python tests/models/tiny_golden.py` writes the expected
numbers to data/tiny_golden.json; they are computed in float64.
"""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

EXPECTED = Path(__file__).parent / "data" / "tiny_golden.json"
STAGES = [[1, 3, 1, 8, 8, 1], [4, 3, 2, 8, 16, 2], [4, 5, 2, 16, 24, 2], [4, 3, 2, 24, 32, 1]]
SIZE, STATIC_SIZE = 40, 60  # static padding belongs to another size than the one fed, as in the published models
HIDDEN, LAYERS, HEADS, INTERMEDIATE, MAX_TOKENS, POSITIONS = 16, 2, 2, 24, 8, 12
DIM, FEATURES, ATTENTION, HEAD_HIDDEN = 12, 20, (10, 4), 6
LETTERS = "海边日落山城古寺湖,a"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

TEXTS = ["海边", "山城的日落", "", "古寺湖海边日落山城古寺湖", "A"]
POI_COUNTS = {"海": (1, 0, 0), "山城": (0, 1, 0), "湖": (0, 0, 2), "古寺": (3, 0, 0), "日落": (4, 1, 1), "a": (9, 9, 9)}
POIS_WITH_PICTURES = ["山城", "湖", "日落", " 海边"]
POIS_WITH_NAMES = ["山城", "古寺", "海边"]
RANK_CASES = [
    ("海边", ""),
    ("海边", "海"),
    ("海边", "湖,山城"),
    ("海边", " 海边,日落,日落,不知,古寺,湖,山城 "),
    ("山城", "a, 海边,,"),
    ("日落", "  "),
]

ARCH: dict[str, Any] = {
    "dim": DIM,
    "image": {"width_mult": 1.0, "depth_mult": 1.0, "stages": STAGES, "dim": FEATURES, "static_size": STATIC_SIZE},
    "text": {
        "hidden": HIDDEN,
        "layers": LAYERS,
        "heads": HEADS,
        "intermediate": INTERMEDIATE,
        "vocab_size": len(VOCABULARY),
        "max_tokens": MAX_TOKENS,
        "max_positions": POSITIONS,
    },
}
RANKING_ARCH = ARCH | {"attention": list(ATTENTION), "hidden": HEAD_HIDDEN}

State = dict[str, torch.Tensor]


def blocks() -> list[tuple[int, int, int, int, int]]:
    """(expand, kernel, stride, in, out) of every block."""
    out = []
    for expand, kernel, stride, inner, outer, repeats in STAGES:
        for i in range(repeats):
            out.append((expand, kernel, stride if i == 0 else 1, inner if i == 0 else outer, outer))
    return out


def shapes() -> dict[str, tuple[int, ...]]:
    """Key -> shape of the recall model, in published names."""
    s: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        s.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})

    def linear(name: str, inner: int, outer: int) -> None:
        s.update({f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)})

    s["image_model._conv_stem.weight"] = (STAGES[0][3], 3, 3, 3)
    norm("image_model._bn0", STAGES[0][3])
    for i, (expand, kernel, _, inner, outer) in enumerate(blocks()):
        at, wide, squeezed = f"image_model._blocks.{i}", inner * expand, max(1, inner // 4)
        if expand != 1:
            s[f"{at}._expand_conv.weight"] = (wide, inner, 1, 1)
            norm(f"{at}._bn0", wide)
        s[f"{at}._depthwise_conv.weight"] = (wide, 1, kernel, kernel)
        norm(f"{at}._bn1", wide)
        s |= {f"{at}._se_reduce.weight": (squeezed, wide, 1, 1), f"{at}._se_reduce.bias": (squeezed,)}
        s |= {f"{at}._se_expand.weight": (wide, squeezed, 1, 1), f"{at}._se_expand.bias": (wide,)}
        s[f"{at}._project_conv.weight"] = (outer, wide, 1, 1)
        norm(f"{at}._bn2", outer)
    last = STAGES[-1][4]
    s["image_model._conv_head.weight"] = (4 * last, last, 1, 1)
    norm("image_model._bn1", 4 * last)
    linear("image_model._fc", 4 * last, FEATURES)
    for name, rows in (("word", len(VOCABULARY)), ("position", POSITIONS), ("token_type", 2)):
        s[f"text_model.embeddings.{name}_embeddings.weight"] = (rows, HIDDEN)
    s |= {f"text_model.embeddings.LayerNorm.{part}": (HIDDEN,) for part in ("weight", "bias")}
    for layer in range(LAYERS):
        at = f"text_model.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{at}.attention.{part}", HIDDEN, HIDDEN)
        linear(f"{at}.intermediate.dense", HIDDEN, INTERMEDIATE)
        linear(f"{at}.output.dense", INTERMEDIATE, HIDDEN)
        for part in ("attention.output", "output"):
            s |= {f"{at}.{part}.LayerNorm.{kind}": (HIDDEN,) for kind in ("weight", "bias")}
    linear("image_hidden_layer", FEATURES, DIM)
    linear("text_hidden_layer", HIDDEN, DIM)
    return s


def ranking_shapes() -> dict[str, tuple[int, ...]]:
    s = {f"align_model.{name}": shape for name, shape in shapes().items()}
    unit = "attention_layer.local_att"
    layers = {"linear1": (2 * DIM, DIM), "linear3": (3 * DIM, DIM), "linear4": (DIM, HEAD_HIDDEN)}
    layers |= {"linear2": (HEAD_HIDDEN, 1), f"{unit}.fc1.fc.0": (4 * DIM, ATTENTION[0])}
    layers |= {f"{unit}.fc1.fc.3": ATTENTION, f"{unit}.fc2.fc.0": (ATTENTION[1], 1)}
    for name, (inner, outer) in layers.items():
        s |= {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}
    return s | {
        f"{unit}.fc1.fc.1.bn.{part}": (ATTENTION[0],) for part in ("weight", "bias", "running_mean", "running_var")
    }


def weights(names: dict[str, tuple[int, ...]]) -> State:
    """float32 tensors that depend on nothing but name and shape."""
    return {name: _tensor(name, shape) for name, shape in names.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    u = np.random.default_rng(zlib.crc32(name.encode())).random(shape) - 0.5
    if name.endswith("running_var"):
        u = 1.0 + u
    elif len(shape) == 1:
        u = 0.4 * u + (name.endswith("weight") and 1.0)
    else:
        u = u * math.sqrt(12 / np.prod(shape[1:])) * (1.0 if "embeddings" not in name else 0.3)
    return torch.from_numpy(u.astype(np.float32))


def vector(key: str) -> np.ndarray:
    """A POI's vector, (DIM,) float32."""
    return (np.random.default_rng(zlib.crc32(key.encode())).random(DIM) - 0.5).astype(np.float32)


def pixels() -> np.ndarray:
    """Three (SIZE,SIZE,3) uint8 images: noise, a ramp, black."""
    noise = np.random.default_rng(7).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[:, None, None] * 6, (SIZE, SIZE, 3)).copy()
    return np.stack([noise, ramp, np.zeros_like(noise)])


def encode_images(w: State, images: np.ndarray) -> torch.Tensor:
    w = {name.removeprefix("align_model."): t.double() for name, t in w.items()}
    x = torch.from_numpy((images.astype(np.float64) / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    size = STATIC_SIZE

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, gain, bias = (
            w[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * gain + bias

    def spatial(x: torch.Tensor, name: str, stride: int, groups: int) -> torch.Tensor:
        nonlocal size
        kernel, out = w[name].shape[-1], -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        before = total // 2
        size = out
        return F.conv2d(F.pad(x, (before, total - before) * 2), w[name], stride=stride, groups=groups)

    x = F.silu(norm(spatial(x, "image_model._conv_stem.weight", 2, 1), "image_model._bn0"))
    for i, (expand, _, stride, inner, outer) in enumerate(blocks()):
        at, before = f"image_model._blocks.{i}", x
        if expand != 1:
            x = F.silu(norm(F.conv2d(x, w[f"{at}._expand_conv.weight"]), f"{at}._bn0"))
        x = F.silu(norm(spatial(x, f"{at}._depthwise_conv.weight", stride, inner * expand), f"{at}._bn1"))
        gate = x.mean((2, 3), keepdim=True)
        gate = F.silu(F.conv2d(gate, w[f"{at}._se_reduce.weight"], w[f"{at}._se_reduce.bias"]))
        x = x * torch.sigmoid(F.conv2d(gate, w[f"{at}._se_expand.weight"], w[f"{at}._se_expand.bias"]))
        x = norm(F.conv2d(x, w[f"{at}._project_conv.weight"]), f"{at}._bn2")
        if stride == 1 and inner == outer:
            x = x + before
    x = F.silu(norm(F.conv2d(x, w["image_model._conv_head.weight"]), "image_model._bn1")).mean((2, 3))
    x = x @ w["image_model._fc.weight"].T + w["image_model._fc.bias"]
    x = x @ w["image_hidden_layer.weight"].T + w["image_hidden_layer.bias"]
    return x / x.norm(dim=-1, keepdim=True)


def token_ids(text: str) -> list[int]:
    """Every letter of LETTERS is a token, a run of others is [UNK]... which in these texts is one letter at a time."""
    known = {word: i for i, word in enumerate(VOCABULARY)}
    ids = [known.get(letter, known["[UNK]"]) for letter in text.lower() if letter.strip()]
    return [known["[CLS]"], *ids[: MAX_TOKENS - 2], known["[SEP]"]]


def encode_text(w: State, text: str) -> torch.Tensor:
    w = {name.removeprefix("align_model."): t.double() for name, t in w.items()}

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    ids = token_ids(text)
    at = "text_model.embeddings"
    x = w[f"{at}.word_embeddings.weight"][ids] + w[f"{at}.position_embeddings.weight"][: len(ids)]
    x = norm(x + w[f"{at}.token_type_embeddings.weight"][0], f"{at}.LayerNorm")
    for layer in range(LAYERS):
        at = f"text_model.encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").view(len(ids), HEADS, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        mixed = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(HIDDEN // HEADS), -1) @ v
        mixed = linear(mixed.transpose(0, 1).reshape(len(ids), HIDDEN), f"{at}.attention.output.dense")
        x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    x = linear(x[0], "text_hidden_layer")
    return x / x.norm()


def rank(w: State, image: torch.Tensor, title: str, poi_names: str) -> float:
    w64 = {name: t.double() for name, t in w.items()}
    unit = "attention_layer.local_att"

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w64[f"{name}.weight"].T + w64[f"{name}.bias"]

    poi_names = poi_names.rstrip()
    text = encode_text(w, poi_names if poi_names.strip() else title)
    pois: list[str] = []
    if len(poi_names.strip()) > 1:
        pois = poi_names.split(",")
        counts = [POI_COUNTS.get(poi.strip(), (0, 0, 0)) for poi in pois]
        order = sorted(range(len(pois)), key=lambda i: -(counts[i][0] + 5 * counts[i][1] + 3 * counts[i][2]))
        pois = [pois[i] for i in order][:5]
    attended = torch.zeros(DIM, dtype=torch.float64)
    for poi in pois:
        picture = vector("picture" + poi) if poi in POIS_WITH_PICTURES else np.zeros(DIM)
        name = vector("name" + poi) if poi in POIS_WITH_NAMES else np.zeros(DIM)
        key = linear(torch.from_numpy(np.concatenate([picture, name]).astype(np.float64)), "linear1")
        hidden = linear(torch.cat([image, key, image - key, image * key]), f"{unit}.fc1.fc.0")
        mean, var, gain, bias = (
            w64[f"{unit}.fc1.fc.1.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        hidden = hidden * torch.sigmoid((hidden - mean) / torch.sqrt(var + 1e-9) * gain + bias)
        attended = attended + linear(linear(hidden, f"{unit}.fc1.fc.3"), f"{unit}.fc2.fc.0") * key
    hidden = torch.relu(linear(torch.cat([image, text, attended]), "linear3"))
    return float(linear(torch.relu(linear(hidden, "linear4")), "linear2"))


def expected() -> dict[str, Any]:
    recall, ranking = weights(shapes()), weights(ranking_shapes())
    images = encode_images(ranking, pixels())
    return {
        "images": encode_images(recall, pixels()).tolist(),
        "texts": [encode_text(recall, text).tolist() for text in TEXTS],
        "token_ids": [token_ids(text) for text in TEXTS],
        "rank": [[rank(ranking, image, title, pois) for title, pois in RANK_CASES] for image in images],
    }


if __name__ == "__main__":
    EXPECTED.parent.mkdir(exist_ok=True)
    EXPECTED.write_text(json.dumps(expected(), indent=1) + "\n", encoding="utf-8")
