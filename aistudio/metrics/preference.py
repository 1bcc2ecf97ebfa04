"""What people prefer: answers to a survey as arrays, shares with intervals, side bias, agreement, sample sizes.

Every share here is naive: it takes answers as independent. They are not, for answers to one question agree and people
answer many questions; clusters.py has the intervals that a conclusion may rest on. Leaves out: reading files
(catalogue/answers.py), ranks (rank_answers.py), strengths of several systems (strengths.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.discrete.discrete_model import Logit
from statsmodels.stats.proportion import proportion_confint
from statsmodels.tools.sm_exceptions import PerfectSeparationError

from aistudio.metrics.relevant import Floats

Names = NDArray[np.str_]
TIE = "tie"  # a choice, beside the systems' names: "both alike" and "can't say"
HALF = 0.5  # what a tie counts where ties count half
ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True)
class PairAnswers:
    """N answers to "which of these two lists is better?". All columns are (N,) text.

    `choice` is the name in `left` or in `right`, or "tie".
    """

    respondent: Names
    question: Names
    group: Names
    left: Names
    right: Names
    choice: Names

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[str]]) -> "PairAnswers":
        """Take the columns that are needed from a table of answers; others may be there, `group` may be missing."""
        group = columns.get("group") or ["all"] * len(columns["respondent"])
        named = {name: columns[name] for name in ("respondent", "question", "left", "right", "choice")}
        return cls(group=_names(group), **{name: _names(values) for name, values in named.items()})


@dataclass(frozen=True)
class Decisions:
    """N answers about two systems a and b: who, on what, and for which of them.

    for_a: 1 a, 0 b, 0.5 a tie. a_left: 1 a stood on the left, 0 on the right, NaN not side by side. All (N,).
    """

    a: str
    b: str
    respondent: Names
    question: Names
    group: Names
    for_a: Floats
    a_left: Floats

    @property
    def decided(self) -> "Decisions":
        """The same without the ties."""
        return self.where(self.for_a != HALF)

    def where(self, kept_N: NDArray[np.bool_]) -> "Decisions":
        """The same, of some answers."""
        who, what, group = self.respondent[kept_N], self.question[kept_N], self.group[kept_N]
        return Decisions(self.a, self.b, who, what, group, self.for_a[kept_N], self.a_left[kept_N])


class ShareOf(NamedTuple):
    """The share of decided answers that prefer a, as if answers were independent; None where there is no answer."""

    num_answers: int
    num_ties: int
    wins_a: int
    wins_b: int
    share: float | None
    share_ties_half: float | None
    wilson: tuple[float, float] | None  # 95 %
    clopper_pearson: tuple[float, float] | None  # 95 %, exact
    sign_test_p: float | None  # exact, two-sided


class SideBias(NamedTuple):
    """How much the side decides; None where it cannot be separated from the preference."""

    share_left: float | None
    p_left: float | None  # exact, two-sided, of "left and right are chosen alike"
    preference: float | None  # log odds of choosing a, side taken out
    side: float | None  # log odds that standing on the left adds
    share_without_side: float | None


class Agreement(NamedTuple):
    """How alike people answer; kappa is None where everybody always says the same or nobody shares a question."""

    kappa: float | None
    question: list[str]
    counts: NDArray[np.int64]  # (Q, 3) answers for a, for b, ties


def between(answers: PairAnswers, a: str, b: str) -> Decisions:
    """Select the answers that compare a with b, whichever stood on the left.

    >>> columns = {"respondent": ["r"], "question": ["q"], "left": ["vae"], "right": ["triplet"], "choice": ["vae"]}
    >>> between(PairAnswers.from_columns(columns), "triplet", "vae").for_a.tolist()
    [0.0]

    Raises:
        ValueError: a choice is neither of its two systems nor "tie".
    """
    a_left = (answers.left == a) & (answers.right == b)
    kept = a_left | ((answers.left == b) & (answers.right == a))
    choice = answers.choice[kept]
    wrong = ~np.isin(choice, [a, b, TIE])
    if wrong.any():
        raise ValueError(f"choice {choice[wrong][0]!r} is neither {a!r} nor {b!r} nor {TIE!r}")
    for_a = np.where(choice == TIE, HALF, (choice == a).astype(np.float64))
    who, what, group = answers.respondent[kept], answers.question[kept], answers.group[kept]
    return Decisions(a, b, who, what, group, for_a, a_left[kept].astype(np.float64))


def share_preferring(decisions: Decisions) -> ShareOf:
    """Compute the share that prefers a: ties apart and as half, Wilson's interval, exact sign test.

    >>> answers = Decisions("a", "b", *[np.array(["x"] * 4)] * 3, np.array([1, 1, 1, 0.5]), np.ones(4))
    >>> found = share_preferring(answers)
    >>> found.share, found.share_ties_half, found.sign_test_p
    (1.0, 0.875, 0.25)
    """
    n, wins_a = len(decisions.for_a), int((decisions.for_a == 1).sum())
    wins_b = int((decisions.for_a == 0).sum())
    decided = wins_a + wins_b
    half = float(decisions.for_a.mean()) if n else None
    if not decided:
        return ShareOf(n, n, 0, 0, None, half, None, None, None)
    wilson, exact = (_interval(wins_a, decided, method) for method in ("wilson", "beta"))
    p = float(stats.binomtest(wins_a, decided).pvalue)
    return ShareOf(n, n - decided, wins_a, wins_b, wins_a / decided, half, wilson, exact, p)


def _interval(wins: int, answers: int, method: str) -> tuple[float, float]:
    low, high = proportion_confint(wins, answers, ALPHA, method)
    return float(low), float(high)


def side_bias(decisions: Decisions) -> SideBias:
    """Measure how often the left list is chosen, and the preference with the side taken out.

    Logistic regression of "a chosen" on a constant (the preference) and the side of a (+1 left, -1 right). Ties and
    answers without sides are left out.

    >>> left, right = np.ones(6), np.zeros(6)
    >>> answers = Decisions("a", "b", *[np.array(["x"] * 12)] * 3,
    ...     np.array([1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0]), np.concatenate([left, right]))
    >>> found = side_bias(answers)
    >>> round(found.share_left, 3), round(found.share_without_side, 3)
    (0.667, 0.691)
    """
    seen = decisions.decided.where(~np.isnan(decisions.decided.a_left))
    if not len(seen.for_a):
        return SideBias(None, None, None, None, None)
    chose_left = seen.for_a == seen.a_left
    share = float(chose_left.mean())
    p = float(stats.binomtest(int(chose_left.sum()), len(chose_left)).pvalue)
    coefficients = _logit(seen.for_a, 2 * seen.a_left - 1)
    if coefficients is None:
        return SideBias(share, p, None, None, None)
    preference, side = coefficients
    return SideBias(share, p, preference, side, 1 / (1 + math.exp(-preference)))


def _logit(chosen_N: Floats, side_N: Floats) -> tuple[float, float] | None:
    """Coefficients of constant and side; None where they have no finite value: a side always or never wins."""
    for side in (-1, 1):
        mine = chosen_N[side_N == side]
        if not len(mine) or mine.min() == mine.max():
            return None
    try:
        fitted = Logit(chosen_N, np.column_stack([np.ones(len(side_N)), side_N])).fit(disp=0)
    except (PerfectSeparationError, np.linalg.LinAlgError):
        return None
    return float(fitted.params[0]), float(fitted.params[1])


def agreement(decisions: Decisions) -> Agreement:
    """Compute Fleiss' kappa over questions with unequal numbers of answers, and the answers to each question.

    kappa = (P - Pe) / (1 - Pe): P the mean over questions with two answers or more of the share of pairs of answers
    that agree, Pe the sum of squared shares of a, b and ties over all answers. Near 0 with a clear mean: people
    differ, which is not the same as noise. Fleiss (1971) for equal numbers.

    >>> three = np.array(["q1", "q1", "q2", "q2"])
    >>> agreement(Decisions("a", "b", three, three, three, np.array([1, 1, 0, 0.0]), np.ones(4))).kappa
    1.0
    """
    questions, which = np.unique(decisions.question, return_inverse=True)
    category = np.select([decisions.for_a == 1, decisions.for_a == 0], [0, 1], 2)
    counts = np.bincount(which * 3 + category, minlength=3 * len(questions)).reshape(-1, 3)
    return Agreement(fleiss_kappa(counts), questions.tolist(), counts)


def fleiss_kappa(counts_QC: ArrayLike) -> float | None:
    """Compute Fleiss' kappa from the answers to Q questions in C categories; rows may have unequal sums.

    >>> round(fleiss_kappa([[2, 0], [0, 2], [1, 1]]), 3)
    0.333

    Returns:
        None where no question has two answers, or where all answers are one category.
    """
    counts = np.asarray(counts_QC, dtype=np.float64)
    n = counts.sum(axis=1)
    shared = n >= 2
    if not shared.any():
        return None
    agree = ((counts**2).sum(axis=1) - n)[shared] / (n * (n - 1))[shared]
    by_chance = float(((counts.sum(axis=0) / n.sum()) ** 2).sum())
    return None if by_chance == 1 else float((agree.mean() - by_chance) / (1 - by_chance))


class Power(NamedTuple):
    """How many answers a survey needs to find a true share."""

    true_share: float
    answers: int  # if they were independent; normal approximation
    exact_power: float  # of the sign test at that number
    design_effect: float  # 1 + (m - 1) rho
    answers_clustered: int  # answers x design effect


def answers_needed(true_share: float, per_cluster: int = 1, correlation: float = 0.0) -> Power:
    """Compute how many decided answers give 80 % power at the 5 % level, for answers in clusters.

    ((z.975 / 2 + z.8 sqrt(p (1 - p))) / (p - 1/2))^2, times 1 + (m - 1) rho for clusters of m answers whose
    correlation is rho.

    >>> [answers_needed(p).answers for p in (0.55, 0.6, 0.65, 0.7)]
    [783, 194, 85, 47]
    >>> answers_needed(0.6, per_cluster=15, correlation=0.05).answers_clustered
    330

    Raises:
        ValueError: the share is 0.5 or outside 0 .. 1, or the clusters make no sense.
    """
    if not 0 < true_share < 1 or true_share == HALF:
        raise ValueError(f"true share {true_share}: expected a number between 0 and 1 other than 0.5")
    if per_cluster < 1 or not 0 <= correlation <= 1:
        raise ValueError("clusters need 1 answer or more, and a correlation from 0 to 1")
    low, high = stats.norm.ppf(1 - ALPHA / 2), stats.norm.ppf(POWER)
    needed = ((low / 2 + high * math.sqrt(true_share * (1 - true_share))) / (true_share - HALF)) ** 2
    n, effect = math.ceil(needed), 1 + (per_cluster - 1) * correlation
    return Power(true_share, n, sign_test_power(true_share, n), effect, math.ceil(n * effect))


def sign_test_power(true_share: float, n: int) -> float:
    """Compute the probability that the exact two-sided sign test of n answers finds p <= 0.05 at a true share.

    >>> round(sign_test_power(0.6, 194), 3)
    0.764
    """
    wins = np.arange(n + 1)
    p_value = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(wins, n - wins), n, HALF))
    return float(stats.binom.pmf(wins[p_value <= ALPHA], n, true_share).sum())


def _names(values: Sequence[str]) -> Names:
    return np.asarray(values, dtype=np.str_)
