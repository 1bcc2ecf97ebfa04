"""Answers that rank several systems under one question: mean ranks, Friedman's test, paired differences.

A block is one respondent's ranking of all systems under one question. Friedman's test over blocks takes answers as
independent, which they are not; the same over respondents' or questions' mean ranks does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from aistudio.metrics.clusters import CONFIDENCE, ROUNDING, By, signed_rank_p
from aistudio.metrics.preference import HALF, Decisions, Names
from aistudio.metrics.relevant import Floats, Ints
from aistudio.metrics.significance import holm


@dataclass(frozen=True)
class RankBlocks:
    """B complete rankings of S systems; equal ranks are averaged.

    rank_BS: (B, S) float64, 1 is best. num_incomplete: rankings that lack a system, left out.
    """

    systems: tuple[str, ...]
    respondent: Names
    question: Names
    group: Names
    rank_BS: Floats
    num_incomplete: int = 0

    def where(self, rows_K: NDArray[np.bool_] | Ints) -> "RankBlocks":
        """Select blocks by a mask, or by positions, which may repeat."""
        who, what, group = self.respondent[rows_K], self.question[rows_K], self.group[rows_K]
        return RankBlocks(self.systems, who, what, group, self.rank_BS[rows_K], self.num_incomplete)


class Friedman(NamedTuple):
    """Do the systems' ranks differ? chi2 and p are None where all rankings are ties, or there are none."""

    n: int
    chi2: float | None
    degrees: int
    p: float | None
    kendall_w: float | None  # 0 no agreement, 1 everybody ranks alike


class RankDifference(NamedTuple):
    """How much better a is ranked than b: negative is better. p_holm: Holm over all pairs, from the signed ranks."""

    a: str
    b: str
    n: int
    mean_difference: float | None
    low: float | None
    high: float | None
    p_t: float | None
    p_wilcoxon: float | None
    p_holm: float | None


def rank_blocks(columns: Mapping[str, Sequence[str]], systems: Sequence[str] | None = None) -> RankBlocks:
    """Collect rankings from a table with one row per system: respondent, question, system, rank and perhaps group.

    >>> columns = {"respondent": ["r"] * 2, "question": ["q"] * 2, "system": ["a", "b"], "rank": ["2", "1"]}
    >>> found = rank_blocks(columns)
    >>> found.systems, found.rank_BS.tolist()
    (('a', 'b'), [[2.0, 1.0]])

    Args:
        systems: those to look at, in this order, ranked among themselves; None: all, by name.

    Raises:
        ValueError: a rank is not a number, or a ranking names a system twice.
    """
    names = tuple(systems) if systems is not None else tuple(sorted(set(columns["system"])))
    found: dict[tuple[str, str], dict[str, float]] = {}
    groups: dict[tuple[str, str], str] = {}
    group = columns.get("group") or ["all"] * len(columns["respondent"])
    rows = zip(columns["respondent"], columns["question"], columns["system"], columns["rank"], group, strict=True)
    for respondent, question, system, rank, its_group in rows:
        block = found.setdefault((respondent, question), {})
        groups.setdefault((respondent, question), its_group)
        if system in block:
            raise ValueError(f"respondent {respondent!r}, question {question!r}: {system!r} is ranked twice")
        block[system] = _rank(rank, respondent, question)
    complete = {key: block for key, block in found.items() if all(name in block for name in names)}
    ranks = np.array([[block[name] for name in names] for block in complete.values()]).reshape(-1, len(names))
    return RankBlocks(
        names,
        np.array([r for r, _ in complete], dtype=np.str_),
        np.array([q for _, q in complete], dtype=np.str_),
        np.array([groups[key] for key in complete], dtype=np.str_),
        stats.rankdata(ranks, axis=1) if len(ranks) else ranks,
        len(found) - len(complete),
    )


def mean_ranks(blocks: RankBlocks) -> dict[str, float]:
    """Average each system's rank over all blocks; NaN without blocks.

    >>> one = np.array(["x", "x"])
    >>> mean_ranks(RankBlocks(("a", "b"), one, one, one, np.array([[1, 2], [1.5, 1.5]])))
    {'a': 1.25, 'b': 1.75}
    """
    means = blocks.rank_BS.mean(axis=0) if len(blocks.rank_BS) else np.full(len(blocks.systems), np.nan)
    return dict(zip(blocks.systems, means.tolist(), strict=True))


