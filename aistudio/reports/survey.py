"""The analysis of a survey -> one page: a sentence to quote, tables, figures and their CSV files."""

from collections.abc import Sequence
from typing import Any

from aistudio.reports.figures import Figure, Series, figure_files
from aistudio.reports.page import Site, assets, number, render
from aistudio.reports.safe import csv_bytes

ALPHA = 0.05
FEW_CLUSTERS = 10  # a t interval over fewer questions or respondents says little
PAGE_ASSETS = ("app.css", "theme.js", "app.js", "charts.js")


def survey_files(site: Site, result: Any, without_failed: Any | None, facts: dict[str, Any]) -> dict[str, bytes]:
    """Make the page: path inside the report -> bytes.

    Args:
        site: title and so on; `pages` must be ("survey",).
        result: the analysis of all answers (metrics.survey.SurveyResult).
        without_failed: the same without respondents who failed an attention check; None where nobody did.
        facts: `failed` (name, checks), `rejected` (file, line, reason): what was set aside, by name.
    """
    figures = _figures(result)
    tables = {"pairs": _pair_rows(result), "strengths": _strength_rows(result), "groups": _group_rows(result)}
    html = render(
        site,
        "survey",
        result=result,
        sentences=[sentence(p) for p in result.pairs],
        again=[sentence(p) for p in without_failed.pairs] if without_failed is not None else [],
        warnings=warnings(result),
        tables=tables,
        figures=figures,
        failed=facts.get("failed", []),
        rejected=facts.get("rejected", []),
    )
    out = {name: content for name, content in assets().items() if name in PAGE_ASSETS or name.startswith("echarts")}
    return {
        "survey.html": html,
        "index.html": html,
        **{f"assets/{name}": content for name, content in out.items()},
        **{f"data/survey-{name}.csv": _csv(rows) for name, rows in tables.items()},
        **figure_files("survey", figures),
    }


def sentence(pair: Any) -> str:
    """Say in one sentence what a survey found about two systems, with the honest interval.

    The interval is the headline's: the wider of the ones by respondent and by question.
    """
    share, head = pair.share, pair.headline
    if share.share is None:
        return f"Nobody decided between {pair.a} and {pair.b} ({share.num_answers:,} answers, all ties)."
    winner, loser, value, bounds = _towards_winner(pair)
    asked = f"{share.wins_a + share.wins_b:,} decided answers to {len(pair.questions.names):,} questions"
    start = f"{winner} was preferred to {loser} in {value:.1%} of {asked}"
    if bounds is None:
        sign = (pair.questions if head.by == "question" else pair.respondents).sign_test_p
        unit = "question" if head.by == "question" else "respondent"
        return (
            f"{start}; there is no interval, because every {unit} says the same or there is only one "
            f"(sign test over {unit}s: p {_p(sign)})."
        )
    interval = f"95 % interval by {head.by} {bounds[0]:.1%} to {bounds[1]:.1%}, p {_p(head.p)}"
    others = "other query images" if head.by == "question" else "other people"
    if head.p is not None and head.p <= ALPHA:
        return f"{start} ({interval}): people prefer {winner}, also for {others}."
    return f"{start} ({interval}): for {others} the answers do not decide."


def warnings(result: Any) -> list[str]:
    """List what a reader must know before quoting a number."""
    out = []
    for unit, count in (("questions", result.num_questions), ("respondents", result.num_respondents)):
        if count < FEW_CLUSTERS:
            out.append(f"Only {count} {unit}: an interval over them says little. Ask more {unit}.")
    effects = [p.by_question.design_effect for p in result.pairs if p.by_question.design_effect is not None]
    if effects and max(effects) > 2:
        answers = max(p.share.wins_a + p.share.wins_b for p in result.pairs)
        out.append(
            f"Answers to one question agree (design effect up to {max(effects):.1f}): {answers:,} answers tell as much "
            f"as about {answers / max(effects):,.0f} independent ones. More questions help, more people hardly do."
        )
    if result.bradley_terry.pseudo_count:
        out.append(
            f"Some system never lost to another: {result.bradley_terry.pseudo_count:g} was added to both sides of each "
            "pair, or its strength would be infinite."
        )
    return out


