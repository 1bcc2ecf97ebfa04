"""Ask people which recommendations they prefer: make a questionnaire, analyse the answers."""

import csv
import hashlib
import io
import random
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistudio.catalogue.lists import AskedLists
    from aistudio.reports.questionnaire import Question, Shown

    Given = tuple[list[Question], dict[str, bytes], list[str]]  # questions, pictures by path, what was left out

DESCRIPTION = """\
make: a questionnaire that opens from disk (index.html). Answers are downloaded as CSV; which system filled which list
      stands in each of them.
      --runs R ...: from the stored searches of runs (search --like items), a system each; pictures are the stored ones.
      --lists FILE: from a CSV of recommendations: question, system, rank, image, and perhaps group; the row with system
      "query" is the question's own picture.
analyse: tables, figures and a sentence to quote (survey.html) from a folder of such answers.

A survey needs many questions more than many people: answers to one question agree."""
PICTURE_PX = 480  # longer side of a picture in the questionnaire
SAID = 5  # reasons that are printed
ENOUGH = 20  # questions; of fewer the result says that they are too few


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="aistudio survey", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["make", "analyse"])
    parser.add_argument("--runs", metavar="R", nargs="+", help="make: runs whose searches recommend")
    parser.add_argument(
        "--searches", metavar="NAME", nargs="+", default=[], help="make: these (default: those by items)"
    )
    parser.add_argument("--queries", metavar="FILE", help="make: CSV of query_id, and perhaps group (default: all)")
    parser.add_argument("--group", metavar="COLUMN", help="make: column of the runs by which answers are grouped")
    parser.add_argument("--top", type=int, default=5, help="make: pictures in a list (default: %(default)s)")
    parser.add_argument("--random", action="store_true", help="make: one more system, drawn: a check of attention")
    parser.add_argument("--lists", metavar="FILE", help="make: recommendations as CSV, in place of --runs")
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

    if args.action == "make" and (args.lists is None) == (args.runs is None):
        raise ConfigError("survey make: expected one of --runs and --lists" + (", not both" if args.lists else ""))
    if args.action == "analyse" and args.answers is None:
        raise ConfigError("survey analyse: --answers is missing")
    if args.n < 1 or args.top < 1 or args.samples < 0:
        raise ConfigError("--n and --top: expected 1 or more; --samples: 0 or more")
    if args.action == "make":
        given = _from_runs(args) if args.runs else _from_lists(args.lists, args.n, args.seed)
        _make(given, Path(args.out), args.mode, args.seed, args.title or "Which do you prefer?")
    else:
        _analyse(args.answers, Path(args.out), args.samples, args.title or "Survey")
    return 0


def _from_lists(lists: str, count: int, seed: int) -> "Given":
    from aistudio.catalogue.lists import read_lists
    from aistudio.errors import ConfigError

    asked, reasons = read_lists(lists)
    pictures: dict[str, bytes] = {}
    questions: list[Question] = []
    for name in random.Random(seed).sample(sorted(asked), len(asked)):
        made = _question(name, asked[name], pictures, reasons) if len(questions) < count else None
        questions += [made] if made else []
    if not questions:
        raise ConfigError(f"{lists}: no question whose pictures can be opened; {'; '.join(reasons[:SAID])}")
    return questions, pictures, reasons


def _from_runs(args: Namespace) -> "Given":
    from aistudio.pipeline.survey_lists import Wanted, check_group, survey_questions
    from aistudio.reports.questionnaire import Question, Shown
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    stores = [open_store(run, stored_settings(run, []).store) for run in args.runs]
    if args.group:
        check_group(stores, args.group)
    groups = _groups(args.queries) if args.queries else None
    wanted = Wanted(args.searches, args.top, args.n, groups, args.group, args.random, args.seed)
    asked, reasons = survey_questions(stores, wanted)
    pictures: dict[str, bytes] = {}

    def shown(picture: bytes) -> Shown:
        name = f"pictures/{hashlib.sha256(picture).hexdigest()[:16]}.jpg"
        pictures[name] = picture
        return Shown(name)

    questions = [
        Question(q.id, q.group, shown(q.query), {name: [shown(p) for p in of] for name, of in q.lists.items()})
        for q in asked
    ]
    return questions, pictures, reasons


def _groups(path: str) -> dict[str, str]:
    """Queries that are wanted, with their groups."""
    from aistudio.errors import ConfigError

    try:
        with Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as f:
            rows = list(csv.DictReader(f))
    except (OSError, csv.Error) as e:
        raise ConfigError(f"--queries {path}: cannot be read: {e}") from None
    if not rows or "query_id" not in rows[0]:
        raise ConfigError(f"--queries {path}: expected a header with query_id, and perhaps group")
    return {row["query_id"]: row.get("group") or "" for row in rows if row["query_id"]}


def _make(given: "Given", out: Path, mode: str, seed: int, title: str) -> None:
    from aistudio.errors import ConfigError
    from aistudio.metrics.preference import answers_needed
    from aistudio.reports.questionnaire import Questionnaire, Shown, questionnaire_files

    questions, pictures, reasons = given
    others = sorted(set(pictures) - {questions[len(questions) // 2].query.path})
    stranger = Shown(random.Random(seed).choice(others)) if others else None
    survey = Questionnaire(title, "ranks" if mode == "ranks" else "pairs", questions, stranger)
    try:
        files = questionnaire_files(survey, pictures)
    except ValueError as e:
        raise ConfigError(str(e)) from None
    _write(out, files)
    _say(reasons)
    systems = ", ".join(questions[0].lists)
    print(
        f"{len(questions)} questions on {systems}, {len(pictures)} pictures: {out / 'index.html'} "
        "(?seed=1, 2, 3 ... orders them)"
    )
    for share in (0.6, 0.7):
        power = answers_needed(share)
        print(f"to find a true share of {share:.0%}: {power.answers} answers if questions did not matter; they do")
    if len(questions) < ENOUGH:
        print(f"ask more questions, not only more people: {len(questions)} decide little about other query images")


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
