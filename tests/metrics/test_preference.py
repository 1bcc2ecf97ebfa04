"""Survey statistics against golden numbers, statsmodels, scipy and algorithms written out here."""

import csv
import doctest
import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from aistudio.metrics import clusters, preference, rank_answers, strengths, survey
from aistudio.metrics.preference import Decisions
from aistudio.metrics.rank_answers import RankBlocks

SHARED = Path(__file__).parents[3] / "shared" / "similar"
MODULES = ["preference", "clusters", "rank_answers", "strengths", "survey"]


def columns_of(path):
    with path.open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {name: [row[name] for row in rows] for name in rows[0]}


def shared(name):
    if not (SHARED / name).is_file():
        pytest.skip(f"no golden numbers at {SHARED}")
    return SHARED / name


def random_decisions(seed, people=12, questions=9):
    """Answers that agree within questions and lean to one side; some questions unanswered, some ties."""
    rng = np.random.default_rng(seed)
    who, what = np.nonzero(rng.random((people, questions)) < 0.8)
    left = rng.integers(0, 2, len(who)).astype(float)
    liked = rng.normal(0.3, 1.0, questions)[what] + 0.5 * (2 * left - 1)
    for_a = (rng.normal(liked) > 0).astype(float)
    for_a[rng.random(len(who)) < 0.1] = 0.5
    names = (np.array([f"r{i}" for i in who]), np.array([f"q{i}" for i in what]))
    return Decisions("a", "b", *names, np.where(what % 2, "wild", "shop"), for_a, left)


def random_blocks(seed, systems=3, people=8, questions=6, ties=True):
    rng = np.random.default_rng(seed)
    who, what = (x.ravel() for x in np.indices((people, questions)))
    liking = rng.normal(size=(questions, systems))[what] + rng.normal(size=(len(who), systems)) + np.arange(systems)
    ranks = stats.rankdata(np.round(liking, 0) if ties else liking, axis=1)
    names = (np.array([f"r{i}" for i in who]), np.array([f"q{i}" for i in what]))
    return RankBlocks(tuple("abcde"[:systems]), *names, np.array(["all"] * len(who)), ranks)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"aistudio.metrics.{name}"))
    assert result.failed == 0 and result.attempted > 0


# --- golden numbers ---------------------------------------------------------------------------------------------------


def test_golden_pairs():
    expected = json.loads(shared("golden/survey.json").read_text())["pairs"]
    answers = preference.PairAnswers.from_columns(columns_of(shared("golden/" + expected["file"])))
    decisions, want = preference.between(answers, expected["a"], expected["b"]), expected["expected"]
    share = preference.share_preferring(decisions)
    assert (share.num_answers, share.num_ties) == (want["num_answers"], want["num_ties"])
    assert share.clopper_pearson == pytest.approx(want["clopper_pearson_95"])
    for by in ("respondent", "question"):
        clustered, each, w = (
            clusters.clustered_share(decisions, by),
            clusters.per_cluster(decisions, by),
            want[f"cluster_{by}"],
        )
        assert (clustered.low, clustered.high) == pytest.approx(w["ci_95_t"])
        assert (clustered.p, clustered.design_effect) == pytest.approx((w["p_t"], w["design_effect"]))
        assert each.wilcoxon_p == pytest.approx(w["wilcoxon_over_clusters_p (zeros dropped)"])
        assert each.sign_test_p == pytest.approx(w["sign_test_over_clusters_p"])
        assert (each.num_for, each.num_against) == (w["clusters_for"], w["clusters_against"])
        assert each.shares == pytest.approx(w.get("shares", each.shares))
    side = preference.side_bias(decisions)
    assert (side.preference, side.side) == pytest.approx(want["side"]["logit: preference, side"], abs=1e-6)
    assert preference.agreement(decisions).counts.tolist() == want["agreement"]["table"]
    assert preference.fleiss_kappa(want["agreement"]["balanced_table"]) == pytest.approx(
        want["agreement"]["fleiss_kappa of balanced_table"]
    )


def test_golden_ranks():
    expected = json.loads(shared("golden/survey.json").read_text())["ranks"]
    found = survey.analyse_ranks(columns_of(shared("golden/" + expected["file"])), expected["systems"], samples=0).ranks
    want = expected["expected"]
    assert found.num_blocks == want["blocks"]
    blocks = want["friedman_over_blocks (answers taken as independent)"]
    assert (found.over_blocks.p, found.over_blocks.kendall_w) == pytest.approx((blocks["p"], blocks["kendall_w"]))
    for by, differences in (
        ("respondents", found.differences_by_respondent),
        ("questions", found.differences_by_question),
    ):
        for d in differences:
            w = want[f"pairs_over_{by}"][f"{d.a} - {d.b}"]
            got = (d.mean_difference, d.low, d.high, d.p_t, d.p_wilcoxon)
            assert got == pytest.approx((w["mean_difference"], *w["ci_95_t"], w["p_t"], w["p_wilcoxon"])), (by, d)


