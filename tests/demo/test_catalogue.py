"""The written catalogue: counts, manifests, broken rows, the bound of its pairs."""

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest

from aistudio.demo.catalogue import chance_hit_rate, read_info, write_catalogue
from aistudio.demo.faults import BASE_URL, FAULTS
from aistudio.demo.preference import chance_greater
from aistudio.demo.sights import SIGHTS


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    return folder, write_catalogue(folder, seed=5, num_sights=12, images_per_sight=4, num_pairs=50)


def _rows(folder):
    with (folder / "recall.csv").open(encoding="utf-8", newline="") as f:
        return list(csv.reader(f))


def test_counts_add_up(written):
    folder, info = written
    rows = _rows(folder)
    assert info == read_info(folder)
    assert (info.num_sights, info.num_rows, info.num_pairs) == (12, 12 * 4 + len(FAULTS), 50)
    assert len(rows) == info.num_rows == sum(info.expected_status.values())
    assert info.num_images == info.expected_status["ok"] == 12 * 4 + list(FAULTS.values()).count("ok")
    assert Counter(row["status"] for row in info.special_rows) == Counter(FAULTS.values())


def test_recall_manifest_has_the_papers_seven_fields(written):
    folder, info = written
    rows = _rows(folder)
    names = {s.item_id: s.name for s in SIGHTS}
    assert all(len(row) == 7 and names[row[0]] == row[1] for row in rows)
    for row in info.special_rows:
        assert rows[int(row["line"]) - 1][2] == row["image_url"]
    special = {row["image_url"] for row in info.special_rows}
    for row in rows:
        if row[2] not in special:
            assert (folder / row[2].removeprefix(BASE_URL)).is_file()


def test_pairs_have_ten_fields_and_no_ties(written):
    folder, _ = written
    lines = (folder / "pairs.txt").read_text(encoding="utf-8").splitlines()
    fields = [line.split("$record$") for line in lines]
    assert len(fields) == 50 and all(len(f) == 10 for f in fields)
    assert len({frozenset(f[1:3]) for f in fields}) == 50
    for f in fields:
        assert float(f[3]) != float(f[4])
        assert f[1].split("/")[-2] == f[2].split("/")[-2], "both pictures must show one sight"
    assert any(f[9] == "" for f in fields) and any("," in f[9] for f in fields)


def test_best_possible_agrees_with_truth_file(written):
    folder, info = written
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as f:
        truth = {row["image_url"].removeprefix(BASE_URL): row for row in csv.DictReader(f)}
    right, expected = [], []
    for line in (folder / "pairs.txt").read_text(encoding="utf-8").splitlines():
        f = line.split("$record$")
        a, b = (truth[f[i].removeprefix(f"{BASE_URL}original/")] for i in (1, 2))
        right.append((float(a["utility"]) > float(b["utility"])) == (int(a["clicks"]) > int(b["clicks"])))
        rates = sorted((float(a["click_rate"]), float(b["click_rate"])))
        expected.append(chance_greater(rates[1], rates[0]))
    assert info.best_possible.pairwise_accuracy == pytest.approx(np.mean(right))
    assert info.best_possible.pairwise_accuracy_expected == pytest.approx(np.mean(expected))
    assert 0.8 < info.best_possible.pairwise_accuracy_expected < 0.97


def test_same_seed_same_files_other_seed_others(tmp_path):
    def digest(name, seed):
        write_catalogue(tmp_path / name, seed=seed, num_sights=3, images_per_sight=2, num_pairs=2)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        return [(p.relative_to(tmp_path / name).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]

    assert digest("a", 1) == digest("b", 1) != digest("c", 2)


def test_chance_hit_rate_agrees_with_simulation():
    rng = np.random.default_rng(0)
    shuffled = np.argsort(rng.random((20_000, 40)), axis=1)[:, :5]
    assert chance_hit_rate([10, 10, 10, 10], 5) == pytest.approx((shuffled < 10).any(axis=1).mean(), abs=0.01)


def test_too_much_asked_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sights asked for"):
        write_catalogue(tmp_path, num_sights=len(SIGHTS) + 1)
    with pytest.raises(ValueError, match="pairs asked for"):
        write_catalogue(tmp_path, num_sights=1, images_per_sight=2, num_pairs=5)
