"""The best gallery rows of each query by cosine, for vectors that are at hand in memory.

Vectors of any length: composers give them as they are. Leaves out: galleries that stream by (topk.py).
"""

import numpy as np

from aistudio.index.product import Floats, Ints
from aistudio.index.topk import TopK


def cosine_top(queries_QD: Floats, gallery_ND: Floats, k: int) -> tuple[Floats, Ints]:
    """Cosines (Q,K) float64 and gallery rows (Q,K) int64, best first, K = min(k, N); equal ones by row.

    A query that is not finite finds nothing (-inf, -1), a gallery row that is not finite is never found; a row of zeros
    has cosine 0 to everything.
    """
    usable_Q, usable_N = (np.isfinite(rows).all(axis=1) for rows in (queries_QD, gallery_ND))
    shape = (len(queries_QD), min(k, len(gallery_ND)))
    scores, rows = np.full(shape, -np.inf), np.full(shape, -1, dtype=np.int64)
    kept = np.flatnonzero(usable_N)
    if usable_Q.any() and len(kept) and shape[1]:
        best = TopK(shape[1], unit_rows(queries_QD[usable_Q]))
        best.update(unit_rows(gallery_ND[kept]), kept)
        scores[usable_Q], rows[usable_Q] = best.result()
    return scores, rows


def unit_rows(vectors_ND: Floats) -> Floats:
    """Rows of length one, float32, computed in float64; a row of zeros stays as it is."""
    vectors = np.asarray(vectors_ND, dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)
