"""Exact search by inner product over embeddings that arrive in blocks: top-K, and ranks of the relevant ones.

There is never an N x Q matrix. A block of gallery rows is multiplied with all queries tile by tile; of each tile
only the entries that can still matter survive a threshold, and only these are looked at again.

**One answer, whatever the blocking.** A float32 matrix product gives other last bits for other block shapes, so it
serves as a sieve only: its entries are within `sgemm_error` of the true inner product, and everything within that
margin survives. Survivors get their score again as a float64 dot product of fixed order (of float32 inputs, so each
product is exact). Order is by that score, highest first, and then by id, lowest first; the ids are the rows'
positions in the manifest. So equal vectors tie exactly, and block size, partitioning, number of threads and device
change neither ids nor scores.

product.py (one tile), sieve.py (all tiles, thresholds), topk.py (the K best), ranks.py (ranks of given rows),
cosine.py (the K best of vectors at hand), int8.py (the K best for a few queries, from one byte a number). Leaves out:
reading files (pipeline/), approximate search, and what the ranks mean (metrics/retrieval.py).
"""

from aistudio.index.cosine import cosine_top, unit_rows
from aistudio.index.ranks import RankCounter
from aistudio.index.sieve import Sieve, checked, exact_scores, sgemm_error
from aistudio.index.topk import TopK

__all__ = ["RankCounter", "Sieve", "TopK", "checked", "cosine_top", "exact_scores", "sgemm_error", "unit_rows"]
