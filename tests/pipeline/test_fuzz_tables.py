"""Manifests of every Arrow type go through a whole run; benchmarks/fuzz_tables.py runs thousands of them."""

import random

import pytest

from tests.odd_tables import KINDS
from tests.pipeline.odd_runs import odd_table, run_all


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_goes_through_a_whole_run(kind: str, tmp_path) -> None:
    for seed in range(2):
        table = odd_table(random.Random(f"{kind}{seed}"), kind)
        counts = run_all(random.Random(seed), table, tmp_path / f"run{seed}")
        assert counts.rows == counts.stored + counts.rejected
