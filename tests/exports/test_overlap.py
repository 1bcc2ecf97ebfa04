"""The sample that measures a loss: even, whatever the batches; the overlap against sorting whole matrices."""

import numpy as np
import pyarrow as pa
import pytest

from aistudio.exports.overlap import Overlap, Sample
from aistudio.exports.source import Batch
from tests.evaluation.stored_run import unit


def batches(matrix, sizes, valid=None):
    first = 0
    for size in sizes:
        part = matrix[first : first + size]
        ok = np.ones(len(part), bool) if valid is None else valid[first : first + size]
        yield Batch(first, pa.table({"row_id": [str(i) for i in range(len(part))]}), part, part, ok)
        first += size


def test_the_sample_does_not_depend_on_batches_and_draws_rows_with_vectors_alone():
    matrix = unit(np.random.default_rng(0).normal(size=(300, 8)))
    valid = np.arange(300) % 3 != 0
    drawn = []
    for sizes in ([300], [1] * 300, [7] * 43):
        sample = Sample(40)
        assert sum(len(b.valid_N) for b in sample.watch(batches(matrix, sizes, valid))) == 300
        drawn.append(sample.rows_S.tolist())
        assert (sample.stored_SD == matrix[sample.rows_S]).all()
    assert drawn[0] == drawn[1] == drawn[2] and len(drawn[0]) == 40 and all(valid[drawn[0]])
    counts = np.zeros(300)
    for seed in range(200):
        sample = Sample(30, seed)
        list(sample.watch(batches(matrix, [300])))
        counts[sample.rows_S] += 1
    assert counts.sum() == 6000 and counts.min() > 5 and counts.max() < 45  # each row 20 times on average


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_overlap_is_that_of_whole_sorted_matrices(noise):
    rng = np.random.default_rng(1)
    full = unit(rng.normal(size=(200, 16)))
    found = full[:, :10] + noise * rng.normal(size=(200, 10)).astype(np.float32)
    rows = np.array([3, 50, 199])
    overlap = Overlap(rows, full[rows], 10)
    for start in range(0, 200, 64):
        ids = np.arange(start, min(200, start + 64))
        overlap.add(ids, full[ids], found[ids])
    shares = []
    for row in rows:
        exact = [i for i in np.argsort(-(full @ full[row])) if i != row][:10]
        ours = [i for i in np.argsort(-(unit(found) @ full[row, :10])) if i != row][:10]
        shares.append(len(set(exact) & set(ours)) / 10)
    assert overlap.value() == pytest.approx(np.mean(shares))


def test_a_single_row_has_no_neighbours():
    row = unit(np.ones((1, 4)))
    overlap = Overlap(np.array([0]), row, 2)
    overlap.add(np.array([0]), row, row[:, :2])
    assert overlap.value() is None
