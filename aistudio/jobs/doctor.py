"""Is this machine ready for a run? What is fine, what is not, what to do."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from aistudio.jobs.common import add_set

DESCRIPTION = """\
Is this machine ready for a run? Looks at Python, packages, torch and CUDA, cores, memory, disk, Ray, /dev/shm, proxies
and certificates, the demo's weights and, with --output, at the place that results go to. Starts nothing.

Exit codes: 0 a run would start; 2 something would stop it (marked `bad`)."""

_MARKS = {"ok": "ok  ", "note": "note", "bad": "bad "}


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="aistudio doctor", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", metavar="PLACE", help="also try to write there: a folder or s3://bucket/prefix (leaves nothing)"
    )
    add_set(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.config import parse_config
    from aistudio.pipeline.doctor import findings
    from aistudio.places import require_place
    from aistudio.secrets import redact

    place = args.output and require_place("--output", args.output)
    any_job = {"manifest": {"path": "x", "format": "csv"}, "output": "x", "models": {"recall": "x"}}
    settings = parse_config(any_job, "--set", args.overrides)
    bad = 0
    for finding in findings(place, settings.store):
        bad += finding.state == "bad"
        print(f"{_MARKS[finding.state]}  {finding.name:<13} {redact(finding.text)}", flush=True)
        if finding.advice:
            print(f"      {'':<13} -> {finding.advice}", flush=True)
    print(f"\n{bad} thing{'s' * (bad != 1)} would stop a run" if bad else "\nready: aistudio demo")
    return 2 if bad else 0
