"""curves.json as the aggregation writes it, whole and with gaps."""

import pytest

from aistudio.reports.curves import figures
from aistudio.reports.figures import figure_files
from tests.reports.synthetic_run import curves

CURVES = curves()


def test_all_figures_with_their_files():
    made = figures(CURVES)
    assert [f.id for f in made] == ["retrieval", "cmc", "scores", "reliability", "roc"]
    files = figure_files("metrics", made)
    assert set(files) == {"data/figures-metrics.js", *(f.csv_path for f in made)}
    assert files["data/retrieval.csv"].decode("utf-8-sig").splitlines()[:2] == [
        "series,K,mean over queries",
        "hit rate,1,0.5",
    ]


def test_distributions_sum_to_one_each_and_are_trimmed():
    scores = next(f for f in figures(CURVES) if f.id == "scores")
    for series in scores.series:
        assert sum(y for _, y in series.points) == pytest.approx(1)
        assert len(series.points) <= 60
    assert scores.series[0].points[0][0] > -0.9


def test_empty_bins_and_missing_curves_are_left_out():
    assert figures({}) == []
    assert (
        figures(
            {
                "retrieval": {"k": [1, 2], "hit_rate": [], "recall": [], "precision": []},
                "cmc": {"rank": [1], "share": []},
            }
        )
        == []
    )
    empty = {"edges": [-1, 0, 1], "relevant": [0, 0], "irrelevant": [0, 0]}
    assert figures({"histogram": empty}) == []
    (one_kind,) = figures({"histogram": empty | {"relevant": [0, 3]}})
    assert one_kind.series[1].points == [] and one_kind.series[0].points == [[0.5, 1.0]]
    reliability = {
        "edges": [0, 0.5, 1],
        "count": [0, 2],
        "mean_probability": [None, 0.7],
        "share_positive": [None, 0.5],
    }
    assert figures({"reliability": reliability})[0].series[0].points == [[0.7, 0.5]]
