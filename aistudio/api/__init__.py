"""The public Python interface: `import aistudio` offers what is here. It calls what the jobs call."""

from aistudio.api._images import Image
from aistudio.api._run import Run, open_run
from aistudio.api._score import score
from aistudio.api._vectors import VectorBatch, Vectors
from aistudio.search.rows import Rows

__all__ = ["Image", "Rows", "Run", "VectorBatch", "Vectors", "open_run", "score"]
