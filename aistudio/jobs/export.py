"""Hand a run on to FAISS, LanceDB, WebDataset, NumPy or Hugging Face's datasets, read back and compared."""

import re
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aistudio.exports import FORMATS
from aistudio.jobs.common import run_parser

if TYPE_CHECKING:
    from aistudio.exports.export import Exported
    from aistudio.search.held import Where

DESCRIPTION = """\
Hand a run's rows and the vectors of one model on to other programs, into a folder or bucket outside the run:

{formats}

Rows stream through in bounded memory (an index of FAISS is held whole). Before DEST gets its name everything is read
back by the format's own library and compared with the run: how many, which ids, each vector bit for bit. DEST is whole
and checked, or as it was before. DEST/export.json says what it holds. Rows that have no vector (failed rows) are left
out where the format cannot hold them, and counted. Of a DEST in a bucket (s3://, gs://, az://) the files are made and
checked in TMPDIR, sent whole, read back, and export.json is sent last: without it there is no export.

--truncate-dim D keeps the first D numbers of each vector, at length one again: for models that were trained so
(Matryoshka). --int8 keeps one byte a number. What that loses is measured on rows of the run and printed: of the ten
nearest rows by the exact vectors, the share that is still found.

Libraries are extras: pip install 'aistudio-catalogue[export-lance]' (export-faiss, export-hf, export-webdataset)."""

_CONDITION = re.compile(r"(.+?)(>=|<=|=)(.*)", re.DOTALL)


def build_parser() -> ArgumentParser:
    width = max(map(len, FORMATS))
    formats = "\n".join(f"  {name:<{width}}  {what}" for name, what in FORMATS.items())
    parser = run_parser("export", DESCRIPTION.format(formats=formats))
    parser.add_argument("--to", required=True, choices=[*FORMATS], help="the format")
    parser.add_argument("--out", required=True, metavar="DEST", help="a new folder, or a place in a bucket")
    parser.add_argument("--vectors", metavar="NAME", help="an encoder, recall or ranking (default: recall)")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE",
        help="only rows that have this value; of several for one column any; also COLUMN>=NUMBER, COLUMN<=NUMBER",
    )  # fmt: skip
    parser.add_argument("--columns", metavar="A,B", help="beside row_id (default: all; pictures where the format can)")
    parser.add_argument("--truncate-dim", type=int, metavar="D", help="the first D numbers of each vector")
    parser.add_argument("--int8", action="store_true", help="vectors of one byte a number")
    parser.add_argument("--sample", type=int, metavar="N", help="rows that measure the loss (default: 200)")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.errors import ConfigError
    from aistudio.exports.export import SAMPLE, export_run
    from aistudio.exports.source import Wanted
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    if args.sample is not None and args.sample < 1:
        raise ConfigError(f"--sample {args.sample}: expected 1 or more")
    columns = None if args.columns is None else [c.strip() for c in args.columns.split(",") if c.strip()]
    wanted = Wanted(args.vectors, columns, conditions(args.where), args.truncate_dim, args.int8)
    store = open_store(args.run, stored_settings(args.run, args.overrides).store)
    _print(export_run(store, args.to, args.out, wanted, overwrite=args.overwrite, sample=args.sample or SAMPLE))
    return 0


def conditions(texts: Sequence[str]) -> "Where":
    """Read `column=value`, `column>=number` and `column<=number`; of one column several values mean any of them.

    Raises:
        ConfigError: none of these, or a limit that is no number; values and limits of one column.
    """
    from aistudio.errors import ConfigError
    from aistudio.search.held import Range

    values: dict[str, list[str]] = {}
    limits: dict[str, dict[str, float]] = {}
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise ConfigError(f"--where {text}: expected COLUMN=VALUE, COLUMN>=NUMBER or COLUMN<=NUMBER")
        column, sign, value = match.groups()
        if sign == "=":
            values.setdefault(column, []).append(value)
            continue
        try:
            limits.setdefault(column, {})["low" if sign == ">=" else "high"] = float(value)
        except ValueError:
            raise ConfigError(f"--where {text}: {value!r} is no number") from None
    if both := sorted(values.keys() & limits.keys()):
        raise ConfigError(f"--where: {both[0]} has values and limits; give one kind")
    return {**values, **{column: Range(**limit) for column, limit in limits.items()}}


def _print(made: "Exported") -> None:
    about: dict[str, Any] = made.about
    vectors, column = about["vectors"], about["vectors"]["column"]
    print(f"{about['rows']:,} rows, vectors {column} of {vectors['dim']} numbers, {vectors['dtype']}")
    if about["without_vector"]:
        print(f"{about['without_vector']:,} rows have no vector: {about['without_vector_are']}")
    if about["told_as_text"]:
        print(f"columns that are texts there: {', '.join(about['told_as_text'])}")
    if about.get("renamed"):
        print(f"columns under another name: {', '.join(f'{a} as {b}' for a, b in about['renamed'].items())}")
    if (overlap := about.get("overlap")) and overlap["value"] is not None:
        what = "int8 vectors" if vectors["dtype"] == "int8" else "vectors"
        print(
            f"{what} of {vectors['dim']} of {vectors['stored_dim']} numbers find {overlap['value']:.1%} of the "
            f"{overlap['k']} nearest rows that the exact ones find (overlap@{overlap['k']}, "
            f"{overlap['queries']:,} rows of the run as queries)"
        )
    print(f"read back and compared: {about['rows_read_back']:,} rows, ids and vectors equal to the run's")
    how = "open it" if made.from_bucket else "copy it into a FOLDER to open it"
    print(f"written: {made.place}    {how}: {made.opened_by}")
