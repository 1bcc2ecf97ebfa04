"""Which readers of Parquet read a run with failed rows: each in an environment of its own.

    python benchmarks/readers.py [--out reports/bench/readers_2026-11.md]

Writes three runs with failed rows (vectors as float32, as float16, and float32 beside kept columns of every type that
is stored, full of values at its ends: years beyond 9999, times of -1 s, zones such as -09:30), lets each reader read
every file of scores/, texts/ and manifest/ whole, and compares rows, nulls and vectors with what was written. Needs a
package index; about 600 MB below the temporary folder. Exit code 1 when a reader fails in one of the first two runs.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import venv
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import pyarrow as pa

from aistudio.runs import layout
from aistudio.store import open_store
from tests.damaged_runs import whole_run
from tests.odd_tables import FLAT, odd_array
from tests.pipeline.odd_runs import run_all

READERS = {
    "pyarrow 19": ["pyarrow==19.0.1", "numpy"],
    "pyarrow 22": ["pyarrow==22.0.0", "numpy"],
    "pyarrow 26": ["pyarrow>=26,<27", "numpy"],
    "pandas": ["pandas", "pyarrow"],
    "polars": ["polars"],
    "DuckDB": ["duckdb"],
}
# Each prints, for each file, its rows and the vectors as JSON: what a user would get at with that library.
_READ = {
    "pyarrow": "import pyarrow.parquet as pq, pyarrow; version = pyarrow.__version__\n"
    "def rows(path): t = pq.read_table(path); return t.num_rows, t[V].to_pylist() if V in t.column_names else None",
    "pandas": "import pandas; version = pandas.__version__\n"
    "def rows(path): t = pandas.read_parquet(path); return len(t), "
    "list(t[V]) if V in t else None",
    "polars": "import polars; version = polars.__version__\n"
    "def rows(path): t = polars.read_parquet(path); return t.height, t[V].to_list() if V in t.columns else None",
    "DuckDB": "import duckdb; version = duckdb.__version__\n"
    "def rows(path):\n"
    "    t = duckdb.sql(f\"select * from read_parquet('{path}')\"); names = t.columns; found = t.fetchall()\n"
    "    return len(found), [r[names.index(V)] for r in found] if V in names else None",
}
_REPORT = """# Readers of a run with failed rows

`make readers` (benchmarks/readers.py; written with pyarrow {version}). float32 and float16: every column of
every file read; rows, nulls and vectors compared with what was written. "kept extremes": the same beside columns of the
user's, one of each type that is stored, with values at the type's ends, such as years beyond 9999.

{table}
"""
_MAIN = """
import json, sys
V = "embedding"
{read}
found = {{}}
for path in sys.argv[1:]:
    try:
        count, vectors = rows(path)
        found[path] = count, vectors and [None if v is None else [float(x) for x in v] for v in vectors]
    except BaseException as e:
        found[path] = f"{{type(e).__name__}}: {{e}}"[:200]
print("RESULT" + json.dumps([version, found]))
"""


def make_runs(folder: Path) -> dict[str, list[Path]]:
    """The runs' Parquet files, by what is special about the run."""
    whole_run(open_store(str(folder / "float32")))
    whole_run(open_store(str(folder / "float16")), dtype="float16")
    kinds = [k for k in map(str, FLAT) if "Mars" not in k]  # a zone that exists nowhere is no reader's fault
    warnings.simplefilter("ignore")  # sums of infinities, tables of many columns: meant
    rng, num = random.Random(1), 12
    columns = {"item_id": [f"i{n // 3}" for n in range(num)], "image_url": [f"u{n}" for n in range(num)]}
    table = pa.table(columns | {"text": [f"t{n // 3}" for n in range(num)]})
    for i, kind in enumerate(kinds):
        table = table.append_column(f"kept_{i}", odd_array(rng, kind, num))
    run_all(rng, table, folder / "kept extremes")
    runs = {name: folder / name for name in ("float32", "float16", "kept extremes")}
    parts = (layout.SCORES, layout.TEXTS, layout.MANIFEST)
    return {name: sorted(p for part in parts for p in (run / part).glob("*.parquet")) for name, run in runs.items()}


def wanted(path: Path) -> tuple[int, list[list[float] | None] | None]:
    """Rows and vectors of a file as this environment has them."""
    store = open_store(str(path.parents[1]))
    table = store.read_table(f"{path.parent.name}/{path.name}")
    return table.num_rows, table["embedding"].to_pylist() if "embedding" in table.column_names else None


def environment(folder: Path, packages: list[str]) -> Path:
    """A new environment with these packages; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=900)
    return python


def read(python: Path, reader: str, files: list[Path]) -> tuple[str, dict[str, object]]:
    """The library's version and what it found in each file."""
    code = _MAIN.format(read=_READ[reader.partition(" ")[0]])
    command = [python, "-c", code, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=files[0].parent)
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT")), None)
    if line is None:  # the process died
        return "?", dict.fromkeys(map(str, files), f"exit code {done.returncode}: {done.stderr[-200:]}")
    version, found = json.loads(line.removeprefix("RESULT"))
    return version, found


def verdict(files: list[Path], found: dict[str, object]) -> str:
    """ "yes", or what is wrong with the first file that was not read as it was written."""
    for path in files:
        got = found[str(path)]
        if isinstance(got, str):
            return f"no: {got.splitlines()[0][:90].replace('|', ' ')}"
        if json.loads(json.dumps(got)) != json.loads(json.dumps(wanted(path))):
            return f"no: other content in {path.parent.name}/{path.name}"
    return f"yes ({len(files)} files)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="readers") as folder:
        runs = make_runs(Path(folder) / "runs")
        lines = [f"| reader | version | {' | '.join(runs)} |", f"|---|---|{'---|' * len(runs)}"]
        for number, (reader, packages) in enumerate(READERS.items()):
            python = environment(Path(folder) / str(number), packages)
            answers = [read(python, reader, files) for files in runs.values()]
            cells = [verdict(files, found) for files, (_, found) in zip(runs.values(), answers, strict=True)]
            lines.append(f"| {reader} | {answers[0][0]} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if args.out:
        text = _REPORT.format(version=pa.__version__, table="\n".join(lines))
        args.out.write_text(text, encoding="utf-8")
    return 1 if any("no:" in cell for line in lines[2:] for cell in line.split("|")[3:5]) else 0


if __name__ == "__main__":
    sys.exit(main())
