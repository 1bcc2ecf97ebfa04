"""AI Studio: distributed batch scoring of catalogue images, and what one does with the stored result.

    import aistudio

    run = aistudio.open_run("runs/autumn")
    for frame in run.rows(["item_id", "recall_score"], where={"status": "ok"}).pandas():
        ...

The names below are loaded when they are first used, so that importing the package costs nothing: docs/python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aistudio.api import Image, Rows, Run, VectorBatch, Vectors, open_run, score
    from aistudio.config import load_config
    from aistudio.errors import AIStudioError
    from aistudio.search.searcher import Found, Range, Result

    __version__: str

_HOME = {
    "AIStudioError": "aistudio.errors",
    "Found": "aistudio.search.searcher",
    "Image": "aistudio.api",
    "Range": "aistudio.search.searcher",
    "Result": "aistudio.search.searcher",
    "Rows": "aistudio.api",
    "Run": "aistudio.api",
    "VectorBatch": "aistudio.api",
    "Vectors": "aistudio.api",
    "load_config": "aistudio.config",
    "open_run": "aistudio.api",
    "score": "aistudio.api",
}
__all__ = [  # noqa: RUF022 - in the order in which one needs them
    "load_config", "score", "open_run", "Run", "Rows", "Vectors", "VectorBatch", "Image", "Found", "Result", "Range",
    "AIStudioError",
    "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from aistudio.version import version as current

        value: Any = current()
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'aistudio' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
