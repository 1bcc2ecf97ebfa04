"""weights/demo: small enough, as good as promised, and the recorded files are the ones that lie there."""

import hashlib
import json

import pytest


@pytest.fixture(scope="module")
def folder(request):
    return request.config.rootpath / "weights/demo"


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_files_are_those_that_were_measured(folder, facts):
    total = 0
    for name, recorded in facts["files"].items():
        body = (folder / name).read_bytes()
        assert hashlib.sha256(body).hexdigest() == recorded["sha256"], f"{name}: not the file of metrics.json"
        total += len(body)
    assert total < 15_000_000


@pytest.mark.parametrize("catalogue", ["demo_catalogue", "held_out"])
def test_recorded_numbers_mean_something(facts, catalogue):
    found = facts[catalogue]
    assert found["hit_rate@5"] >= 10 * found["chance_hit_rate@5"]
    best = found["best_possible_pairwise_accuracy"]
    assert found["pairwise_accuracy"] >= 0.5 + 2 / 3 * (best - 0.5)
