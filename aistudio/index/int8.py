"""The K best rows of a few queries from vectors held in memory as one byte a number: a quick sieve, an exact decision.

A row x is held as codes c, whole numbers in -127 .. 127, and a step s, with its error r >= |x - s c|; a query q as
whole numbers of 15 bits and its own error. Products of codes are summed in whole numbers, so without rounding, and by
Cauchy and Schwarz the sieve's score is within |q'| r + |q - q'| |x| of the true inner product (q' is the query as it is
held). Every row whose upper bound reaches the K-th best lower bound gets its true score, in float64 from its exact
float32 numbers by `exact_scores`. So scores, ids and order are those of topk.py, bit for bit.

Leaves out: reading files, and what a row means (search/).
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.index.int8_product import EXACT_WIDTH, quickest
from aistudio.index.product import Floats, Ints
from aistudio.index.sieve import exact_scores

TILE_ROWS = 65_536  # rows of a product: with 16 queries 4 MiB of scores
FOLD = 64  # rows looked at together
ALIGNED = 16  # codes of a row are padded to a multiple: narrower products are slow, and of width 1 torch's are wrong
MOST_CODE, QUERY_CODE = 127, 127 * 128 + 63
FEW_ROWS = 2_048  # so few eligible rows get their true scores at once
BATCH = 256  # true scores at once
MASKED = -3.0e38
TINY = np.float32(1e-30)  # smallest step: of rows that are as good as zero

Bytes = NDArray[np.int8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Int8Rows:
    """N rows as codes (N, P) int8, P >= D a multiple of 16, with steps and errors (N,) float32."""

    codes_NP: Bytes
    step_N: NDArray[np.float32]
    error_N: NDArray[np.float32]

    @property
    def num_bytes(self) -> int:
        """Return the bytes that they take in memory."""
        return self.codes_NP.nbytes + self.step_N.nbytes + self.error_N.nbytes


def padded(dim: int) -> int:
    """Return how many codes a row of `dim` numbers has."""
    return -(-max(dim, 2) // ALIGNED) * ALIGNED


def quantised(rows_ND: Floats) -> Int8Rows:
    """Return rows of finite numbers as codes; a row of zeros has codes 0."""
    rows = np.asarray(rows_ND, np.float32)
    step_N = np.abs(rows).max(axis=1, initial=0) / np.float32(MOST_CODE)
    step_N[step_N < TINY] = TINY
    codes = np.rint(rows / step_N[:, None])
    np.clip(codes, -MOST_CODE, MOST_CODE, out=codes)
    out = np.zeros((len(rows), padded(rows.shape[1])), np.int8)
    out[:, : rows.shape[1]] = codes
    codes *= step_N[:, None]
    np.subtract(rows, codes, out=codes)
    # float32: each number of the difference is off by at most 2**-23 of the row's, the norm's sum by D * 2**-24
    norm_N, length_N = (np.sqrt(np.vecdot(part, part)) for part in (codes, rows))
    error_N = norm_N * np.float32(1 + 2.0**-20 * (rows.shape[1] + 16)) + length_N * np.float32(2.0**-22) + TINY
    return Int8Rows(out, step_N, error_N)


@dataclass(frozen=True)
class Wanted:
    """What one query vector asks of the rows.

    vector_D: float32. k: rows wanted. mask_N: eligible rows, None: all. skip: further rows that are not eligible.
    """

    vector_D: NDArray[np.float32]
    k: int
    mask_N: Mask | None = None
    skip: Ints | None = None


class Int8Sieve:
    """Searches rows in memory. Several threads may ask; their products run one after the other."""

    def __init__(self, held: Int8Rows, rows_ND: Floats) -> None:
        """`rows_ND`: the exact float32 rows, which may be memory-mapped; only candidates of them are read."""
        import torch  # NumPy has no product of bytes

        self._torch = torch
        self._rows_ND = rows_ND
        self._num, self._width = held.codes_NP.shape
        self._step, self._error = torch.from_numpy(held.step_N), torch.from_numpy(held.error_N)
        starts = range(0, self._num, TILE_ROWS)
        self._tile_error = [float(held.error_N[i : i + TILE_ROWS].max()) for i in starts]
        self._longest = _longest_row(held)
        prepare = quickest(torch, self._width)
        self._products = [prepare(torch.from_numpy(held.codes_NP[i : i + TILE_ROWS])) for i in starts]
        num = max(1, min(torch.get_num_threads(), len(self._tile_error)))
        cuts = [len(self._tile_error) * i // num for i in range(num + 1)]
        self._parts = [range(a, b) for a, b in pairwise(cuts)]
        self._pool = _single_threads(torch, num)

    def top(self, wanted: Sequence[Wanted]) -> list[tuple[Floats, Ints]]:
        """Return scores (k,) float64 and row numbers (k,) of each, best first; -inf and -1 beyond the eligible rows."""
        out: list[tuple[Floats, Ints] | None] = [self._few(one) for one in wanted]
        rest = [i for i, found in enumerate(out) if found is None]
        for start in range(0, len(rest), 16):
            part = rest[start : start + 16]
            candidates = self._sieve([wanted[i] for i in part])
            for i, (rows, upper) in zip(part, candidates, strict=True):
                out[i] = self._decide(wanted[i], rows, upper)
        return [found for found in out if found is not None]

    def above(self, wanted: Wanted, ceiling: float) -> Ints:
        """Return the eligible rows whose true score is above `ceiling`, ascending; `wanted.k` says nothing here."""
        query = _Query(wanted.vector_D, self._width, self._longest)
        found = []
        for number, start in enumerate(range(0, self._num, TILE_ROWS)):
            scores = self._scores([query], [wanted], start)
            bound = query.length * self._tile_error[number] + query.slack
            rows = self._torch.nonzero(scores[0] + bound > ceiling)[:, 0].numpy() + start
            if len(rows):
                found.append(rows)
        rows = np.concatenate([np.empty(0, np.int64), *found])
        return rows[self._exact(wanted.vector_D, rows) > ceiling]

    def _few(self, one: Wanted) -> tuple[Floats, Ints] | None:
        """Decide at once where few rows are eligible."""
        if not self._num:
            return np.full(one.k, -np.inf), np.full(one.k, -1, np.int64)
        if one.mask_N is None or np.count_nonzero(one.mask_N) > FEW_ROWS:
            return None
        rows = np.flatnonzero(one.mask_N)
        if one.skip is not None:
            rows = rows[~np.isin(rows, one.skip)]
        return self._best(one.k, rows, self._exact(one.vector_D, rows))

    def _sieve(self, wanted: Sequence[Wanted]) -> list[tuple[Ints, Floats]]:
        """For each query the rows that can be among its k best, with upper bounds of their scores."""
        queries = [_Query(one.vector_D, self._width, self._longest) for one in wanted]
        parts = list(self._pool.map(lambda tiles: self._sieve_tiles(queries, wanted, tiles), self._parts))
        k = max(one.k for one in wanted)
        lowest_SK = self._torch.cat([lowest for _, lowest in parts], 1).topk(k)[0][:, -1].numpy()
        return [
            _at_least([pair for found, _ in parts for pair in found[s]], float(lowest_SK[s]))
            for s in range(len(wanted))
        ]

    def _sieve_tiles(
        self, queries: "Sequence[_Query]", wanted: Sequence[Wanted], tiles: range
    ) -> tuple[list[list[tuple[Ints, Floats]]], Any]:
        """One thread's tiles: candidates of each query, and the (S, k) best lower bounds that it saw."""
        torch, num, k = self._torch, len(wanted), max(one.k for one in wanted)
        length_S = torch.tensor([q.length for q in queries])[:, None]
        slack_S = torch.tensor([q.slack for q in queries])[:, None]
        lowest_SK = torch.full((num, k), MASKED)
        found: list[list[tuple[Ints, Floats]]] = [[] for _ in wanted]
        for number in tiles:
            start = number * TILE_ROWS
            scores_SN = self._scores(queries, wanted, start)
            largest_SF = scores_SN.view(num, -1, FOLD).amax(2)
            bound_S = length_S * self._tile_error[number] + slack_S
            few = largest_SF.shape[1] < 2 * k  # folds: then their maxima say too little
            best = scores_SN.topk(min(k, scores_SN.shape[1]))[0] if few else largest_SF.topk(k)[0]
            lowest_SK = torch.cat([lowest_SK, (best - bound_S).clamp_(min=MASKED)], 1).topk(k)[0]
            folds = torch.nonzero(largest_SF + bound_S >= lowest_SK[:, -1:].clamp(min=MASKED / 2))
            sub, row = folds[:, 0].repeat_interleave(FOLD), (folds[:, 1:] * FOLD + torch.arange(FOLD)).reshape(-1)
            score = scores_SN[sub, row]
            kept = (score + bound_S[sub, 0] >= lowest_SK[sub, -1]) & (score > MASKED / 2)
            sub, row, score = sub[kept], row[kept], score[kept]
            upper = score + length_S[sub, 0] * self._error[row + start] + slack_S[sub, 0]
            for s in range(num):
                own = sub == s
                found[s].append((row[own].numpy() + start, upper[own].numpy()))
        return found, lowest_SK

    def _scores(self, queries: "Sequence[_Query]", wanted: Sequence[Wanted], start: int) -> Any:
        """The sieve's scores of a tile, (S, n) float32, n padded to whole folds; very low where not eligible."""
        torch, num, n = self._torch, len(queries), min(TILE_ROWS, self._num - start)
        both = torch.from_numpy(np.concatenate([[q.high_P for q in queries], [q.low_P for q in queries]]))
        whole = self._products[start // TILE_ROWS](both)
        scores = torch.full((num, -(-n // FOLD) * FOLD), MASKED)
        real = scores[:, :n]
        if self._width <= EXACT_WIDTH:  # 128 times as much fits 32 bits
            torch.mul(whole[num:].add_(whole[:num], alpha=128), self._step[start : start + n], out=real)
        else:
            real.copy_(whole[:num]).mul_(128).add_(whole[num:]).mul_(self._step[start : start + n])
        real.mul_(torch.tensor([q.step for q in queries])[:, None])
        for s, one in enumerate(wanted):
            if one.mask_N is not None:
                real[s].masked_fill_(torch.from_numpy(~one.mask_N[start : start + n]), MASKED)
            if one.skip is not None:
                own = one.skip[(one.skip >= start) & (one.skip < start + n)] - start
                real[s, torch.from_numpy(own)] = MASKED
        return scores

    def _decide(self, one: Wanted, rows: Ints, upper: Floats) -> tuple[Floats, Ints]:
        """True scores, highest bounds first, until no other row can be among the k best."""
        order = np.argsort(-upper, kind="stable")
        done, scores = 0, np.empty(0)
        while done < len(order):
            step = order[done : done + max(BATCH, one.k)]
            if done >= one.k and upper[step[0]] < np.partition(scores, len(scores) - one.k)[len(scores) - one.k]:
                break
            scores = np.concatenate([scores, self._exact(one.vector_D, rows[step])])
            done += len(step)
        return self._best(one.k, rows[order[:done]], scores)

    def _exact(self, vector_D: NDArray[np.float32], rows: Ints) -> Floats:
        return exact_scores(vector_D[None], self._rows_ND, np.zeros(len(rows), np.int64), rows)

    def _best(self, k: int, rows: Ints, scores: Floats) -> tuple[Floats, Ints]:
        order = np.lexsort((rows, -scores))[:k]
        out, ids = np.full(k, -np.inf), np.full(k, -1, np.int64)
        out[: len(order)], ids[: len(order)] = scores[order], rows[order]
        return out, ids


def _longest_row(held: Int8Rows) -> float:
    """An upper bound of a row's length: what is held of it, and its error."""
    longest = 0.0
    for start in range(0, len(held.codes_NP), TILE_ROWS):
        part = slice(start, start + TILE_ROWS)
        codes = held.codes_NP[part].astype(np.float32)
        length_n = np.sqrt(np.vecdot(codes, codes).astype(np.float64)) * held.step_N[part] + held.error_N[part]
        longest = max(longest, float(length_n.max()) * (1 + 1e-5))
    return longest


def _single_threads(torch: Any, num: int) -> ThreadPoolExecutor:
    """Threads in each of which torch works alone: a thread takes its tiles without waiting for another.

    torch's own threads wait for each other after each of a dozen small steps of a tile.
    """
    before, barrier = torch.get_num_threads(), threading.Barrier(num)

    def begin() -> None:
        torch.set_num_threads(1)
        barrier.wait(60)

    pool = ThreadPoolExecutor(num, thread_name_prefix="sieve", initializer=begin)
    for waiting in [pool.submit(int) for _ in range(num)]:  # starts them all
        waiting.result()
    torch.set_num_threads(before)  # what is set for the whole process, for the models
    return pool


class _Query:
    """A query as whole numbers: step * (128 high + low), its length, and what its own error and rounding may do."""

    def __init__(self, vector_D: NDArray[np.float32], width: int, longest: float) -> None:
        exact = np.zeros(width)
        exact[: len(vector_D)] = vector_D
        self.step = float(np.float32(np.abs(exact).max(initial=0) / QUERY_CODE)) or float(np.finfo(np.float32).tiny)
        codes = np.clip(np.rint(exact / self.step), -QUERY_CODE, QUERY_CODE)
        high = np.floor((codes + 64) / 128)
        self.high_P, self.low_P = high.astype(np.int8), (codes - 128 * high).astype(np.int8)
        held = codes * self.step
        self.length = float(np.linalg.norm(held)) * (1 + 1e-6)
        # float32: five roundings of terms that are at most (|q'| + 64 step sqrt(P)) |x| long, and the bound's own
        terms = self.length + 64 * self.step * width**0.5
        self.slack = (float(np.linalg.norm(exact - held)) + 16 * 2.0**-24 * terms) * longest


def _at_least(parts: Sequence[tuple[Ints, Floats]], end: float) -> tuple[Ints, Floats]:
    rows, upper = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = upper >= end
    return rows[kept], upper[kept]
