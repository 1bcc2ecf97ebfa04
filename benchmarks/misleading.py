"""Numbers that misled: six small jobs, run by version 8b17918 and by this one, and what each of the two says.

    git worktree add --detach ../old 8b17918
    python benchmarks/misleading.py --old ../old            # writes a table of both answers to standard output

Each case is a mistake that a user makes in the first hour; the old version answered with a number that looks right and
exit code 0. The suite holds a test for each (named in the table). Pictures are drawn, models are the demo's, nothing is
fetched from anywhere: the addresses of case 6 are private and refused.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ITEMS, PER_ITEM = 12, 5
LIMIT_S = 1200  # of one command, on a machine that does other things too


class Said(NamedTuple):
    """What a command answered."""

    code: int
    text: str

    def lines(self, *patterns: str) -> str:
        """The lines that match, else the last one; and the exit code."""
        all_lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        found = [line for line in all_lines if any(re.search(p, line) for p in patterns)]
        shown = found or all_lines[-1:]
        return "<br>".join(line.replace("|", "\\|")[:260] for line in shown) + f"<br>exit code {self.code}"


class Version:
    """A checkout, and a folder in which its runs lie."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout, self.folder = checkout, folder
        folder.mkdir()
        self.said: dict[str, Said] = {}  # of the runs that are scored

    def run(self, job: str, *arguments: str) -> Said:
        env = os.environ | {"PYTHONPATH": str(self.checkout)}
        command = [sys.executable, "-m", f"jobs.{job}", *arguments]
        done = subprocess.run(command, cwd=self.checkout, env=env, capture_output=True, text=True, timeout=LIMIT_S)
        return Said(done.returncode, done.stdout + done.stderr)

    def score(self, name: str, manifest: dict) -> Said:
        """Score a manifest into the run `name`, once."""
        if name in self.said:
            return self.said[name]
        conf = self.folder / f"{name}.yaml"
        models = {"recall": "conf/models/demo_recall.yaml", "ranking": None}
        conf.write_text(yaml.safe_dump({"manifest": manifest, "output": self.path(name), "models": models}))
        self.said[name] = self.run("score", "--conf", str(conf))
        return self.said[name]

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def rows(self, name: str) -> list[dict]:
        files = sorted(Path(self.path(name), "scores").glob("*.parquet"))
        columns = ["row_id", "image_url", "status"]
        return [row for f in files for row in pq.read_table(f, columns=columns).to_pylist()]


def draw(folder: Path) -> list[tuple[str, str, Path]]:
    """Draw ITEMS x PER_ITEM pictures; (item, text, path) of each."""
    rng = np.random.default_rng(3)
    out = []
    for i in range(ITEMS):
        colour = rng.integers(0, 255, 3)
        for j in range(PER_ITEM):
            path = folder / f"item{i:02d}" / f"{j}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.normal(0, 40, (80, 100, 3))
            Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(path)
            out.append((f"item{i:02d}", f"西湖 {i}", path))
    return out


def write_csv(path: Path, rows: list[list[object]]) -> str:
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([["item_id", "image_url", "text"], *rows])
    return str(path)


def empty_texts(v: Version, data: Path, _: list) -> str:
    """1. A folder of photographs, which has no texts."""
    v.score("folder", {"path": str(data / "photos"), "format": "folder"})
    said = v.run("aggregate", "--run", v.path("folder"))
    numbers = len(re.findall(r"^ +\S+ +[0-9.]+ +[0-9.]+ \.\. ", said.text, re.MULTILINE))
    return f"{numbers} metrics with intervals; " + said.lines(r"\bmap ", "no row has a text", "^note")


def unknown_column(v: Version, data: Path, pictures: list) -> str:
    """1. `columns: {text: no_such_column}` in the dry run."""
    conf = v.folder / "column.yaml"
    manifest = {"path": str(data / "photos"), "format": "folder", "columns": {"text": "no_such_column"}}
    models = {"recall": "conf/models/demo_recall.yaml", "ranking": None}
    conf.write_text(yaml.safe_dump({"manifest": manifest, "output": v.path("column"), "models": models}))
    return v.run("score", "--conf", str(conf), "--dry-run").lines("in order", "no_such_column")


