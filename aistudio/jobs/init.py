"""Write a commented conf file for a manifest, with columns guessed from its names and values."""

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aistudio.jobs.common import add_set

if TYPE_CHECKING:
    from aistudio.catalogue.guessing import Guess
    from aistudio.runs.manifest_sample import Sample

DESCRIPTION = """\
Look at a manifest, guess which columns hold what, show the guess and write it into a conf file that scores as it is.

  aistudio init catalogue.csv
  aistudio score --conf aistudio.yaml --dry-run

What is guessed wrongly is changed in the file. A file that is there is never overwritten without --force.
Exit codes: 0 written; 2 nothing to read there, or no column that looks like addresses of pictures."""

DEFAULT_MODEL = "siglip"


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="aistudio init", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter)
    kinds = "csv, tsv, jsonl, parquet, tar or zip file, a Lance data set or a folder of pictures"
    parser.add_argument("manifest", metavar="MANIFEST", help=kinds)
    parser.add_argument("--conf", default="aistudio.yaml", metavar="FILE", help="to write (default: %(default)s)")
    parser.add_argument("--output", default="scores", metavar="R", help="run folder (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="recall model: name or conf file (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite a conf file that is there")
    add_set(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.catalogue.guessing import guess
    from aistudio.config import StoreSettings, load_config, load_model_config, parse_config
    from aistudio.errors import ConfigError
    from aistudio.places import BUCKETS, require_place
    from aistudio.runs.manifest_sample import sample
    from aistudio.runs.snapshot import find_manifest
    from aistudio.secrets import refuse_secrets

    path = require_place("MANIFEST", args.manifest, (*BUCKETS, "hf", "https", "http"))
    target = Path(args.conf)
    if target.exists() and not args.force:
        raise ConfigError(f"--conf {target}: there already; say --force to overwrite it, or name another file")
    refuse_secrets([f"manifest.path={path}", f"output={args.output}", *args.overrides])
    load_model_config(args.model)
    any_job = {"manifest": {"path": path, "format": "csv"}, "output": args.output, "models": {"recall": args.model}}
    store = parse_config(any_job, "--set", args.overrides).store if args.overrides else StoreSettings()
    looked = sample(path, store)
    found = guess(looked.names, looked.rows)
    if looked.pictures:
        found = found._replace(images=(looked.pictures,), separator=None)
    _show(looked, found)
    _refuse_what_is_missing(path, looked, found)
    text = conf_text(path, looked.format, found, args.output, args.model)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    try:
        find_manifest(load_config(target, args.overrides))
    except Exception:
        target.unlink()  # it would not score as it is
        raise
    print(f"\nwritten: {target}\nnext: python -m aistudio score --conf {_quoted(str(target))} --dry-run")
    return 0


def _refuse_what_is_missing(path: str, looked: "Sample", found: "Guess") -> None:
    from aistudio.errors import ConfigError
    from aistudio.runs.manifest_sample import OWN_COLUMNS

    if looked.format in OWN_COLUMNS:
        return
    needed = {"addresses of pictures": found.images, "an item's id": found.item_id is not None or looked.pictures}
    for what, there in needed.items():
        if not there:
            names = ", ".join(map(_quoted, looked.names)) or "none"
            raise ConfigError(f"{path}: no column looks like {what}; columns: {names}")


def conf_text(path: str, kind: str, found: "Guess", output: str, model: str) -> str:
    """Return the conf file's text; names of any kind are quoted so that YAML reads them back as they are."""
    columns = []
    if found.images:
        images = _quoted(found.images[0]) if len(found.images) == 1 else f"[{', '.join(map(_quoted, found.images))}]"
        columns = [
            "  columns:  # ours: the manifest's",
            f"    item_id: {_quoted(found.item_id)}  # what one item of the catalogue is; its rows are compared"
            if found.item_id is not None
            else "    # item_id: SKU  # nothing looked like an item's id; without one each picture is an item",
            f"    image_url: {images}  # http(s)://, s3:// or a path; several columns, or a list in one, become rows",
            f"    text: {_quoted(found.text)}  # what the picture should show"
            if found.text is not None
            else "    # text: TITLE  # nothing looked like a title; without one there is no recall_score",
        ]
    separator = f"  image_separator: {_quoted(found.separator)}  # between addresses in one field"
    lines = [
        "# Made by `aistudio init`. Every setting: docs/settings.md. Check it: aistudio score --conf FILE --dry-run",
        "manifest:",
        f"  path: {_quoted(path)}  # a file, a pattern, a folder; local, s3:// or http(s)://",
        f"  format: {kind}",
        *columns,
        *([separator] if found.separator else []),
        "  # limit: 100  # try the first rows alone",
        f"output: {_quoted(output)}  # a new folder, or s3://bucket/prefix; typed again, the same command resumes",
        "models:",
        f"  recall: {_quoted(model)}  # `aistudio weights list` shows the built-in ones; or a conf file of your own",
        "  # ranking: published_ranking  # which picture is clicked; wants models.poi_table",
        "download:",
        "  timeout_s: 20  # for one picture, redirects and retries apart",
        "  # allow_private_addresses: true  # pictures on this machine or in a private network",
        "engine:",
        "  max_failed_share: 0.25  # more failed rows end with exit code 3; null: any number",
        "report:",
        "  title: My catalogue",
    ]
    return "\n".join(lines) + "\n"


def _show(looked: "Sample", found: "Guess") -> None:
    from aistudio.secrets import redact

    if not looked.names and not looked.pictures:
        print(f"{looked.format}: each picture becomes a row")
        return
    roles = dict.fromkeys(found.images, "image_url") | {found.item_id: "item_id", found.text: "text"}
    if looked.pictures:
        print(f"  image_url  {_quoted(looked.pictures)[:40]:<40} (pictures themselves)")
    print(f"{looked.format}, {len(looked.names)} columns; the first {len(looked.rows)} records say:")
    for name in looked.names:
        example = next((str(row[name]) for row in looked.rows if row.get(name) not in (None, "")), "")
        shown = _quoted(redact(example)[:60]) if example else "(empty)"
        print(f"  {roles.get(name, 'kept'):<10} {_quoted(name)[:40]:<40} {shown}")


def _quoted(text: str | None) -> str:
    """The text as YAML on one line, in quotes where it is not a plain word."""
    import yaml

    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text or "", re.ASCII)
    if text and plain and yaml.safe_load(text) == text:
        return text
    shown: str = yaml.dump(text or "", default_style='"', allow_unicode=True, width=1 << 30)
    return shown.strip()