def _towards_winner(pair: Any) -> tuple[str, str, float, tuple[float, float] | None]:
    share, head = pair.share.share, pair.headline
    bounds = None if head.low is None else (max(0.0, head.low), min(1.0, head.high))
    if share >= 0.5:
        return pair.a, pair.b, share, bounds
    return pair.b, pair.a, 1 - share, None if bounds is None else (1 - bounds[1], 1 - bounds[0])


def _pair_rows(result: Any) -> list[dict[str, Any]]:
    rows = []
    for p in result.pairs:
        ways = {"naive": None, "by respondent": p.by_respondent, "by question": p.by_question, "both": p.both}
        for how, found in ways.items():
            low, high = (p.share.wilson or (None, None)) if found is None else (found.low, found.high)
            each = {"by respondent": p.respondents, "by question": p.questions}.get(how)
            rows.append({
                "a": p.a, "b": p.b, "answers": p.share.num_answers, "ties": p.share.num_ties,
                "clusters": how, "number": None if found is None else found.clusters,
                "share": p.share.share, "low": low, "high": high,
                "p": p.share.sign_test_p if found is None else found.p,
                "design_effect": None if found is None else found.design_effect,
                "for": each.num_for if each else None, "against": each.num_against if each else None,
                "wilcoxon_p": each.wilcoxon_p if each else None, "headline": found == p.headline,
            })  # fmt: skip
    return rows


def _strength_rows(result: Any) -> list[dict[str, Any]]:
    rows = []
    for system in result.systems:
        row = {"system": system, "mean_rank": None, **_strength("bradley_terry", result.bradley_terry, system)}
        if result.ranks is not None:
            row["mean_rank"] = result.ranks.mean_rank[system]
            row |= _strength("plackett_luce", result.ranks.plackett_luce, system)
        rows.append(row)
    return sorted(rows, key=lambda r: -r["bradley_terry"])


def _strength(name: str, found: Any, system: str) -> dict[str, Any]:
    low, high = (None if side is None else side[system] for side in (found.low, found.high))
    return {name: found.log_strength[system], f"{name}_low": low, f"{name}_high": high}


def _group_rows(result: Any) -> list[dict[str, Any]]:
    rows = []
    for p in result.pairs:
        named = [(name, f) for name, f in p.groups.items()]
        named += [(f"{x} minus {y}", f) for (x, y), f in p.group_differences.items()]
        if len(p.groups) > 1:
            rows += [
                {"a": p.a, "b": p.b, "group": name, "questions": f.clusters, "share": f.value, "low": f.low,
                 "high": f.high, "p_holm": f.p}
                for name, f in named
            ]  # fmt: skip
    return rows


def _figures(result: Any) -> list[Figure]:
    out = []
    for i, p in enumerate(result.pairs):
        points = sorted(zip(p.questions.names, p.questions.shares, strict=True), key=lambda x: x[1])
        if points:
            bars = [[name, round(share, 4)] for name, share in points]
            out.append(Figure(
                f"survey-questions-{i}", f"{p.a} against {p.b}, question by question",
                f"Share of decided answers that prefer {p.a}; far from 0.5 on both sides means that the query decides.",
                "bar", "question", f"share for {p.a}", [Series("share", bars)], y_max=1.0,
            ))  # fmt: skip
    return out


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    header = list(dict.fromkeys(name for row in rows for name in row))
    return csv_bytes(header, ([row.get(name) for name in header] for row in rows))


def _p(value: float | None) -> str:
    if value is None:
        return "not defined"
    return "< 0.0001" if value < 0.0001 else f"= {number(value)}"
