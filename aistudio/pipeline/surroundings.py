"""What Ray needs of the machine on which a run starts it, looked at before Ray is: `check_machine`.

Ray itself waits for ever, or ends with a traceback or a file's name, where one of these things is missing. The dry run
asks the same questions as the run.
"""

import contextlib
import errno
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aistudio.errors import AIStudioError, ConfigError

_ROOM = 20_000_000  # bytes; a run's logs and sockets take about one, its rotated logs some more
_SOCKET_PATH = 107  # bytes, of Linux (sun_path less its end)
_SESSION = len("/session_2026-11-25_23-42-40_938270_1234567/sockets/plasma_store")
_SHARED_MEMORY = Path("/dev/shm")
_SMALL_SHARED_MEMORY = 500_000_000  # bytes; what some shards in flight need of the object store
_ADDRESS = re.compile(r"(ray://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+):([0-9]{1,5})")
_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def check_machine() -> None:
    """See that a local Ray can be started here.

    Raises:
        ConfigError: Ray's folder cannot be used. AIStudioError: it is full, or no network interface is up.
    """
    check_folder(ray_folder())
    _check_loopback()
    _provide_token()


def machine_warnings(shared_memory: Path = _SHARED_MEMORY) -> Iterator[str]:
    """Return warnings about the machine: what does not stop a run but may slow it down or end it."""
    free = _free_bytes(shared_memory)
    if free is None or free < _SMALL_SHARED_MEMORY:
        has = "is not there" if free is None else f"has {free / 1e6:.0f} MB free"
        yield f"{shared_memory} {has}: Ray keeps images on disk instead; start the container with --shm-size=2g"


def ray_folder() -> Path:
    """The folder in which Ray keeps its sockets and logs: as ray._common.utils.get_default_ray_temp_dir."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"


def check_folder(folder: Path) -> None:
    """See that Ray can work in `folder`. Raises ConfigError, or AIStudioError where the disk is full."""
    if len(os.fsencode(folder)) + _SESSION > _SOCKET_PATH:
        longest = _SOCKET_PATH - _SESSION - len("/ray")
        raise ConfigError(
            _folder_text(folder, f"its path is too long for sockets (at most {longest} bytes before /ray)")
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="aistudio_", dir=folder) as probe:
            Path(probe, "probe").write_bytes(bytes(1_000_000))  # a quota shows when one writes
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AIStudioError(_full(folder)) from None
        raise ConfigError(_folder_text(folder, f"it cannot be used ({e.strerror or e})")) from None
    free = _free_bytes(folder)
    if free is not None and free < _ROOM:
        raise AIStudioError(_full(folder))


def _full(folder: Path) -> str:
    free = _free_bytes(folder)
    room = "no room" if free is None else f"{free / 1e6:.2f} MB free"
    return _folder_text(folder, f"its disk has {room}, {_ROOM / 1e6:.0f} MB are needed")


def _folder_text(folder: Path, problem: str) -> str:
    name = next((n for n in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(n)), None)
    source = f" (from {name})" if name else ""
    return (
        f"Ray keeps its sockets and logs in {folder}{source}: {problem}; set RAY_TMPDIR (or TMPDIR) to a folder of "
        "your own with a short path and room in it"
    )


def _free_bytes(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _check_loopback() -> None:
    """Connect to ourselves. Raises AIStudioError when that is impossible."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5.0).close()
    except OSError as e:
        raise AIStudioError(
            f"Ray needs a network interface, `lo` at least: 127.0.0.1 cannot be reached ({e.strerror or e}); "
            "`ip link set lo up` brings it up, a container without --network=none has it"
        ) from None


def _provide_token() -> None:
    """Give Ray's access token by a variable where it cannot be kept in a home folder (HOME missing or not ours)."""
    if any(os.environ.get(name) for name in _TOKEN_VARIABLES) or _token_can_be_kept():
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # read by this run's own Ray processes, and by nobody else


def _token_can_be_kept() -> bool:
    try:
        folder = Path.home() / ".ray"
        if os.access(folder / "auth_token", os.R_OK):
            return bool((folder / "auth_token").read_text().strip())
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where home is
        return False
    return True


def cluster_place(address: str, source: str) -> tuple[str, int] | None:
    """Host and port of a cluster's address; None for "auto", which Ray looks up itself.

    Args:
        source: where the address stands, for the message: "engine.address" or "RAY_ADDRESS".

    Raises:
        ConfigError: it is no address.
    """
    if address == "auto":
        return None
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ConfigError(f"{source}: {address!r} is not host:port (10.0.0.5:6379), ray://host:port, auto or local")
    return match[2].strip("[]"), int(match[3])


def check_reachable(host: str, port: int, limit_s: float) -> None:
    """Open a connection to the cluster's head and close it. Raises AIStudioError without an answer in time."""
    try:
        with contextlib.closing(socket.create_connection((host, port), timeout=limit_s)):
            return
    except OSError as e:
        shown = f"[{host}]" if ":" in host else host
        raise AIStudioError(
            f"the Ray cluster at {shown}:{port} cannot be reached ({e.strerror or e}); is its head running, and is "
            "engine.address or RAY_ADDRESS right? Without either a run starts a Ray of its own"
        ) from None
