"""What a run's autoencoders make of its pictures: reconstructions, samples, walks, each dimension's KL.

The models are loaded from the confs that run.json names, on the CPU, without network; pictures are the stored
thumbnails. A model that is gone or another one now is said on the page. Leaves out: the page (reports/decoded.py).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aistudio.config import load_model_config
from aistudio.errors import AIStudioError, WeightsError
from aistudio.images.transform import resize
from aistudio.models import load_model
from aistudio.pipeline.report_rows import Scan, fetch
from aistudio.reports import decoded as page
from aistudio.reports.alike import crop_of
from aistudio.run_record import RunRecord
from aistudio.schema import crop_column
from aistudio.store import Store

if TYPE_CHECKING:
    from aistudio.models.vae import Vae

FAMILY = "vae"
LOOKED_AT = 256  # pictures by which a dimension is alive or dead
SAMPLES, WALKS, STEPS, SEED = 6, 3, 9, 0
ALIVE = 0.01  # variance of a dimension's mean over pictures, above which it says something
Put = Callable[[str, bytes], None]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Stored:
    """A stored picture with the fields of its row."""

    thumbnail: bytes
    fields: dict[str, Any]


def write_decoded(store: Store, run: RunRecord, scan: Scan, count: int, put: Put) -> dict[str, Any] | None:
    """Write the page's pictures; returns what its template needs, None where there is nothing to show.

    Args:
        count: pictures that are reconstructed; 0: no page.
    """
    roles = [role for role, facts in run.models.items() if facts.family == FAMILY and role.startswith("encoders.")]
    if not roles or not count:
        return None
    stored = _pictures(store, scan)
    if not stored:
        return None
    models, notes = [], []
    shown = [stored[i] for i in np.linspace(0, len(stored), min(count, len(stored)), endpoint=False).astype(int)]
    for role in roles:
        name = role.removeprefix("encoders.")
        try:
            models.append(_decoded(name, _loaded(run, role), stored, shown, put))
        except (AIStudioError, OSError) as e:
            notes.append(f"{name} cannot be decoded here: {e}")
    figures = [f for m in models if (f := page.kl_figure(m["name"], m["kl"])) is not None]
    return {"models": models, "notes": notes, "figures": figures, "steps": STEPS, "looked_at": len(stored)}


def _loaded(run: RunRecord, role: str) -> "Vae":
    """Load the model that the run was scored with. Raises WeightsError and ConfigError."""
    facts = run.models[role]
    if facts.conf is None:
        raise WeightsError("run.json does not say which conf it is")
    model = load_model(load_model_config(facts.conf))
    if model.fingerprint != facts.fingerprint:
        raise WeightsError(
            f"{facts.conf} is another model now (fingerprint {model.fingerprint}, the run's {facts.fingerprint})"
        )
    return cast("Vae", model)


def _pictures(store: Store, scan: Scan) -> list[_Stored]:
    """Pictures of ok rows, evenly spread over the run."""
    total = sum(scan.ok_rows)
    wanted = np.unique(np.linspace(0, total, min(total, LOOKED_AT), endpoint=False).astype(int))
    starts = np.cumsum([0, *scan.ok_rows])
    found = []
    for key, start, stop in zip(scan.files, starts, starts[1:], strict=False):
        inside = wanted[(wanted >= start) & (wanted < stop)] - start
        if not len(inside):
            continue
        ok = [i for i, s in enumerate(store.read_table(key, ["status"])["status"].to_pylist()) if s == "ok"]
        places = {(key, ok[i]) for i in inside.tolist() if i < len(ok)}
        found += [_Stored(thumb, fields) for _, fields, thumb in fetch(store, places) if thumb]
    return found


def _decoded(
    name: str, model: "Vae", stored: Sequence[_Stored], shown: Sequence[_Stored], put: Put
) -> dict[str, Any]:  # fmt: skip
    """Decode with one model and write its pictures."""
    whole = _pixels(stored, model, name)
    few = _pixels(shown, model, name)
    made = model.reconstruct(few)
    rng = np.random.default_rng(SEED)
    ends = [rng.choice(len(few), 2, replace=False) for _ in range(WALKS)] if len(few) > 1 else []
    walks = [model.walk(few[a], few[b], STEPS) for a, b in ends]
    mean = model.means(whole)
    difference = model.reconstruct(whole).astype(np.float64) / 255 - whole.astype(np.float64) / 255
    is_plain = model.beta == 0
    paths = {"originals": page.strip(few), "reconstructions": page.strip(made)}
    if not is_plain:  # there is no prior to draw from
        paths["samples"] = page.mosaic(model.samples(SAMPLES**2, SEED), SAMPLES)
    for i, walk in enumerate(walks):
        paths[f"walk-{i}"] = page.strip(walk)
    for part, data in paths.items():
        put(f"thumbs/decoded/{name}-{part}.png", data)
    return {
        "name": name, "plain": is_plain, "beta": model.beta, "dims": model.dim, "size": model.image_spec.size,
        "paths": {part: f"thumbs/decoded/{name}-{part}.png" for part in paths},
        "walks": [f"thumbs/decoded/{name}-walk-{i}.png" for i in range(len(walks))], "count": len(few),
        "squared_error": float(np.square(difference).mean()),
        "alive": int((mean.var(axis=0, dtype=np.float64) > ALIVE).sum()),
        "kl": None if is_plain else sorted(model.kl_by_dimension(whole), reverse=True),
        "items": [str(one.fields.get("item_id") or one.fields.get("row_id")) for one in shown],
    }  # fmt: skip


def _pixels(stored: Sequence[_Stored], model: "Vae", name: str) -> Pixels:
    """Thumbnails at the model's input size, cropped as the model's pictures were: (N, S, S, 3)."""
    out = []
    for one in stored:
        cut = crop_of(one.thumbnail, one.fields, crop_column(f"encoders.{name}")) or one.thumbnail
        with Image.open(io.BytesIO(cut)) as picture:
            out.append(resize(picture.convert("RGB"), model.image_spec))
    return np.stack(out)
