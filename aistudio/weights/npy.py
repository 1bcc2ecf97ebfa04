"""Reading the published .npy dictionaries without trusting them: nothing in the file is executed.

They are 0-d object arrays, that is pickles. The unpickler below builds arrays, strings, numbers, lists, tuples and
dicts, and refuses a file that asks for anything else.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from aistudio.errors import WeightsError

MAX_BYTES = 4 << 30

# NumPy 1 wrote numpy.core, NumPy 2 writes numpy._core.
_ARRAY_NAMES = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
}


class _PlainUnpickler(pickle.Unpickler):
    """Resolves array building and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _plain_dtype
        if (module, name) in _ARRAY_NAMES:
            return {"_reconstruct": _reconstruct, "scalar": _scalar, "_frombuffer": _frombuffer}[name]
        if (module, name) == ("_codecs", "encode"):
            return _encode  # how protocol 2 writes bytes
        raise pickle.UnpicklingError(f"asks for {module}.{name}")


class _Dtype:
    """Stands in for a dtype while it is being built: takes the byte order, refuses objects and structures."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or np.dtype(code).kind not in "biufOU":
            raise pickle.UnpicklingError(f"asks for dtype {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order, structure = state[1], state[2:5]
        if any(part is not None for part in structure):
            raise pickle.UnpicklingError("asks for a structured dtype")
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


class _Array(np.ndarray):
    """An ndarray whose state may only be plain numbers, or a list of already checked objects."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("asks for an array of unknown type")
        if dtype.value.kind == "O" and not isinstance(content, list):
            raise pickle.UnpicklingError("asks for an object array that is not a list")
        super().__setstate__((version, shape, dtype.value, fortran, content))


def _plain_dtype(code: str, align: bool = False, copy: bool = False) -> _Dtype:
    return _Dtype(code)


def _reconstruct(cls: Any, shape: Any, code: Any) -> np.ndarray:
    if cls is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("asks for an array of unknown type")
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.value.kind not in "biuf" or not isinstance(data, bytes):
        raise pickle.UnpicklingError("asks for a NumPy scalar that is not a number")
    return np.frombuffer(data, dtype.value)[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or dtype.value.kind not in "biuf":
        raise pickle.UnpicklingError("asks for an array of unknown type")
    return np.frombuffer(data, dtype.value).reshape(shape, order=order)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("asks for text in another encoding")
    return text.encode("latin1")


def read_dict(path: str | Path) -> dict[str, Any]:
    """The dictionary in a .npy file: str -> array, list, tuple or number.

    Raises:
        WeightsError: missing, damaged, not a dictionary, or asking for more than plain data.
    """
    path = Path(path)
    try:
        loaded = _PlainUnpickler(io.BytesIO(_pickle_bytes(path))).load()
    except OSError as e:
        raise WeightsError(f"{path}: cannot be read: {e.strerror or e}") from None
    except pickle.UnpicklingError as e:
        raise WeightsError(
            f"{path}: refused: the file {e}; a POI table holds arrays, strings and numbers only"
        ) from None
    except (ValueError, EOFError, TypeError, AttributeError, KeyError, IndexError, MemoryError, OverflowError) as e:
        raise WeightsError(f"{path}: damaged, or not a .npy file of a dictionary: {e}") from None
    content = loaded.item() if isinstance(loaded, np.ndarray) and loaded.shape == () else loaded
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(f"{path}: holds {type(content).__name__}, expected a dictionary with names as keys")
    return content


def _pickle_bytes(path: Path) -> bytes:
    """The pickle behind the .npy header (or the whole file when there is none)."""
    with path.open("rb") as f:
        if f.read(6) != npy.MAGIC_PREFIX:
            raise ValueError("it does not begin as a .npy file")
        f.seek(0)
        version = npy.read_magic(f)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(f)
        if dtype != np.dtype("O") or shape != ():
            raise ValueError(f"it holds an array of {dtype}, shape {shape}")
        return f.read(MAX_BYTES)
