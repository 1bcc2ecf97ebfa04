"""Opening weights files safely: torch checkpoints and safetensors -> tensors that fit, or a WeightsError that says why.

Nothing in a file is executed: torch files are opened with `weights_only=True` and, beyond tensors, only plain NumPy
number scalars are let through. What a checkpoint may hold besides the model is listed here by name.
"""

import contextlib
import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from aistudio.errors import WeightsError

# Tensors that published files hold and inference has no use for: the knowledge-graph head of the training model, the
# temperature, BERT's unused pooler and position buffer, BatchNorm's step counters.
LEFTOVERS = re.compile(
    r"(align_model\.)?(relations_emb\.weight|linear_relation\.(weight|bias)|logit_scale"
    r"|text_model\.embeddings\.position_ids|text_model\.pooler\.dense\.(weight|bias))|(.+\.)?num_batches_tracked"
)
STATE_ENTRIES = ("state_dict", "model_state_dict", "Combiner")  # where published checkpoints keep their tensors
CHECKPOINT_ENTRIES = {"epoch", "min_loss", "it", "opt", "vocabulary", *STATE_ENTRIES}
SHOWN = 8  # names listed in a message before "and N more"


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU, memory-mapped where the format allows it. Arguments as `read_weights`."""
    return read_weights(path)[0]


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], list[str] | None]:
    """Tensors by name, and the word vocabulary that the file holds beside them (None: it holds none).

    Takes safetensors (vocabulary: JSON in the metadata), a torch file of a bare state dict, or one of
    {"epoch", "min_loss", "state_dict"} or {"it", "opt", "model_state_dict", "vocabulary"}.

    Raises:
        WeightsError: missing, truncated, not a weights file, or asking for code to be run.
    """
    path = Path(path)
    head = _first_bytes(path)
    if head[8:9] == b"{":
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                words = (file.metadata() or {}).get("vocabulary")
            return safetensors.torch.load_file(path), _words(words and json.loads(words), path)
        except (safetensors.SafetensorError, ValueError, KeyError, OSError, RecursionError) as e:
            raise WeightsError(f"{path}: damaged safetensors file: {e}; fetch it again") from None
    _refuse_text(path, head)
    loaded = _torch_load(path, mmap=head[:2] == b"PK")
    return _state_dict_of(loaded, path), _words(loaded.get("vocabulary"), path)


def _words(found: Any, path: Path) -> list[str] | None:
    """A file's own vocabulary. A bare state dict may have a tensor of that name: then it is none."""
    if found is None or isinstance(found, torch.Tensor):
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise WeightsError(f"{path}: its vocabulary is {type(found).__name__}, expected a list of words")
    return found


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(512)
    except OSError as e:
        raise WeightsError(f"{path}: cannot be read: {e.strerror or e}") from None


def _refuse_text(path: Path, head: bytes) -> None:
    if not head:
        raise WeightsError(f"{path}: the file is empty; fetch it again")
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        raise WeightsError(f"{path}: a web page saved as weights (begins with {head[:24]!r}); fetch the file itself")
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` or fetch the file")


def _torch_load(path: Path, mmap: bool) -> Any:
    try:
        with _plain_numpy_scalars():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as e:
        reason = _unpickling_reason(str(e))
        raise WeightsError(f"{path}: {reason}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        first = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise WeightsError(f"{path}: damaged or truncated, or not a weights file ({first}); fetch it again") from None


def _unpickling_reason(message: str) -> str:
    asked = re.search(r"GLOBAL (\S+)", message)
    if asked or re.search(r"Can only (create|build)|REDUCE|NumPy scalar", message):
        what = asked.group(1) if asked else "an object that is not a tensor"
        return f"refused: the file asks for {what}, which tensors do not need; opening it could run foreign code"
    return "not a weights file, or damaged; fetch it again"


@contextlib.contextmanager
def _plain_numpy_scalars() -> Iterator[None]:
    """Let through NumPy number scalars (a loss value, say), under the module names of NumPy 1 and 2, and the options
    of a training script, of which nothing is read."""
    kinds = [type(np.dtype(code)) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")]
    scalars = [(_plain_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([np.dtype, *kinds, *scalars, (_Options, "argparse.Namespace")]):
        yield


class _Options:
    """Stands in for an argparse.Namespace: takes its content and forgets it."""

    def __setstate__(self, state: Any) -> None:
        pass


def _plain_scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf" or not isinstance(data, bytes):
        raise pickle.UnpicklingError("NumPy scalar that is not a plain number")
    return np.frombuffer(data, dtype)[0]


def _state_dict_of(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    state = loaded
    entry = next((name for name in STATE_ENTRIES if isinstance(loaded, Mapping) and name in loaded), None)
    if entry is not None:
        unknown = sorted(map(str, set(loaded) - CHECKPOINT_ENTRIES))
        if unknown:
            raise WeightsError(f"{path}: unknown entries beside {entry}: {_listed(unknown)}")
        state = loaded[entry]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{path}: holds no state dict (name -> tensor), but {type(loaded).__name__}")
    return {str(name): tensor for name, tensor in state.items()}


def fit(
    state: Mapping[str, torch.Tensor], shapes: Mapping[str, torch.Size], path: str | Path
) -> dict[str, torch.Tensor]:
    """The tensors named in `shapes`, as they are in the file; leftovers dropped by name.

    Raises:
        WeightsError: lists every missing, unknown or mis-shaped tensor.
    """
    missing = [name for name in shapes if name not in state]
    unknown = [name for name in state if name not in shapes and not LEFTOVERS.fullmatch(name)]
    misfit = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in shapes.items()
        if name in state and state[name].shape != shape
    ]
    misfit += [f"{name} is {state[name].dtype}" for name in shapes if name in state and not _is_float(state[name])]
    problems = [
        f"{len(names)} tensors {what}: {_listed(names)}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of the wrong shape or type", misfit))
        if names
    ]
    if problems:
        raise WeightsError(f"{path}: not weights of this model\n  " + "\n  ".join(problems))
    return {name: state[name] for name in shapes}


def load_into(
    model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], names: Mapping[str, str], path: str | Path
) -> None:
    """Copy fitted tensors into `model` as float32; `names` maps the model's keys to the file's.

    Raises:
        WeightsError: a tensor holds NaN or infinity.
    """
    broken = [name for name in names.values() if not bool(torch.isfinite(tensors[name]).all())]
    if broken:
        raise WeightsError(f"{path}: not finite numbers in {_listed(broken)}; the file is damaged")
    state = model.state_dict()  # a dict of its own kind: it knows the versions of the model's parts
    state.update({key: tensors[name].float() for key, name in names.items()})
    model.load_state_dict(state, strict=True)


def save_weights(
    tensors: Mapping[str, torch.Tensor],
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    vocabulary: Sequence[str] | None = None,
) -> None:
    """Write tensors under their published names as safetensors of `dtype`; what `load_model` opens.

    `vocabulary`: the words whose ids are the rows of an embedding table, kept in the file's metadata.
    """
    ready = {name: tensor.detach().cpu().to(dtype).contiguous().clone() for name, tensor in tensors.items()}
    metadata = None if vocabulary is None else {"vocabulary": json.dumps(list(vocabulary))}
    safetensors.torch.save_file(ready, path, metadata=metadata)


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
