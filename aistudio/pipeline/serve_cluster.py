"""The search page and its API on Ray Serve: started, watched and stopped (serve_replicas.py is what runs there)."""

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve

from aistudio.config import EngineSettings, ServeSettings
from aistudio.errors import AIStudioError, ConfigError
from aistudio.pipeline.cluster import connect, wait_for_room
from aistudio.pipeline.plan import Resources
from aistudio.pipeline.serve_replicas import LOAD_S, Front, ShardReplica
from aistudio.pipeline.serve_shards import Spec
from aistudio.pipeline.stopping import signals_as_before
from aistudio.serving.opening import visitors_token

APP = "aistudio"
LOOK_S = 1.0
REQUEST_S = 120.0  # for an answer, also while the front is started again
QUIET = {"enable_access_log": False}  # Ray Serve's own; the app has one
EVERYWHERE = "serve.host=0.0.0.0"  # Ray Serve says where it listens; the app's rules are those of an open server


def application(spec: Spec, token: str | None, settings: ServeSettings) -> Any:
    """Return the Ray Serve application of a spec."""
    common: dict[str, Any] = {
        "num_replicas": 1, "ray_actor_options": {"num_cpus": settings.shard_cpus}, "logging_config": QUIET,
        "graceful_shutdown_timeout_s": settings.shutdown_s,
    }  # fmt: skip
    shard = serve.deployment(ShardReplica, max_ongoing_requests=200, **common)
    shards = [shard.options(name=f"shard_{i}").bind(spec, i) for i in range(spec.shards)]
    front = serve.deployment(serve.ingress()(Front), name="front", max_ongoing_requests=1_000, **common)
    return front.bind(spec, token, *shards)


def build(args: dict[str, Any]) -> Any:
    """Return the application of a RayService (deploy/serve.yaml).

    Args:
        args: `runs`, and where wanted `shards`, `settings` ("serve.max_results=50"), `models`, `where`.

    Raises:
        ConfigError: an argument cannot be right, or no token is set (AISTUDIO_SERVE_TOKEN in the pods' environment).
    """
    known = {"runs", "shards", "settings", "models", "where"}
    runs, shards = args.get("runs"), args.get("shards", 1)
    if extra := sorted(args.keys() - known):
        raise ConfigError(f"args: {', '.join(extra)}: not known; there are {', '.join(sorted(known))}")
    if not isinstance(runs, list) or not runs or not all(isinstance(run, str) for run in runs):
        raise ConfigError("args: runs: expected a list of run folders")
    if not isinstance(shards, int) or shards < 1:
        raise ConfigError(f"args: shards: expected a whole number from 1 on, found {shards!r}")
    settings = (EVERYWHERE, *args.get("settings", ()))
    spec = Spec(tuple(runs), settings, tuple(args.get("models", ())), args.get("where"), shards)
    plan = spec.plan()
    return application(spec, visitors_token(plan.settings, always=True), plan.settings)


def serve_until_stopped(spec: Spec, token: str | None, settings: ServeSettings, engine: EngineSettings) -> None:
    """Serve on the Ray that the engine's settings name, else on one of this machine, until Ctrl-C.

    Raises:
        ConfigError: the cluster cannot have room, or serves something already. AIStudioError: it did not start, or the
            cluster went away.
    """
    with signals_as_before() as again, connect(engine, environments=True) as resources:
        again()
        check_room(spec, settings, engine, resources)
        try:
            run_application(spec, token, settings)
            base = f"http://{settings.host}:{settings.port}"
            print(f"\nsearch page: {base}/    API: {base}/docs    Ctrl-C ends it", flush=True)
            _watch()
        except KeyboardInterrupt:
            print("stopping", flush=True)
        except ray.exceptions.RayError as e:
            raise AIStudioError(f"the cluster cannot be asked any longer: {e}") from None
        finally:
            stop_application()


def run_application(spec: Spec, token: str | None, settings: ServeSettings) -> None:
    """Start the application on the Ray that is connected, and return when it answers. Raises AIStudioError."""
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.host, "port": settings.port, "request_timeout_s": REQUEST_S},
        )
        target = serve.RunTarget(application(spec, token, settings), name=APP, route_prefix="/")
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        _wait_until_it_runs()
    except (RuntimeError, TimeoutError, ray.exceptions.RayError) as e:
        raise AIStudioError(f"Ray Serve could not start: {_end(str(e))}") from None


def check_room(spec: Spec, settings: ServeSettings, engine: EngineSettings, resources: Resources) -> None:
    """See that shards and front have room, and Ray Serve to themselves. Raises as `serve_until_stopped`."""
    there = serve.status()
    if there.applications or there.proxies:
        names = ", ".join(there.applications) or "no application yet"
        raise ConfigError(f"this cluster has a Ray Serve already ({names}): stop it (`serve shutdown`)")
    need = (spec.shards + 1) * settings.shard_cpus
    if need > resources.cpus and not resources.can_grow:
        raise ConfigError(
            f"{spec.shards} shards and the front reserve {need:g} CPUs, there are {resources.cpus:g}: fewer "
            f"--shards, or less for each (--set serve.shard_cpus={resources.cpus / (spec.shards + 1):.2g})"
        )
    wait_for_room([{"CPU": settings.shard_cpus}] * (spec.shards + 1), engine, resources)


def _wait_until_it_runs() -> None:
    end = time.monotonic() + LOAD_S
    while time.monotonic() < end:
        state = serve.status().applications.get(APP)
        if state is not None and state.status == "RUNNING":
            return
        if state is not None and state.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            reasons = [one.message for one in state.deployments.values() if one.message] or [state.message]
            raise AIStudioError(f"Ray Serve could not start the shards: {_end(reasons[0])}")
        time.sleep(LOOK_S)
    raise AIStudioError(f"Ray Serve did not start the shards within {LOAD_S:,.0f} s")


def _watch() -> None:
    """Say what changes, for ever."""
    before: Mapping[str, str] = {}
    while True:
        state = serve.status().applications.get(APP)
        if state is None:
            raise AIStudioError("the application was removed from Ray Serve")
        now = {name: str(one.status.value) for name, one in state.deployments.items()}
        for name in sorted(n for n in now if before and now[n] != before.get(n)):
            print(f"{name}: {now[name].lower()}", flush=True)
        before = now
        time.sleep(LOOK_S)


def stop_application() -> None:
    """Stop the application and the Ray Serve that was started for it."""
    try:
        serve.shutdown()
    except (RuntimeError, TimeoutError, ray.exceptions.RayError) as e:
        print(f"Ray Serve did not stop in order: {_end(str(e))}", flush=True)


def _end(text: str) -> str:
    """Return the end of Ray's message, where the reason is."""
    return text.strip()[-1_500:]
