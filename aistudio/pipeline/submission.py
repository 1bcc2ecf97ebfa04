"""Ray's job server from outside the cluster: hand a job in, follow it, ask after it, stop it.

What is shipped and what may be said in a job's command line is decided in jobs/submit.py. Nothing here starts or
joins a cluster; everything goes over HTTP to the head node's dashboard port.
"""

import asyncio
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aistudio.errors import TOO_MANY_FAILED, AIStudioError, ConfigError

_POLL_S = 0.5
_STATE_AFTER_LOGS_S = 60.0  # the log stream may end a little before the state is written
_STOP_S = 60.0
_REATTACH = 5  # times in a row that a broken log stream is opened again
_OURS = (0, 1, 2, TOO_MANY_FAILED)  # exit codes that mean something; see jobs/common.py
_TAIL = 4000  # characters
_AGENT_S = 30.0  # for the head's job agent to come up
_NO_AGENT = "No available agent"
_LACKING = re.compile(r"No module named '?([\w.]+)")

TOKEN_HELP = """\
The cluster wants its access token. Since 2.60 Ray asks for one unless it was started with RAY_AUTH_MODE=disabled.
  on the head node:   ray get-auth-token
  on this machine:    put it into ~/.ray/auth_token (mode 600), or into RAY_AUTH_TOKEN; and set RAY_AUTH_MODE=token
The token goes into the request's header only: not into the conf, the command line or the job's metadata."""


_NO_AGENT_HELP = """\
the head takes no jobs: its job agent is not running. Most often another Ray on that
machine already had the agent's port (52365) when `ray start` ran; the head's logs/dashboard_agent.log says so.
Start the head on ports of its own:
  ray start --head --port=6380 --dashboard-port=8266 --dashboard-agent-listen-port=52366"""
_LACKING_HELP = """\
The cluster's machines lack the Python package {name}. Ways out: --install (Ray installs the requirements on
each node first; several GB), or install them where Ray runs (docs/cluster.md), or, if {name} is this project's own
code, submit from the folder that holds it (--working-dir)."""


def _use_token() -> None:
    """Have a token that is there used without a word about the mode, as Ray's own `ray job submit` does.

    A Ray that has this elsewhere uses a token where RAY_AUTH_MODE=token says so.
    """
    try:
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    except ImportError:
        return
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


class JobServer:
    """A cluster's job server.

    Raises (from every method):
        ConfigError: the token is missing or wrong, or there is no such job.
        AIStudioError: the server cannot be reached or refuses.
    """

    _tail = ""  # the end of the log that was followed

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        _use_token()
        self.address = address
        with self._explained():
            self._client = JobSubmissionClient(address)

    def submit(self, entrypoint: str, working_dir: Path, packages: list[str], job: str) -> str:
        """Upload `working_dir`, queue the command, return the new job's id; `packages` are installed first."""
        runtime_env: dict[str, Any] = {"working_dir": str(working_dir)}
        if packages:
            runtime_env["pip"] = {"packages": packages, "pip_check": False}
        name = f"{job}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        deadline = time.monotonic() + _AGENT_S
        while True:
            try:
                with self._explained():
                    submitted: str = self._client.submit_job(
                        entrypoint=entrypoint, submission_id=name, runtime_env=runtime_env,
                        metadata={"aistudio.job": job},
                    )  # fmt: skip
                    return submitted
            except AIStudioError as e:
                if _NO_AGENT not in str(e):
                    raise
                if time.monotonic() > deadline:
                    raise AIStudioError(f"{self.address}: {_NO_AGENT_HELP}") from None
            time.sleep(_POLL_S)

    def follow(self, job_id: str, write: Callable[[str], object] = sys.stdout.write) -> int:
        """Stream the job's output until it has ended; returns its exit code (1 when it was stopped or killed)."""
        shown = 0
        for left in reversed(range(_REATTACH)):
            with self._explained(job_id):
                shown, whole = asyncio.run(self._stream(job_id, shown, write))
                if whole or self._client.get_job_status(job_id).is_terminal():
                    break
                if not left:
                    raise AIStudioError(f"{self.address}: the log stream broke; the job goes on: --logs {job_id}")
                time.sleep(_POLL_S)
        return self.exit_code(job_id)

    async def _stream(self, job_id: str, shown: int, write: Callable[[str], object]) -> tuple[int, bool]:
        """Write what comes after the first `shown` characters; returns how many came and whether the end was seen."""
        seen = 0
        try:
            async for text in self._client.tail_job_logs(job_id):
                new = text[max(0, shown - seen) :]
                seen += len(text)
                self._tail = (self._tail + new)[-_TAIL:]
                if new:
                    write(new)
                    sys.stdout.flush()
        except RuntimeError:  # how Ray says that the connection was lost
            return max(shown, seen), False
        return max(shown, seen), True

    def exit_code(self, job_id: str) -> int:
        """Wait until the job has ended. The job's own exit code; 1 when it has none of ours."""
        info = self._ended(job_id, _STATE_AFTER_LOGS_S)
        lacking = _LACKING.search(self._tail)
        if info.driver_exit_code and lacking:
            print(f"error: {_LACKING_HELP.format(name=lacking[1].partition('.')[0])}", file=sys.stderr)
        if info.driver_exit_code in _OURS:
            return int(info.driver_exit_code)
        print(f"{job_id}: {info.status}: {info.message}", file=sys.stderr)
        return 1

    def describe(self, job_id: str) -> str:
        """One line: state, exit code, message."""
        with self._explained(job_id):
            info = self._client.get_job_info(job_id)
        code = "" if info.driver_exit_code is None else f", exit code {info.driver_exit_code}"
        return f"{job_id}: {info.status.value}{code}: {info.message}"

    def stop(self, job_id: str) -> str:
        """Stop the job and wait until it has; what it stored stays whole. Returns `describe`'s line."""
        with self._explained(job_id):
            self._client.stop_job(job_id)
        self._ended(job_id, _STOP_S)
        return self.describe(job_id)

    def _ended(self, job_id: str, limit_s: float) -> Any:
        deadline = time.monotonic() + limit_s
        while True:
            with self._explained(job_id):
                info = self._client.get_job_info(job_id)
            if info.status.is_terminal():
                return info
            if time.monotonic() > deadline:
                raise AIStudioError(f"{job_id}: still {info.status.value} after {limit_s:.0f} s; ask again: --status")
            time.sleep(_POLL_S)

    @contextmanager
    def _explained(self, job_id: str | None = None) -> Iterator[None]:
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as e:
            reason = str(e).splitlines()[0]
            raise ConfigError(f"{self.address}: {reason}\n{TOKEN_HELP}") from None
        except (OSError, aiohttp.ClientError, requests.RequestException) as e:
            raise AIStudioError(
                f"{self.address}: no Ray job server answers there ({e}); is it the head node's dashboard address "
                "(port 8265), and does the port reach it (ray dashboard, kubectl port-forward)?"
            ) from None
        except RuntimeError as e:
            if job_id and re.search(r"status code 404|does not exist", str(e)):
                raise ConfigError(f"{self.address}: there is no job {job_id}; `ray job list` names them") from None
            raise AIStudioError(f"{self.address}: {str(e).strip().splitlines()[-1]}") from None
