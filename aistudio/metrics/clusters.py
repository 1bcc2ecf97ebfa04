"""Shares of answers that are not independent: people answer many questions, questions are judged by many people.

To say "people prefer A" about other people, respondents are the sample; to say it about other query images, questions
are. `headline` is the wider of the two intervals.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from aistudio.metrics.preference import HALF, Decisions, Names
from aistudio.metrics.relevant import Floats
from aistudio.metrics.significance import holm

By = Literal["respondent", "question"]
K = TypeVar("K")
CONFIDENCE = 0.95
ROUNDING = 12  # digits: differences of shares that are equal on paper must tie, and zero must be zero


class Clustered(NamedTuple):
    """A share (or a difference of shares) with its cluster-robust interval; None where it is not defined."""

    by: str
    clusters: int
    value: float | None
    se: float | None
    low: float | None
    high: float | None
    p: float | None  # of "the share is one half", "the difference is zero"; None where all clusters are exactly alike
    design_effect: float | None  # se^2 over that of independent answers


class PerCluster(NamedTuple):
    """One share per cluster: the simplest honest test. Shares in the order of the sorted clusters' names."""

    by: str
    names: list[str]
    shares: list[float]
    num_for: int
    num_against: int
    sign_test_p: float
    wilcoxon_p: float | None  # signed ranks of share - 1/2, zeros dropped; None where all are zero


def clustered_share(decisions: Decisions, by: By) -> Clustered:
    """Compute the share that prefers a among decided answers, with a standard error robust to clusters.

    se^2 = G/(G-1) sum over clusters of (sum of (y - p))^2 / n^2; interval and test with t on G - 1 degrees.

    >>> who, one = np.array(["r1", "r1", "r2", "r2", "r3", "r3"]), np.array(["q"] * 6)
    >>> found = clustered_share(Decisions("a", "b", who, one, one, np.array([1, 1, 1, 0, 0, 1.0]), np.ones(6)),
    ...     "respondent")
    >>> found.clusters, round(found.value, 3), round(found.se, 3)
    (3, 0.667, 0.167)
    """
    seen = decisions.decided
    n, cluster = len(seen.for_a), _clusters(seen, by)
    if not n:
        return Clustered(by, 0, None, None, None, None, None, None)
    share = float(seen.for_a.mean())
    variance, num = _variance((seen.for_a - share) / n, cluster)
    independent = share * (1 - share) / n
    return _interval(by, share, HALF, variance, num, independent)


def two_way_share(decisions: Decisions) -> Clustered:
    """Compute the same with both clusterings at once: V_respondent + V_question - V_cell, without the factor G/(G-1).

    Cameron, Gelbach and Miller (2011). Where the sum is not positive (few answers in each cell), the larger of the two
    is taken. Test and interval with t on the smaller number of clusters minus 1.

    >>> who, what = np.array(["r1", "r1", "r2", "r2"]), np.array(["q1", "q2", "q1", "q2"])
    >>> round(two_way_share(Decisions("a", "b", who, what, who, np.array([1, 1, 1, 0.0]), np.ones(4))).se, 3)
    0.125
    """
    seen = decisions.decided
    n = len(seen.for_a)
    if not n:
        return Clustered("both", 0, None, None, None, None, None, None)
    share = float(seen.for_a.mean())
    influence = (seen.for_a - share) / n
    cell = np.array([f"{r}\0{q}" for r, q in zip(seen.respondent, seen.question, strict=True)])
    sizes = []
    variances = []
    for cluster in (seen.respondent, seen.question, cell):
        sums = _sums(influence, cluster)
        sizes.append(len(sums))
        variances.append(float((sums**2).sum()))
    person, question, both = variances
    variance = person + question - both
    if variance <= 0:
        variance = max(person, question)
    fewest = min(sizes[:2])
    return _interval("both", share, HALF, variance if fewest > 1 else None, fewest, share * (1 - share) / n)


def headline(decisions: Decisions) -> Clustered:
    """Return the interval to quote: by question or by respondent, whichever is wider.

    With one question (or one respondent) nothing can be said about others: that counts as the widest, and the interval
    is None. Clusters that all have the very same share have no spread, which is the narrowest; it is None, too, where
    both are like that.
    """
    return max((clustered_share(decisions, by) for by in ("question", "respondent")), key=_width)


