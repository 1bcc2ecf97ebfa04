"""Ask people which recommendations they prefer: make a questionnaire, analyse the answers."""

import hashlib
import io
import random
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistudio.catalogue.lists import AskedLists
    from aistudio.reports.questionnaire import Question, Shown

DESCRIPTION = """\
make: a questionnaire that opens from disk (index.html), from a CSV of recommendations: question, system, rank, image,
      and perhaps group; the row with system "query" is the question's own picture. Answers are downloaded as CSV.
analyse: tables, figures and a sentence to quote (survey.html) from a folder of such answers.

A survey needs many questions more than many people: answers to one question agree."""
PICTURE_PX = 480  # longer side of a picture in the questionnaire
SAID = 5  # reasons that are printed


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="aistudio survey", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["make", "analyse"])
    parser.add_argument("--lists", metavar="FILE", help="make: the recommendations")
    parser.add_argument("--answers", metavar="DIR", help="analyse: folder of answer files, or one file")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the pages go")
    parser.add_argument("--mode", choices=["pairs", "ranks"], default="pairs", help="make (default: %(default)s)")
    parser.add_argument("--n", type=int, default=30, help="make: questions, drawn where there are more (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="make: of the drawing; analyse: of the resampling")
    parser.add_argument("--samples", type=int, default=500, help="analyse: resamples of the strengths' intervals")
    parser.add_argument("--title", help="of the pages")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.errors import ConfigError

    needed = {"make": "lists", "analyse": "answers"}[args.action]
    if getattr(args, needed) is None:
        raise ConfigError(f"survey {args.action}: --{needed} is missing")
    if args.n < 1 or args.samples < 0:
        raise ConfigError("--n: expected 1 or more; --samples: 0 or more")
    if args.action == "make":
        _make(args.lists, Path(args.out), args.mode, args.n, args.seed, args.title or "Which do you prefer?")
    else:
        _analyse(args.answers, Path(args.out), args.samples, args.title or "Survey")
    return 0


def _make(lists: str, out: Path, mode: str, count: int, seed: int, title: str) -> None:
    from aistudio.catalogue.lists import read_lists
    from aistudio.errors import ConfigError
    from aistudio.metrics.preference import answers_needed
    from aistudio.reports.questionnaire import Questionnaire, Shown, questionnaire_files

    asked, reasons = read_lists(lists)
    pictures: dict[str, bytes] = {}
    rng = random.Random(seed)
    order = rng.sample(sorted(asked), len(asked))
    questions: list[Question] = []
    for name in order:
        made = _question(name, asked[name], pictures, reasons) if len(questions) < count else None
        questions += [made] if made else []
    if not questions:
        raise ConfigError(f"{lists}: no question whose pictures can be opened; {'; '.join(reasons[:SAID])}")
    others = sorted(set(pictures) - {questions[len(questions) // 2].query.path})
    stranger = Shown(rng.choice(others)) if others else None
    survey = Questionnaire(title, "ranks" if mode == "ranks" else "pairs", questions, stranger)
    try:
        files = questionnaire_files(survey, pictures)
    except ValueError as e:
        raise ConfigError(str(e)) from None
    _write(out, files)
    _say(reasons)
    print(f"{len(questions)} questions, {len(pictures)} pictures: {out / 'index.html'} (?seed=1, 2, 3 ... orders them)")
    for share in (0.6, 0.7):
        power = answers_needed(share)
        print(f"to find a true share of {share:.0%}: {power.answers} answers if questions did not matter; they do")


def _question(name: str, asked: "AskedLists", pictures: dict[str, bytes], reasons: list[str]) -> "Question | None":
    from aistudio.reports.questionnaire import Question

    assert asked.query is not None
    try:
        query = _shown(asked.query, pictures)
        lists = {system: [_shown(image, pictures) for image in images] for system, images in asked.lists.items()}
    except (OSError, ValueError, SyntaxError) as e:
        reasons.append(f"question {name[:60]}: {e}")
        return None
    return Question(name, asked.group, query, lists)


def _shown(path: Path, pictures: dict[str, bytes]) -> "Shown":
    from PIL import Image

    from aistudio.reports.questionnaire import Shown

    name = f"pictures/{hashlib.sha256(str(path).encode('utf-8', 'replace')).hexdigest()[:16]}.jpg"
    if name not in pictures:
        try:
            with Image.open(path) as image:
                image.draft("RGB", (PICTURE_PX, PICTURE_PX))
                small = image.convert("RGB")
        except Image.DecompressionBombError as e:
            raise ValueError(str(e)) from None
        small.thumbnail((PICTURE_PX, PICTURE_PX))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=85)
        pictures[name] = out.getvalue()
    return Shown(name)


def _analyse(answers: str, out: Path, samples: int, title: str) -> None:
    from aistudio.catalogue.answers import read_answers
    from aistudio.errors import ManifestError
    from aistudio.metrics.survey import analyse_pairs, analyse_ranks, failed_checks
    from aistudio.reports.page import Site
    from aistudio.reports.survey import sentence, survey_files, warnings

    table = read_answers(answers)
    analyse = analyse_pairs if table.kind == "pairs" else analyse_ranks
    failed = failed_checks(table.columns)
    checks = table.columns.get("check", [""] * len(table))
    ordinary = table.where([not check for check in checks])
    if not len(ordinary):
        raise ManifestError(f"{answers}: no answers but attention checks, or none that can be used")
    result = analyse(ordinary.columns, samples=samples)
    inattentive = {f.respondent for f in failed}
    kept = ordinary.where([who not in inattentive for who in ordinary.columns["respondent"]])
    again = analyse(kept.columns, samples=0) if failed and len(kept) else None
    site = Site(title, str(answers), "complete", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"), ("survey",))
    _write(out, survey_files(site, result, again, {"failed": failed, "rejected": table.rejected}))
    for line in (*map(sentence, result.pairs), *warnings(result)):
        print(line)
    _say([f"{r.file}, line {r.line}: {r.reason}" for r in table.rejected])
    print(f"{len(ordinary):,} rows, {len(failed)} people failed an attention check: {out / 'survey.html'}")


def _say(reasons: list[str]) -> None:
    for reason in reasons[:SAID]:
        print(f"left out: {reason}")
    if len(reasons) > SAID:
        print(f"left out: {len(reasons) - SAID} more")


def _write(out: Path, files: dict[str, bytes]) -> None:
    from aistudio.errors import OutputError

    try:
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as e:
        raise OutputError(f"--out {out}: cannot be written: {e}") from None