def friedman(rank_BS: ArrayLike) -> Friedman:
    """Run Friedman's test on B blocks of S values, ranked within each block, with the correction for ties.

    scipy's `friedmanchisquare`, which asks for three systems, for two as well. Kendall's W = chi2 / (B (S - 1)).

    >>> round(friedman([[1, 2, 3], [1, 2, 3], [1, 3, 2]]).kendall_w, 3)
    0.778
    """
    values = np.round(np.asarray(rank_BS, dtype=np.float64), ROUNDING)
    n, s = values.shape
    if n == 0 or s < 2:
        return Friedman(n, None, max(s - 1, 0), None, None)
    ranks = stats.rankdata(values, axis=1)
    ties = sum(float((t**3 - t).sum()) for t in (np.unique(row, return_counts=True)[1] for row in ranks))
    correction = 1 - ties / (n * s * (s**2 - 1))
    if correction <= 0:
        return Friedman(n, None, s - 1, None, None)
    chi2 = (12 / (n * s * (s + 1)) * (ranks.sum(axis=0) ** 2).sum() - 3 * n * (s + 1)) / correction
    return Friedman(n, float(chi2), s - 1, float(stats.chi2.sf(chi2, s - 1)), float(chi2 / (n * (s - 1))))


def cluster_means(blocks: RankBlocks, by: By) -> Floats:
    """Average the ranks within each respondent or each question, (G, S), in the order of the sorted names.

    >>> who = np.array(["r1", "r1", "r2"])
    >>> blocks = RankBlocks(("a", "b"), who, who, who, np.array([[1, 2], [2, 1], [1, 2.0]]))
    >>> cluster_means(blocks, "respondent").tolist()
    [[1.5, 1.5], [1.0, 2.0]]
    """
    cluster = blocks.respondent if by == "respondent" else blocks.question
    names, which = np.unique(cluster, return_inverse=True)
    sums = np.zeros((len(names), len(blocks.systems)))
    np.add.at(sums, which, blocks.rank_BS)
    return sums / np.bincount(which, minlength=len(names))[:, None]


def rank_differences(blocks: RankBlocks, by: By) -> list[RankDifference]:
    """Compare the mean ranks of each two systems over respondents or questions: t interval, signed ranks, Holm.

    >>> who = np.array(["r1", "r2", "r3"])
    >>> blocks = RankBlocks(("a", "b"), who, who, who, np.array([[1, 2], [1, 2], [2, 1.0]]))
    >>> found = rank_differences(blocks, "respondent")
    >>> round(found[0].mean_difference, 3), found[0].p_wilcoxon
    (-0.333, 1.0)
    """
    means = cluster_means(blocks, by)
    s = len(blocks.systems)
    found = [_difference(blocks, means, i, j) for i in range(s) for j in range(i + 1, s)]
    tested = [k for k, d in enumerate(found) if d.p_wilcoxon is not None]
    for k, p in zip(tested, holm([found[k].p_wilcoxon or 0.0 for k in tested]).tolist(), strict=True):
        found[k] = found[k]._replace(p_holm=p)
    return found


def pair_decisions(blocks: RankBlocks, a: str, b: str) -> Decisions:
    """Read rankings as answers about two systems: for a where it is ranked better, a tie where both have one rank.

    >>> one = np.array(["x"])
    >>> pair_decisions(RankBlocks(("a", "b"), one, one, one, np.array([[2.0, 1.0]])), "b", "a").for_a.tolist()
    [1.0]
    """
    first, second = (blocks.rank_BS[:, blocks.systems.index(name)] for name in (a, b))
    for_a = np.select([first < second, first > second], [1.0, 0.0], HALF)
    no_side = np.full(len(for_a), np.nan)
    return Decisions(a, b, blocks.respondent, blocks.question, blocks.group, for_a, no_side)


def _difference(blocks: RankBlocks, mean_GS: Floats, i: int, j: int) -> RankDifference:
    a, b = blocks.systems[i], blocks.systems[j]
    away = np.round(mean_GS[:, i] - mean_GS[:, j], ROUNDING)
    if not len(away):
        return RankDifference(a, b, 0, None, None, None, None, None, None)
    wilcoxon = signed_rank_p(away)
    if len(away) < 2 or away.min() == away.max():
        return RankDifference(a, b, len(away), float(away.mean()), None, None, None, wilcoxon, None)
    test = stats.ttest_1samp(away, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return RankDifference(
        a, b, len(away), float(away.mean()), float(low), float(high), float(test.pvalue), wilcoxon, None
    )  # fmt: skip


def _rank(text: str, respondent: str, question: str) -> float:
    try:
        rank = float(text)
    except ValueError:
        rank = float("nan")
    if not np.isfinite(rank):
        raise ValueError(f"respondent {respondent!r}, question {question!r}: rank {text!r} is not a number")
    return rank