def test_golden_power():
    for share, want in json.loads(shared("golden/survey.json").read_text())["power"]["true share"].items():
        found = preference.answers_needed(float(share))
        assert found.answers == want["answers (normal approximation)"]
        assert found.exact_power == pytest.approx(want["exact power at that number"])


@pytest.mark.parametrize("name", ["seed_segmented", "seed_not_segmented"])
@pytest.mark.parametrize("group", ["all", "catalogue", "wild"])
def test_the_jewellery_projects_real_answers(name, group):
    want = json.loads(shared("survey/seed_expected.json").read_text())[name][group]
    blocks = rank_answers.rank_blocks(columns_of(shared(f"survey/{name}.csv")), ["triplet", "vae", "random"])
    blocks = blocks if group == "all" else blocks.where(blocks.group == group)
    assert rank_answers.mean_ranks(blocks) == pytest.approx(want["mean_rank"])
    overall = rank_answers.friedman(blocks.rank_BS)
    over_blocks = want["friedman_over_blocks (answers taken as independent)"]
    assert (overall.chi2, overall.kendall_w) == pytest.approx((over_blocks["chi2"], over_blocks["kendall_w"]))
    decisions, w = rank_answers.pair_decisions(blocks, "vae", "triplet"), want["vae against triplet"]
    assert preference.share_preferring(decisions).wilson == pytest.approx(w["wilson_95"])
    for by in ("respondent", "question"):
        found = clusters.clustered_share(decisions, by)
        assert (found.low, found.high, found.p) == pytest.approx(
            (*w[f"cluster_{by}"]["ci_95_t"], w[f"cluster_{by}"]["p_t"])
        )
    headline = clusters.headline(decisions)
    assert headline.by == "question" and headline.low < 0.5 < headline.high  # the data do not decide


# --- twins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_cluster_robust_errors_are_statsmodels(seed):
    import statsmodels.api as sm

    decided = random_decisions(seed).decided
    codes = {by: np.unique(getattr(decided, by), return_inverse=True)[1] for by in ("respondent", "question")}
    ones = np.ones(len(decided.for_a))
    for by, code in codes.items():
        fitted = sm.OLS(decided.for_a, ones).fit(cov_type="cluster", cov_kwds={"groups": code, "use_correction": False})
        num = code.max() + 1
        assert clusters.clustered_share(decided, by).se == pytest.approx(fitted.bse[0] * np.sqrt(num / (num - 1)))
    both = {"groups": np.column_stack(list(codes.values())), "use_correction": False}
    variance = sm.OLS(decided.for_a, ones).fit(cov_type="cluster", cov_kwds=both).cov_params()[0, 0]
    if variance > 0:
        assert clusters.two_way_share(decided).se == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("seed", range(8))
def test_the_difference_of_two_groups_is_a_regressions(seed):
    import statsmodels.api as sm

    decisions = random_decisions(seed)
    decided = decisions.decided
    _, differences = clusters.by_group(decisions, "question")
    code = np.unique(decided.question, return_inverse=True)[1]
    x = np.column_stack([np.ones(len(code)), decided.group == "shop"])
    fitted = sm.OLS(decided.for_a, x).fit(cov_type="cluster", cov_kwds={"groups": code, "use_correction": False})
    found, num = differences[("shop", "wild")], code.max() + 1
    assert (found.value, found.se) == pytest.approx((fitted.params[1], fitted.bse[1] * np.sqrt(num / (num - 1))))


@pytest.mark.parametrize("seed", range(8))
def test_friedman_is_scipys(seed):
    for systems in (3, 4, 5):
        ranks = random_blocks(seed, systems).rank_BS
        want = stats.friedmanchisquare(*ranks.T)
        assert rank_answers.friedman(ranks)[1::2] == pytest.approx(want, abs=1e-12)


def test_friedman_of_two_systems_is_the_sign_tests_square():
    ranks = np.array([[1, 2]] * 9 + [[2, 1]] * 4)
    assert rank_answers.friedman(ranks).chi2 == pytest.approx((9 - 4) ** 2 / 13)


