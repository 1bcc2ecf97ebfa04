"""Serve a run's search page and its API."""

from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aistudio.jobs.common import add_set

if TYPE_CHECKING:
    from aistudio.serving.opening import ServePlan

DESCRIPTION = """\
A page to search stored runs with, and a JSON API (/v1/, described at /docs): by text, photograph, "more like this", and
a picture with words; filters from the stored columns; two models or runs side by side; results as CSV and Parquet.
Exact: ids and scores are those of jobs.search.

It binds 127.0.0.1:8080 unless --host and --port say otherwise; another address than this machine's own needs a token
(AISTUDIO_SERVE_TOKEN, at least 16 characters). /live, /ready and /metrics are for operators; the access log is JSON, a
line for each request, on standard output. Ctrl-C ends it. Settings: the section `serve` (docs/serve.md).

--on-cluster --shards N serves from Ray (engine.address, RAY_ADDRESS, else one on this machine): the index in N parts,
each in a process of its own, with the same answers; a run that is replaced is loaded and served without a pause."""

SERVE_ONLY = ("watchfiles", "mmh3")  # what ray[serve] has beside ray[default]


def build_parser() -> ArgumentParser:
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(prog="aistudio serve", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, nargs="+", metavar="R", help="run folders, local or s3://bucket/prefix")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="only this model's vectors")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="hold only rows with it")
    parser.add_argument("--columns", metavar="A,B", help="stored columns to keep and show (default: all)")
    parser.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, metavar="N", help="default: 8080; 0: a free one")
    parser.add_argument("--on-cluster", action="store_true", help="on Ray Serve: the index in shards over the cluster")
    parser.add_argument("--shards", type=int, metavar="N", help="parts of the index, with --on-cluster (default: 1)")
    add_set(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be held, load nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    _require_packages(args.on_cluster)
    from aistudio.serving.opening import open_engines, plan_serve, visitors_token

    overrides = [*args.overrides, *_as_settings(args)]
    if args.on_cluster or args.shards is not None:
        return _on_cluster(args, overrides)
    plan = plan_serve(args.run, overrides, models=args.model, where=_where(args.where))
    token = visitors_token(plan.settings)
    for one in plan.indexes:
        print(f"{one.name} ({one.model.kind}): {one.plan.text()}")
    if args.dry_run:
        return 0
    engines = open_engines(plan, lambda line: print(line, flush=True))
    return _serve(plan, engines, token)


def _serve(plan: "ServePlan", engines: Any, token: str | None) -> int:
    import uvicorn

    from aistudio.serving.app import make_app

    settings = plan.settings
    app = make_app(settings, plan.config, engines, token=token)
    config = uvicorn.Config(
        app, settings.host, settings.port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=settings.shutdown_s, limit_concurrency=1_000, h11_max_incomplete_event_size=65_536,
        timeout_keep_alive=30,
    )  # fmt: skip
    server = _server(config)
    with suppress(KeyboardInterrupt):  # uvicorn has shut down and raises the signal again
        server.run()
    print("stopped", flush=True)
    return 0 if server.started else 1


def _on_cluster(args: Any, overrides: Sequence[str]) -> int:
    from aistudio.errors import ConfigError
    from aistudio.serving.opening import visitors_token

    num = 1 if args.shards is None else args.shards
    if not args.on_cluster or num < 1:
        raise ConfigError("--shards N: a number from 1 on, with --on-cluster")
    from aistudio.pipeline.serve_cluster import serve_until_stopped
    from aistudio.pipeline.serve_shards import Spec

    spec = Spec(tuple(args.run), tuple(overrides), tuple(args.model), _where(args.where), num)
    plan = spec.plan()
    settings, token = plan.settings, visitors_token(plan.settings)
    if settings.port == 0:
        raise ConfigError("--port 0: on a cluster the port must be named")
    for one in plan.indexes:
        print(f"{one.name} ({one.model.kind}): {spec.text(one)}")
    if args.dry_run:
        return 0
    serve_until_stopped(spec, token, settings, plan.config.engine)
    print("stopped", flush=True)
    return 0


def _server(config: Any) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Says where it is once it listens."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                host, port = self.servers[0].sockets[0].getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(
                    f"\nsearch page: http://{shown}:{port}/    API: http://{shown}:{port}/docs    Ctrl-C ends it",
                    flush=True,
                )

    return Server(config)


def _require_packages(on_cluster: bool) -> None:
    from importlib.util import find_spec

    from aistudio.errors import ConfigError

    needed = ["fastapi", "uvicorn", "python_multipart", "prometheus_client", *(SERVE_ONLY if on_cluster else ())]
    if missing := [name for name in needed if find_spec(name) is None]:
        extra = "serve-cluster" if on_cluster else "serve"
        raise ConfigError(f"the search page needs {', '.join(missing)}: pip install 'aistudio-catalogue[{extra}]'")


def _as_settings(args: Any) -> list[str]:
    found = []
    if args.host is not None:
        found.append(f"serve.host={args.host}")
    if args.port is not None:
        found.append(f"serve.port={args.port}")
    if args.columns is not None:
        found.append(f"serve.columns=[{args.columns}]")
    return found


def _where(conditions: Sequence[str]) -> dict[str, list[str]]:
    """COLUMN=VALUE, repeated: several values of a column are alternatives."""
    from aistudio.errors import ConfigError

    found: dict[str, list[str]] = {}
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not column or not equals:
            raise ConfigError(f"--where {condition}: expected COLUMN=VALUE")
        found.setdefault(column, []).append(value)
    return found
