"""`aistudio <verb>`, also `python -m aistudio <verb>`. Imports a job only when it is asked for."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from aistudio.jobs.common import run

VERBS = {
    "init": "write a conf file for a manifest that it has looked at",
    "import_img2dataset": "a manifest from what img2dataset has fetched",
    "doctor": "is this machine ready? what is fine, what is not, what to do",
    "score": "score a manifest of image URLs: one stored row per manifest row",
    "aggregate": "metrics from a run's stored rows",
    "report": "HTML report of a run",
    "select": "the best images of each item, from stored scores",
    "search": "items like items, pictures like a picture or a text",
    "export": "hand a run on to FAISS, LanceDB, WebDataset, NumPy or Hugging Face",
    "serve": "a search page and a JSON API over stored runs",
    "compare": "is run B better than run A?",
    "runs": "the runs in a folder: state, rows, size, age; prune old ones",
    "verify": "prove from the stored files that every row has exactly one outcome",
    "retry": "score the failed rows of a finished run again",
    "weights": "fetch, verify and list model weights",
    "poi_table": "build or convert the POI table that ranking needs",
    "submit": "run a job on a Ray cluster",
    "demo": "the whole job on a drawn catalogue, end to end",
    "survey": "ask people which recommendations they prefer, and analyse the answers",
    "train": "train a model on your own data",
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the verb that the command line names and exit with its code."""
    run(_verb, list(sys.argv[1:] if argv is None else argv))


def _verb(args: Sequence[str] | None) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_usage())
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        from aistudio.version import version

        print(f"aistudio {version()}")
        return 0
    verb, *rest = args
    if verb not in VERBS:
        near = difflib.get_close_matches(verb.lower().replace("-", "_"), VERBS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"error: {verb} is not a verb{hint}\n\n{_usage()}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"aistudio.jobs.{verb}").main(rest))


def _usage() -> str:
    lines = [f"  {verb:<18} {text}" for verb, text in VERBS.items()]
    return "\n".join(["usage: aistudio <verb> [options]      aistudio <verb> --help explains; --version", "", *lines])