@pytest.mark.parametrize("seed", range(6))
def test_bradley_terry_is_hunters_mm(seed):
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, 20, (4, 4)).astype(float)
    np.fill_diagonal(wins, 0)
    strength = np.ones(4)
    for _ in range(5000):  # Hunter 2004, equation 3
        games = wins + wins.T
        strength = wins.sum(axis=1) / (games / (strength[:, None] + strength[None, :])).sum(axis=1)
        strength /= strength.sum()
    want = np.log(strength) - np.log(strength).mean()
    found = strengths.bradley_terry(wins, "abcd")
    assert list(found.log_strength.values()) == pytest.approx(want, abs=1e-6) and found.pseudo_count == 0


@pytest.mark.parametrize("seed", range(4))
def test_plackett_luce_has_no_better_neighbour(seed):
    blocks = random_blocks(seed, systems=4)
    found = strengths.plackett_luce(blocks)

    def log_likelihood(x):
        total = 0.0
        for ranks in blocks.rank_BS:
            orders = [
                o
                for o in itertools.permutations(range(4))
                if all(ranks[i] <= ranks[j] for i, j in itertools.pairwise(o))
            ]
            for order in orders:
                total += sum(x[order[k]] - np.log(np.exp(x[list(order[k:])]).sum()) for k in range(4)) / len(orders)
        return total

    best = np.array(list(found.log_strength.values()))
    assert found.pseudo_count == 0
    for direction in np.eye(4) - 0.25:
        assert log_likelihood(best) >= max(log_likelihood(best + s * direction) for s in (0.01, -0.01))


def test_a_system_that_never_loses_gets_a_finite_strength_and_says_so():
    found = strengths.bradley_terry([[0, 5, 5], [0, 0, 2], [0, 3, 0]], ["best", "x", "y"])
    assert found.pseudo_count == 0.5 and found.log_strength["best"] == max(found.log_strength.values())
    assert all(np.isfinite(v) for v in found.log_strength.values())
    assert strengths.bradley_terry([[0, 0], [0, 0]], ["a", "b"]).log_strength == {"a": 0.0, "b": 0.0}
    one = np.array(["x"] * 3)
    ranks = np.array([[1, 2, 3], [1, 2, 3], [1, 3, 2.0]])
    assert strengths.plackett_luce(RankBlocks(("a", "b", "c"), one, one, one, ranks)).pseudo_count == 0.5


def test_bootstrap_intervals_hold_the_fit_and_need_clusters():
    blocks = random_blocks(1)
    found = strengths.with_intervals(strengths.plackett_luce, blocks, blocks.respondent, samples=60)
    assert all(found.low[s] < found.log_strength[s] < found.high[s] for s in blocks.systems)
    again = strengths.with_intervals(strengths.plackett_luce, blocks, blocks.respondent, samples=60)
    assert again == found
    one = blocks.where(blocks.respondent == "r0")
    assert strengths.with_intervals(strengths.plackett_luce, one, one.respondent).low is None


# --- edges ------------------------------------------------------------------------------------------------------------


def empty_decisions():
    names = np.empty(0, np.str_)
    return Decisions("a", "b", names, names, names, np.empty(0), np.empty(0))


def test_no_answers_and_only_ties_define_nothing():
    tied = Decisions("a", "b", *[np.array(["x", "y"])] * 3, np.array([0.5, 0.5]), np.ones(2))
    for decisions in (empty_decisions(), tied):
        found = survey.pair_result(decisions)
        assert found.share.share is None and found.headline.value is None and found.side.p_left is None
        assert found.respondents.wilcoxon_p is None and found.agreement.kappa is None
    assert preference.share_preferring(tied).share_ties_half == 0.5


def test_one_cluster_and_clusters_that_all_agree_have_no_interval():
    one = np.array(["r"] * 4)
    four = np.array(["q1", "q2", "q3", "q4"])
    found = clusters.clustered_share(
        Decisions("a", "b", one, four, one, np.array([1, 1, 0, 1.0]), np.ones(4)), "respondent"
    )
    assert found.clusters == 1 and found.se is None and found.p is None
    found = clusters.clustered_share(Decisions("a", "b", four, four, one, np.ones(4), np.ones(4)), "respondent")
    assert found.value == 1 and found.se == 0 and found.low is None and found.p is None  # not "p = 0"


def test_headline_is_the_wider_one():
    for seed in range(5):
        decisions = random_decisions(seed)
        both = [clusters.clustered_share(decisions, by) for by in ("respondent", "question")]
        assert clusters.headline(decisions) == max(both, key=lambda c: c.high - c.low)


