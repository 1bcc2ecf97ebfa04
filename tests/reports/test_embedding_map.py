"""Projection, place order, colour classes and the packing of pictures."""

import base64
import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from aistudio.reports.embedding_map import PACK_IMAGES, colouring, map_files, morton_order, pca_2d, tsne_2d


def test_pca_is_that_of_scikit_learn_up_to_sign():
    x = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32) * np.arange(1, 13)
    ours, shares = pca_2d(x)
    theirs = PCA(2).fit(x.astype(np.float64))
    reference = theirs.transform(x.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(reference), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_array_equal(pca_2d(x)[0], ours)


@pytest.mark.parametrize("shape", [(0, 8), (0, 0), (3, 1), (1, 8)])
def test_pca_of_little(shape):
    points, shares = pca_2d(np.ones(shape, np.float32))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all() and (points == 0).all() and (shares == 0).all()


def test_morton_order_keeps_neighbours_together():
    points = np.random.default_rng(1).uniform(size=(4000, 2)).astype(np.float32)
    order = morton_order(points)
    assert sorted(order) == list(range(4000))
    packs = points[order].reshape(-1, 100, 2)
    spread = (packs.max(axis=1) - packs.min(axis=1)).prod(axis=1).mean()
    assert spread < 0.15  # of the unit square; without order it is about 0.96
    assert morton_order(np.zeros((0, 2), np.float32)).tolist() == []


def test_colouring_of_names_numbers_and_ids():
    names = colouring("c", ["b", "a", "a", None])
    assert (names["levels"], names["codes"]) == (["a", "b"], [1, 0, 0, -1])
    many = colouring("c", [f"v{i % 13}" for i in range(130)])
    assert many["levels"][-1] == "other" and max(many["codes"]) == 10
    numbers = colouring("p", [float(i) for i in range(60)] + [float("nan")])
    assert numbers["kind"] == "number" and numbers["codes"][-1] == -1
    assert np.bincount(numbers["codes"][:-1]).tolist() == [10] * 6
    assert colouring("csv", ["1", "2.5", "", *(str(i) for i in range(40))])["kind"] == "number"  # a CSV's price
    assert colouring("names", [f"{i:04d}" for i in range(15)] * 9)["kind"] == "category"  # 0012 is a name
    assert colouring("id", [f"id{i}" for i in range(2000)]) is None
    assert colouring("same", ["x"] * 5) is None and colouring("none", [None] * 5) is None


def test_every_picture_is_in_the_pack_its_point_names():
    rng = np.random.default_rng(2)
    n = PACK_IMAGES * 2 + 5
    rows = [{"text": f"t{i}", "row_id": str(i), "image_url": "javascript:1", "recall_score": 0.5} for i in range(n)]
    pictures = [bytes([i % 256]) * 7000 if i % 3 else None for i in range(n)]
    files, shares = map_files(rng.normal(size=(n, 4)).astype(np.float32), rows, pictures, ["text"], 10 * n)
    index, *packs = [
        json.loads(v.decode().split(",", 1)[1].rsplit(")", 1)[0])
        for _, v in sorted(files.items(), key=lambda kv: kv[0].replace(".js", ""))
    ]
    assert (len(shares), index["total"], len(index["x"]), len(packs)) == (2, 10 * n, n, 3)
    for place, name in enumerate(index["names"]):
        entry = packs[place // PACK_IMAGES][place % PACK_IMAGES]
        i = int(entry["fields"]["row_id"])
        assert name == f"t{i}" and entry["link"] is None
        assert base64.b64decode("".join(entry["thumbnail"])) == (pictures[i] or b"")


def test_stored_lists_and_structs_colour_the_map_or_are_passed_over():
    boxes = [{"x0": 0, "method": "border"}, {"x0": 1, "method": "whole"}, None]
    assert colouring("crop_look", boxes)["levels"] == ["border", "whole"]
    assert colouring("sizes", [[1, 2], [3], [1, 2]])["levels"] == ["[1, 2]", "[3]"]


def test_tsne_keeps_groups_together_and_is_the_same_again():
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(4), 15)
    vectors = (rng.normal(size=(4, 60))[group] * 3 + rng.normal(size=(60, 60)) * 0.3).astype(np.float32)
    points = tsne_2d(vectors)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).all()
    np.testing.assert_array_equal(tsne_2d(vectors), points)


@pytest.mark.parametrize("shape", [(0, 8), (3, 2), (5, 1), (6, 3)])
def test_tsne_of_little_or_of_equal_vectors(shape):
    points = tsne_2d(np.ones(shape, np.float32))
    assert points.shape == (shape[0], 2) and np.isfinite(points).all()
