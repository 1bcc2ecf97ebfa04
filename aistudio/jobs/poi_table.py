"""The POI table that the ranking model needs: converted from the published files, or built from a run."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from aistudio.jobs.common import add_set
from aistudio.places import in_bucket

DESCRIPTION = """\
Make the POI table (name, mean image vector, name vector, picture counts) that models.poi_table points to.

  convert   from the paper's .npy files, read by a restricted reader that runs nothing in them
  build     from a scored run of your own catalogue: the mean of each POI's 10 best-scored images"""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="aistudio poi_table", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    convert = verbs.add_parser("convert", help="from the published .npy files")
    convert.add_argument("--counts", required=True, metavar="NPY", help="name -> picture counts")
    convert.add_argument("--images", metavar="NPY", help="name -> mean image vector")
    convert.add_argument("--names", metavar="NPY", help="name -> name vector")
    build = verbs.add_parser("build", help="from a scored run")
    build.add_argument("--run", required=True, metavar="R", help="run folder with a ranking model")
    build.add_argument("--name-column", default="text", help="column that names the POI of an image (default: text)")
    build.add_argument("--counts", metavar="CSV", help="picture counts: name,n0,n1,n2 (default: number of images)")
    add_set(build)
    for verb in (convert, build):
        verb.add_argument("--out", required=True, metavar="PARQUET", help="the table to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.places import require_place, split_place
    from aistudio.store import open_store

    args.out = require_place("--out", args.out)
    folder, name = split_place(args.out)
    if args.verb == "convert":
        from aistudio.poi_table import convert_published

        table = convert_published(args.counts, args.images, args.names)
    else:
        from aistudio.pipeline.poi_table import poi_table_of_run, read_counts
        from aistudio.runs.record import stored_settings

        config = stored_settings(args.run, args.overrides)
        counts = read_counts(args.counts) if args.counts else None
        store = open_store(args.run, config.store)
        table = poi_table_of_run(store, config, name_column=args.name_column, counts=counts)
    open_store(folder).write_table(name, table)
    with_images = len(table) - table["image_vector"].null_count
    print(f"{len(table):,} POIs, {with_images:,} with an image vector: {args.out} ({_size(args.out)})")
    print(f"use it: --set models.poi_table={args.out}")
    return 0


def _size(path: str) -> str:
    return path if in_bucket(path) else f"{Path(path).stat().st_size:,} bytes"
