"""The whole analysis of a survey: which system people prefer, how sure that is, and for whom.

The parts are preference.py, clusters.py, rank_answers.py and strengths.py; here they are put together for each two
systems. Attention checks are left out of every number; the analysis is made with all respondents and again without
those who failed one.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aistudio.metrics.clusters import (
    Clustered,
    PerCluster,
    by_group,
    clustered_share,
    headline,
    per_cluster,
    two_way_share,
)
from aistudio.metrics.preference import (
    Agreement,
    Decisions,
    PairAnswers,
    Power,
    ShareOf,
    SideBias,
    agreement,
    answers_needed,
    between,
    share_preferring,
    side_bias,
)
from aistudio.metrics.rank_answers import (
    Friedman,
    RankBlocks,
    RankDifference,
    cluster_means,
    friedman,
    mean_ranks,
    pair_decisions,
    rank_blocks,
    rank_differences,
)
from aistudio.metrics.strengths import Strengths, bradley_terry, plackett_luce, wins_table, with_intervals

Columns = Mapping[str, Sequence[str]]
CHECK_COPY, CHECK_REPEAT = "copy", "repeat"  # values of the column `check`; empty: an ordinary question
POWER_SHARES = (0.55, 0.6, 0.65, 0.7)


@dataclass(frozen=True)
class PairResult:
    """Everything about two systems, a against b."""

    a: str
    b: str
    share: ShareOf
    by_respondent: Clustered
    by_question: Clustered
    both: Clustered
    headline: Clustered
    respondents: PerCluster
    questions: PerCluster
    side: SideBias
    agreement: Agreement
    groups: dict[str, Clustered]
    group_differences: dict[tuple[str, str], Clustered]
    power: list[Power]


@dataclass(frozen=True)
class RankResult:
    """Everything about whole rankings."""

    num_blocks: int
    num_incomplete: int
    mean_rank: dict[str, float]
    over_blocks: Friedman
    over_respondents: Friedman
    over_questions: Friedman
    differences_by_respondent: list[RankDifference]
    differences_by_question: list[RankDifference]
    plackett_luce: Strengths


@dataclass(frozen=True)
class SurveyResult:
    """The analysis of one set of answers. `ranks` is None where people chose between two lists."""

    systems: tuple[str, ...]
    num_respondents: int
    num_questions: int
    pairs: list[PairResult]
    bradley_terry: Strengths
    ranks: RankResult | None


class FailedCheck(NamedTuple):
    """A respondent and the attention checks that he or she failed."""

    respondent: str
    checks: list[str]


def analyse_pairs(columns: Columns, samples: int = 500) -> SurveyResult:
    """Analyse choices between two lists; the columns are those of `PairAnswers`, attention checks already left out.

    >>> columns = {"respondent": ["r1", "r2"], "question": ["q1", "q2"], "left": ["a", "b"], "right": ["b", "a"],
    ...     "choice": ["a", "a"]}
    >>> analyse_pairs(columns, samples=0).pairs[0].share.share
    1.0

    Args:
        samples: bootstrap samples of the strengths' intervals.
    """
    answers = PairAnswers.from_columns(columns)
    systems = tuple(sorted(set(answers.left.tolist()) | set(answers.right.tolist())))
    compared = [between(answers, a, b) for a, b in itertools.combinations(systems, 2)]
    compared = [d for d in compared if len(d.for_a)]
    return SurveyResult(
        systems,
        len(set(answers.respondent.tolist())),
        len(set(answers.question.tolist())),
        [pair_result(d) for d in compared],
        _strengths(compared, systems, samples),
        None,
    )


def analyse_ranks(columns: Columns, systems: Sequence[str] | None = None, samples: int = 500) -> SurveyResult:
    """Analyse whole rankings, and from them each two systems.

    >>> columns = {"respondent": ["r"] * 2, "question": ["q"] * 2, "system": ["a", "b"], "rank": ["1", "2"]}
    >>> analyse_ranks(columns, samples=0).ranks.mean_rank
    {'a': 1.0, 'b': 2.0}
    """
    blocks = rank_blocks(columns, systems)
    compared = [pair_decisions(blocks, a, b) for a, b in itertools.combinations(blocks.systems, 2)]
    return SurveyResult(
        blocks.systems,
        len(set(blocks.respondent.tolist())),
        len(set(blocks.question.tolist())),
        [pair_result(d) for d in compared if len(d.for_a)],
        with_intervals(lambda b: bradley_terry(wins_table(b), b.systems), blocks, blocks.question, samples),
        _rank_result(blocks, samples),
    )


def pair_result(decisions: Decisions) -> PairResult:
    """Compute the result for two systems from the answers that compare them."""
    groups, differences = by_group(decisions, "question")
    return PairResult(
        a=decisions.a,
        b=decisions.b,
        share=share_preferring(decisions),
        by_respondent=clustered_share(decisions, "respondent"),
        by_question=clustered_share(decisions, "question"),
        both=two_way_share(decisions),
        headline=headline(decisions),
        respondents=per_cluster(decisions, "respondent"),
        questions=per_cluster(decisions, "question"),
        side=side_bias(decisions),
        agreement=agreement(decisions),
        groups=groups,
        group_differences=differences,
        power=[answers_needed(p) for p in POWER_SHARES],
    )


def failed_checks(columns: Columns) -> list[FailedCheck]:
    """Find the respondents who failed an attention check, by name; the answers are of either kind.

    The column `check` marks the checks. `copy`: one list holds the query's exact copy; the column `right_answer` names
    the system that must win. `repeat`: an earlier question again, sides swapped; its answer must be the earlier one
    (a tie is accepted on either side). Empty without the column.
    """
    if "check" not in columns:
        return []
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    best = _best_ranked(rows) if "rank" in columns else {}
    failed: dict[str, list[str]] = {}
    ordinary = {_asked(row): _answer(row, best) for row in rows if not row["check"]}
    for row in rows:
        name = f"{row['check']} of {row['question']}"
        if row["check"] and not _passed(row, _answer(row, best), ordinary.get(_asked(row))):
            of_respondent = failed.setdefault(row["respondent"], [])
            if name not in of_respondent:
                of_respondent.append(name)
    return [FailedCheck(who, checks) for who, checks in sorted(failed.items())]


def _rank_result(blocks: RankBlocks, samples: int) -> RankResult:
    return RankResult(
        num_blocks=len(blocks.rank_BS),
        num_incomplete=blocks.num_incomplete,
        mean_rank=mean_ranks(blocks),
        over_blocks=friedman(blocks.rank_BS),
        over_respondents=friedman(cluster_means(blocks, "respondent")),
        over_questions=friedman(cluster_means(blocks, "question")),
        differences_by_respondent=rank_differences(blocks, "respondent"),
        differences_by_question=rank_differences(blocks, "question"),
        plackett_luce=with_intervals(plackett_luce, blocks, blocks.question, samples),
    )


def _strengths(compared: list[Decisions], systems: tuple[str, ...], samples: int) -> Strengths:
    """Bradley-Terry over all pairs of systems, each answer a ranking of two of them, resampled by question."""

    def fit(blocks: RankBlocks) -> Strengths:
        wins = np.zeros((len(systems), len(systems)))
        ranks = blocks.rank_BS
        for i, j in itertools.permutations(range(len(systems)), 2):
            wins[i, j] = (ranks[:, i] < ranks[:, j]).sum() + (ranks[:, i] == ranks[:, j]).sum() / 2
        return bradley_terry(wins, systems)

    if not compared:
        return bradley_terry(np.zeros((len(systems), len(systems))), systems)
    rows = []
    for d in compared:
        ranks = np.full((len(d.for_a), len(systems)), np.nan)  # NaN compares as neither better nor alike
        ranks[:, systems.index(d.a)], ranks[:, systems.index(d.b)] = 1 - d.for_a, d.for_a
        rows.append(ranks)
    who, what, group = (
        np.concatenate([np.empty(0, np.str_), *columns])
        for columns in zip(*((d.respondent, d.question, d.group) for d in compared), strict=True)
    )
    blocks = RankBlocks(systems, who, what, group, np.concatenate(rows))
    return with_intervals(fit, blocks, blocks.question, samples)


def _asked(row: Mapping[str, str]) -> tuple[str, ...]:
    """Respondent, question and the systems that were compared, whichever side they stood on."""
    if "system" in row:
        return row["respondent"], row["question"]
    return row["respondent"], row["question"], *sorted((row["left"], row["right"]))


def _answer(row: Mapping[str, str], best: Mapping[tuple[str, ...], set[str]]) -> set[str]:
    """The systems that the respondent put first: one, or several in a tie."""
    if "choice" in row:
        return {row["left"], row["right"]} if row["choice"] == "tie" else {row["choice"]}
    return best[(*_asked(row), row["check"])]


def _best_ranked(rows: list[dict[str, str]]) -> dict[tuple[str, ...], set[str]]:
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        found.setdefault((*_asked(row), row["check"]), {})[row["system"]] = float(row["rank"])
    return {key: {s for s, r in block.items() if r == min(block.values())} for key, block in found.items()}


def _passed(row: Mapping[str, str], answer: set[str], earlier: set[str] | None) -> bool:
    if row["check"] == CHECK_COPY:
        return answer == {row.get("right_answer", "")}
    return earlier is None or bool(answer & earlier)
