"""Run a job on a Ray cluster: ship the code and the conf, stream the logs, end with the job's exit code."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aistudio import builtin
from aistudio.errors import ConfigError
from aistudio.jobs.common import add_set
from aistudio.pipeline.shipping import copy_shipped, is_elsewhere, leaves, requirements, ships
from aistudio.secrets import refuse_secrets

if TYPE_CHECKING:
    from aistudio.config import JobConfig, ManifestSettings, TrainSettings

JOBS = ("score", "aggregate", "report", "select", "verify", "retry", "train")
DESCRIPTION = """\
Run a job on a Ray cluster, with the conf file that runs it here.

  python -m aistudio submit --address http://head:8265 --conf conf/x.yaml --set output=s3://bucket/run
  python -m aistudio submit --address http://head:8265 --job aggregate --run s3://bucket/run
  python -m aistudio submit --address http://head:8265 --status|--logs|--stop ID

Ships the working directory without data, outputs, weights (weights/demo goes), hidden files and keys. Ctrl-C leaves
the job running. Exit codes are the job's: 0 done, 2 settings or manifest are wrong, 1 failed or stopped, 3 too many
rows failed.
Credentials (S3 keys, tokens) never travel with a job: give them to the cluster's nodes. See docs/cluster.md."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aistudio submit", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--address", help="the head node's dashboard, e.g. http://head:8265; default: RAY_API_SERVER_ADDRESS"
    )
    parser.add_argument("--job", choices=JOBS, default="score", help="which job (default: score)")
    parser.add_argument("--conf", metavar="FILE", help="settings of score or train, inside the working directory")
    parser.add_argument("--run", metavar="R", help="run folder of the other jobs, as the cluster sees it")
    add_set(parser)
    parser.add_argument("--working-dir", type=Path, default=Path(), help="what is shipped (default: here)")
    parser.add_argument(
        "--ship", type=Path, action="append", default=[], metavar="PATH",
        help="also ship this file or folder of the working directory, e.g. weights/published; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--install", action="store_true",
        help="install the project's requirements on the nodes first, in the versions used here (slow: several GB)",
    )  # fmt: skip
    parser.add_argument("--detach", action="store_true", help="print the job's id and return at once")
    parser.add_argument("extra", nargs="*", metavar="-- FLAGS", help="further flags of the job, e.g. -- --dry-run")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--status", metavar="ID", help="print the state of a job")
    known.add_argument("--logs", metavar="ID", help="stream a job's output to its end; ends with its exit code")
    known.add_argument("--stop", metavar="ID", help="stop a job; the same submission later resumes it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    address = args.address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not address:
        raise ConfigError("--address is missing: the head node's dashboard, e.g. --address http://head:8265")
    if args.status or args.logs or args.stop:
        return _ask(address, args)
    entrypoint = _entrypoint(args)

    from aistudio.pipeline.submission import JobServer

    server = JobServer(address)
    with tempfile.TemporaryDirectory(prefix="aistudio-submit-") as folder:
        size = copy_shipped(args.working_dir, Path(folder), args.ship)
        print(f"shipping {size / 1e6:.1f} MB to {address}", file=sys.stderr)
        job_id = server.submit(entrypoint, Path(folder), requirements() if args.install else [], args.job)
    print(f"job {job_id}: {entrypoint}", file=sys.stderr)
    if args.detach:
        print(job_id)
        return 0
    try:
        return server.follow(job_id)
    except KeyboardInterrupt:
        again = f"python -m aistudio submit --address {address}"
        print(f"\nThe job goes on.  {again} --logs {job_id}   stop it: {again} --stop {job_id}", file=sys.stderr)
        return 1


def _ask(address: str, args: argparse.Namespace) -> int:
    from aistudio.pipeline.submission import JobServer

    server = JobServer(address)
    if args.logs:
        return server.follow(args.logs)
    print(server.stop(args.stop) if args.stop else server.describe(args.status))
    return 0


def _entrypoint(args: argparse.Namespace) -> str:
    """The command for the cluster, after every check that can be made here.

    Raises:
        ConfigError: flags do not fit the job, a secret would travel, or a path means nothing on the cluster.
    """
    refuse_secrets([*args.overrides, *args.extra])
    command = ["python", "-m", "aistudio", args.job]
    if args.job in ("score", "train"):
        if not args.conf or args.run:
            raise ConfigError(f"--job {args.job} takes --conf, not --run")
        command += ["--conf", _checked_conf(args)]
    else:
        if not args.run or args.conf:
            raise ConfigError(f"--job {args.job} takes --run, not --conf")
        _refuse_here_only("--run", args.run)
        command += ["--run", args.run]
    for override in args.overrides:
        command += ["--set", override]
    return shlex.join([*command, *args.extra])


def _checked_conf(args: argparse.Namespace) -> str:
    """Return the conf's path inside the working directory; everything that it names has been looked at."""
    root = args.working_dir.resolve()
    conf = Path(args.conf)
    conf = (conf if conf.exists() else root / conf).resolve()
    if not conf.is_relative_to(root):
        raise ConfigError(
            f"--conf {args.conf}: not inside the working directory {root}, so it would not be shipped; "
            "copy it there, or give its folder: --working-dir"
        )
    from aistudio.config import load_config, load_train_config

    settings: JobConfig | TrainSettings
    if args.job == "train":
        settings = load_train_config(conf, args.overrides)
        section, address, inputs = "workers", settings.workers.address, _training_inputs(settings, root)
    else:
        settings = load_config(conf, args.overrides)
        if settings.base is not None:
            _refuse_here_only("base", settings.base)
        section, address, inputs = "engine", settings.engine.address, _inputs(settings, root)
    refuse_secrets(leaves(settings.model_dump(mode="json")))
    if address:
        raise ConfigError(f"{section}.address: a submitted job runs on the cluster it is submitted to; leave it null")
    _refuse_here_only("output", settings.output)
    for name, path in inputs:
        if not is_elsewhere(path) and not ships(Path(path), args.ship):
            raise ConfigError(
                f"{name}: {path} is not shipped with the job: use s3://, an absolute path that every node has, "
                "or --ship it"
            )
    return str(conf.relative_to(root))


def _training_inputs(settings: "TrainSettings", root: Path) -> Iterable[tuple[str, str]]:
    """Files that the training will read, under the name of their setting."""
    for name, source in (("data", settings.data), ("data.validation", settings.data.validation)):
        if source.run:
            yield f"{name}.run", source.run
        if source.manifest:
            yield from ((f"{name}.manifest.path", path) for path in _paths(source.manifest))
    table = getattr(settings, "poi_table", None)
    if table and table != "build":
        yield "poi_table", table
    for name, conf in (("model", settings.model), ("towers_from", getattr(settings, "towers_from", None))):
        if conf is not None:
            yield from _model_inputs(name, conf, root)


def _paths(manifest: "ManifestSettings") -> list[str]:
    return manifest.path if isinstance(manifest.path, list) else [manifest.path]


def _inputs(config: "JobConfig", root: Path) -> Iterable[tuple[str, str]]:
    """Files that the job will read, under the name of their setting."""
    yield from (("manifest.path", path) for path in _paths(config.manifest))
    if config.models.poi_table:
        yield "models.poi_table", config.models.poi_table
    for role, conf in (("recall", config.models.recall), ("ranking", config.models.ranking)):
        if conf is not None:
            yield from _model_inputs(f"models.{role}", conf, root)


def _model_inputs(name: str, conf: str, root: Path) -> Iterable[tuple[str, str]]:
    from aistudio.config import is_model_text, load_model_config

    if is_model_text(conf):  # the nodes fetch it by its commit
        return
    named = builtin.is_name(conf)  # one that comes with AI Studio, which the nodes have too
    if not named:
        yield name, conf
    if is_elsewhere(conf):
        return
    model = load_model_config(conf if named else root / conf)
    refuse_secrets(f"{conf}: url={f.url}" for f in model.files if f.url)
    yield from ((f"{conf}: {f.path}", f.path) for f in model.files if not f.url)  # with one, the nodes fetch it


def _refuse_here_only(name: str, path: str) -> None:
    if not is_elsewhere(path):
        raise ConfigError(
            f"{name}: {path} would lie in a temporary folder of the head node; "
            "use s3://bucket/prefix or an absolute path on a disk that all nodes share"
        )