def moved_ids(v: Version, data: Path, pictures: list) -> str:
    """2. Line 3 of the CSV is rejected; rows are joined with the user's table by row_id, the line's number."""
    lines = (data / "shop.csv").read_text().splitlines()
    (data / "bad_line.csv").write_text("\n".join([*lines[:2], "only one field", *lines[2:]]) + "\n")
    urls = [line.split(",")[1] if "," in line else "" for line in (data / "bad_line.csv").read_text().splitlines()]
    v.score("lines", {"path": str(data / "bad_line.csv"), "format": "csv"})
    rows = v.rows("lines")
    numbers = [int(r["row_id"].split("-")[-1]) for r in rows]
    first = min(numbers) - 2  # the old version counts from 0, the header not: the first row is line 2
    right = sum(urls[n - first - 1] == r["image_url"] for n, r in zip(numbers, rows, strict=True))
    return f"{right} of {len(rows)} rows join with their own line"


def other_judgements(v: Version, data: Path, pictures: list) -> str:
    """3. One and the same run, aggregated twice with different judgements, compared as if the models differed."""
    v.score("a", {"path": str(data / "shop.csv"), "format": "csv"})
    shutil.copytree(v.path("a"), v.path("b"))
    ids = [r["row_id"] for r in v.rows("a")]
    qrels = v.folder / "qrels.tsv"
    items = [item for item, _, _ in pictures]
    every = [f"{item}\t{row_id}\t1" for item in sorted(set(items)) for row_id in ids]  # all are relevant to all
    qrels.write_text("\n".join(["query\trow_id\trelevance", *every]) + "\n")
    v.run("aggregate", "--run", v.path("a"))
    v.run("aggregate", "--run", v.path("b"), "--set", f"metrics.qrels={qrels}")
    return v.run("compare", "--runs", v.path("a"), v.path("b")).lines(r"^map ", "computed from different", "^judge")


def rate(v: Version, data: Path, pictures: list) -> str:
    """4. A run of seconds, and what a million images would take."""
    said = v.score("a", {"path": str(data / "shop.csv"), "format": "csv"})
    v.run("report", "--run", v.path("a"))
    html = Path(v.path("a"), "report/index.html").read_text()
    predicted = re.search(r"A million images.{0,120}?<b[^>]*>([^<]+)", html, re.DOTALL)
    words = "report: a million images takes " + predicted[1].strip() if predicted else "report: no prediction"
    return f"{words}<br>{said.lines('wall', 'images/s$')}"


def bottleneck(v: Version, data: Path, pictures: list) -> str:
    """5. What limits the same run of seconds on local files."""
    return v.score("a", {"path": str(data / "shop.csv"), "format": "csv"}).lines("limit", "actors:", "network")


def half_failed(v: Version, data: Path, pictures: list) -> str:
    """6. Half of the addresses are private and blocked."""
    rows = [[i, f"http://10.0.0.9/{n}.jpg" if n % 2 else p, t] for n, (i, t, p) in enumerate(pictures)]
    manifest = {"path": write_csv(data / "half.csv", rows), "format": "csv"}
    return v.score("half", manifest).lines("^blocked_address", "max_failed_share", "^next")


CASES = {
    empty_texts: "tests/evaluation/test_meaning.py",
    unknown_column: "tests/catalogue/test_folder.py, tests/catalogue/test_columns.py",
    moved_ids: "tests/catalogue/test_delimited.py, tests/pipeline/test_resume.py",
    other_judgements: "tests/evaluation/test_meaning.py",
    rate: "tests/test_timings.py, tests/pipeline/test_summary.py",
    bottleneck: "tests/pipeline/test_summary.py",
    half_failed: "tests/pipeline/test_summary.py, tests/runs/test_failing.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="a checkout of the version before, 8b17918")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="CASE", help=f"of {', '.join(c.__name__ for c in CASES)}"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="misleading-") as name:
        data = Path(name)
        pictures = draw(data / "photos")
        write_csv(data / "shop.csv", [[i, p, t] for i, t, p in pictures])
        versions = [Version(arguments.old.resolve(), data / "old"), Version(ROOT, data / "new")]
        print("| case | before | now | test |\n|---|---|---|---|")
        for case, test in CASES.items():
            if arguments.only and case.__name__ not in arguments.only:
                continue
            answers = [case(v, data, pictures).replace(name, "…") for v in versions]
            print(f"| {(case.__doc__ or '').strip()} | {answers[0]} | {answers[1]} | {test} |", flush=True)


if __name__ == "__main__":
    main()
