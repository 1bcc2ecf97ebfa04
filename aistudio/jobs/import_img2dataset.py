"""Turn the output of img2dataset into a manifest and a conf file, without fetching anything again."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from aistudio.jobs.common import add_set

DESCRIPTION = """\
Read what img2dataset has written (output_format webdataset, files or parquet, with its tables and statistics) as a
manifest. The pictures stay where they are: the manifest says in which file, and where in it, each one lies.

  aistudio import_img2dataset laion_subset --out laion.parquet --conf laion.yaml
  aistudio score --conf laion.yaml --dry-run

Rows that img2dataset did not get are left out and counted by its own status, in OUT_left_out.parquet with key, address
and reason; --failed fetch keeps them with their addresses, to be fetched once more.
Exit codes: 0 written; 2 no finished output there, or a file that is there already."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="aistudio import_img2dataset", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", help="img2dataset's output_folder, local or in a bucket")
    parser.add_argument("--out", required=True, metavar="FILE", help="the manifest to write, a Parquet file")
    parser.add_argument("--conf", metavar="FILE", help="conf file to write beside it")
    parser.add_argument("--output", default="scores", metavar="R", help="run folder in the conf (default: %(default)s)")
    parser.add_argument("--model", default="siglip", help="recall model in the conf (default: %(default)s)")
    parser.add_argument("--item", default="key", metavar="COLUMN", help="column that names the item (default: key)")
    parser.add_argument(
        "--failed",
        choices=("leave_out", "fetch"),
        default="leave_out",
        help="rows without a picture (default: leave_out)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    add_set(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.catalogue.guessing import Guess
    from aistudio.config import StoreSettings, parse_config
    from aistudio.errors import ConfigError
    from aistudio.jobs.init import conf_text
    from aistudio.places import BUCKETS, require_place
    from aistudio.runs.img2dataset import import_output

    folder = require_place("FOLDER", args.folder, BUCKETS)
    target = Path(require_place("--out", args.out, ()))
    conf = Path(args.conf) if args.conf else None
    for flag, path in (("--out", target), ("--conf", conf)):
        if path is not None and path.exists() and not args.force:
            raise ConfigError(f"{flag} {path}: there already; say --force to overwrite it, or name another file")
    any_job = {"manifest": {"path": "x", "format": "csv"}, "output": args.output, "models": {"recall": args.model}}
    store = parse_config(any_job, "--set", args.overrides).store if args.overrides else StoreSettings()
    done = import_output(folder, target, store, fetch_failed=args.failed == "fetch", item=args.item)
    left = sum(done.left_out.values())
    print(f"{done.shards:,} shards: {done.rows:,} rows in {target}; {left:,} left out")
    if done.fetch:
        print(f"  {done.fetch:,} of the rows have no picture yet and will be fetched from their addresses")
    for reason, num in done.left_out.most_common():
        print(f"  {reason:<24} {num:>12,}")
    for note in done.notes:
        print(f"  note: {note}")
    if conf is not None:
        guess = Guess(("image_url",), "item_id", "text", None)
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(conf_text(str(target), "parquet", guess, args.output, args.model), encoding="utf-8")
        print(f"written: {conf}\nnext: python -m aistudio score --conf {conf} --dry-run")
    return 0