def per_cluster(decisions: Decisions, by: By) -> PerCluster:
    """Reduce each cluster to its share of decided answers for a, and test these: signs and signed ranks.

    >>> who, one = np.array(["r1", "r1", "r2", "r3"]), np.array(["q"] * 4)
    >>> found = per_cluster(Decisions("a", "b", who, one, one, np.array([1, 0, 1, 1.0]), np.ones(4)), "respondent")
    >>> found.shares, found.num_for, found.num_against
    ([0.5, 1.0, 1.0], 2, 0)
    """
    seen = decisions.decided
    names, which = np.unique(_clusters(seen, by), return_inverse=True)
    shares = np.bincount(which, weights=seen.for_a) / np.maximum(np.bincount(which), 1)
    away = np.round(shares - HALF, ROUNDING)
    num_for, num_against = int((away > 0).sum()), int((away < 0).sum())
    sign = float(stats.binomtest(num_for, num_for + num_against).pvalue) if num_for + num_against else 1.0
    return PerCluster(by, names.tolist(), shares.tolist(), num_for, num_against, sign, signed_rank_p(away))


def signed_rank_p(difference_N: ArrayLike) -> float | None:
    """Return the two-sided p-value of Wilcoxon's signed-rank test, zeros dropped; None where all differences are zero.

    >>> signed_rank_p([1.0, 2.0, 3.0, 0.0])
    0.25
    """
    away = np.round(np.asarray(difference_N, dtype=np.float64), ROUNDING)
    return float(stats.wilcoxon(away, zero_method="wilcox").pvalue) if (away != 0).any() else None


def by_group(decisions: Decisions, by: By) -> tuple[dict[str, Clustered], dict[tuple[str, str], Clustered]]:
    """Compute the share within each group of questions, and the difference between each two groups (the interaction).

    p-values within each of the two results are corrected by Holm over that family.

    >>> what, group = np.array(["q1", "q2", "q3", "q4"]), np.array(["wild", "wild", "shop", "shop"])
    >>> shares, differences = by_group(Decisions("a", "b", what, what, group, np.array([1, 0, 1, 1.0]), np.ones(4)),
    ...     "question")
    >>> {name: found.value for name, found in shares.items()}, list(differences)
    ({'shop': 1.0, 'wild': 0.5}, [('shop', 'wild')])
    """
    names = np.unique(decisions.group).tolist()
    shares = {name: clustered_share(decisions.where(decisions.group == name), by) for name in names}
    differences = {(x, y): _difference(decisions, x, y, by) for i, x in enumerate(names) for y in names[i + 1 :]}
    return _corrected(shares), _corrected(differences)


def _difference(decisions: Decisions, x: str, y: str, by: By) -> Clustered:
    seen = decisions.decided.where(np.isin(decisions.decided.group, [x, y]))
    first, second = seen.group == x, seen.group == y
    if not first.any() or not second.any():
        return Clustered(by, 0, None, None, None, None, None, None)
    p, q = float(seen.for_a[first].mean()), float(seen.for_a[second].mean())
    influence = np.where(first, (seen.for_a - p) / first.sum(), -(seen.for_a - q) / second.sum())
    independent = p * (1 - p) / first.sum() + q * (1 - q) / second.sum()
    variance, num = _variance(influence, _clusters(seen, by))
    return _interval(by, p - q, 0.0, variance, num, independent)


def _corrected(found: dict[K, Clustered]) -> dict[K, Clustered]:
    tested = {key: f.p for key, f in found.items() if f.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    return {key: f._replace(p=corrected.get(key)) for key, f in found.items()}


def _clusters(decisions: Decisions, by: By) -> Names:
    return decisions.respondent if by == "respondent" else decisions.question


def _sums(influence_N: Floats, cluster_N: Sequence[str] | Names) -> Floats:
    _, which = np.unique(cluster_N, return_inverse=True)
    return np.bincount(which, weights=influence_N).astype(np.float64)


def _variance(influence_N: Floats, cluster_N: Names) -> tuple[float | None, int]:
    """G/(G-1) times the sum of squared sums, and G; None for one cluster, which says nothing about others."""
    sums = _sums(influence_N, cluster_N)
    num = len(sums)
    return (num / (num - 1) * float((sums**2).sum()) if num > 1 else None), num


def _interval(
    by: str, value: float, null: float, variance: float | None, clusters: int, independent: float
) -> Clustered:
    if variance is None:
        return Clustered(by, clusters, value, None, None, None, None, None)
    se, degrees = float(np.sqrt(variance)), clusters - 1
    effect = variance / independent if independent else None
    if se < 10.0**-ROUNDING:  # every cluster says exactly the same: no spread to infer one for other clusters from
        return Clustered(by, clusters, value, 0.0, None, None, None, effect)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * se
    p = float(2 * stats.t.sf(abs(value - null) / se, degrees))
    return Clustered(by, clusters, value, se, value - reach, value + reach, p, effect)


def _width(found: Clustered) -> float:
    if found.low is None or found.high is None:
        return 0.0 if found.se == 0 else np.inf
    return found.high - found.low