def test_respondents_who_are_exactly_alike_do_not_hide_the_questions():
    who, what = (x.ravel() for x in np.indices((4, 6)))
    names = (np.array([f"r{i}" for i in who]), np.array([f"q{i}" for i in what]), np.array(["all"] * 24))
    head = clusters.headline(Decisions("a", "b", *names, (what < 4).astype(float), np.ones(24)))
    assert head.by == "question" and head.low is not None
    one_question = Decisions("a", "b", names[0], names[2], names[2], (who < 3).astype(float), np.ones(24))
    assert clusters.headline(one_question).low is None and clusters.headline(one_question).by == "question"


def test_a_side_that_always_wins_has_no_logit():
    one = np.array(["x"] * 6)
    found = preference.side_bias(
        Decisions("a", "b", one, one, one, np.array([1, 1, 1, 0, 1, 0.0]), np.array([1, 1, 1, 0, 0, 0.0]))
    )
    assert found.share_left == pytest.approx(5 / 6) and found.preference is None


def test_holm_covers_the_family_of_groups():
    decisions = random_decisions(0)
    shares, _ = clusters.by_group(decisions, "question")
    alone = [clusters.clustered_share(decisions.where(decisions.group == g), "question").p for g in shares]
    assert sorted(f.p for f in shares.values()) == pytest.approx(
        sorted([min(1, 2 * min(alone)), max(2 * min(alone), max(alone))])
    )


def test_incomplete_rankings_are_left_out_and_counted():
    table = {"respondent": ["r", "r", "s"], "question": ["q"] * 3, "system": ["a", "b", "a"], "rank": ["1", "1", "1"]}
    blocks = rank_answers.rank_blocks(table)
    assert blocks.num_incomplete == 1 and blocks.rank_BS.tolist() == [[1.5, 1.5]]
    with pytest.raises(ValueError, match="ranked twice"):
        rank_answers.rank_blocks({**table, "respondent": ["r"] * 3, "system": ["a", "b", "a"]})
    with pytest.raises(ValueError, match="not a number"):
        rank_answers.rank_blocks({**table, "rank": ["1", "nan", "1"]})


def test_wrong_choices_and_shares_are_refused():
    columns = {"respondent": ["r"], "question": ["q"], "left": ["a"], "right": ["b"], "choice": ["c"]}
    with pytest.raises(ValueError, match="neither"):
        preference.between(preference.PairAnswers.from_columns(columns), "a", "b")
    for share in (0.5, 0.0, 1.2):
        with pytest.raises(ValueError, match="true share"):
            preference.answers_needed(share)


def test_attention_checks():
    rows = [  # respondent, question, left, right, choice, check, right_answer
        ("good", "q1", "a", "b", "a", "", ""),
        ("good", "q1", "b", "a", "a", "repeat", ""),
        ("good", "c", "copy", "random", "copy", "copy", "copy"),
        ("bad", "q1", "a", "b", "a", "", ""),
        ("bad", "q1", "b", "a", "b", "repeat", ""),
        ("bad", "c", "random", "copy", "random", "copy", "copy"),
        ("unsure", "q1", "a", "b", "tie", "", ""),
        ("unsure", "q1", "b", "a", "b", "repeat", ""),
    ]
    names = ("respondent", "question", "left", "right", "choice", "check", "right_answer")
    table = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    assert survey.failed_checks(table) == [("bad", ["repeat of q1", "copy of c"])]
    assert survey.failed_checks({k: v for k, v in table.items() if k != "check"}) == []
    ranked = {
        "respondent": ["x"] * 4, "question": ["c"] * 2 + ["d"] * 2, "system": ["copy", "random"] * 2,
        "rank": ["1", "2", "2", "1"], "check": ["copy"] * 4, "right_answer": ["copy"] * 4,
    }  # fmt: skip
    assert survey.failed_checks(ranked) == [("x", ["copy of d"])]


def test_several_systems_in_pairs():
    rng = np.random.default_rng(0)
    table = {"respondent": [], "question": [], "left": [], "right": [], "choice": []}
    for i in range(200):
        left, right = rng.choice(["a", "b", "c"], 2, replace=False)
        better = min(left, right) if rng.random() < 0.8 else max(left, right)
        for name, value in zip(table, (f"r{i % 20}", f"q{i % 13}", left, right, better), strict=True):
            table[name].append(str(value))
    found = survey.analyse_pairs(table, samples=30)
    assert [(p.a, p.b) for p in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert sum(p.share.num_answers for p in found.pairs) == 200
    order = sorted(found.systems, key=lambda s: -found.bradley_terry.log_strength[s])
    assert order == ["a", "b", "c"] and found.bradley_terry.low["a"] < found.bradley_terry.log_strength["a"]
