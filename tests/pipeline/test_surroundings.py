"""What Ray needs of the machine: a folder, room in it, a loopback interface, a token; and a cluster's address."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError, ConfigError
from aistudio.pipeline import cluster, surroundings
from aistudio.pipeline.surroundings import check_folder, check_machine, check_reachable, cluster_place, ray_folder


@pytest.fixture
def short(tmp_path_factory):
    """A folder with a path short enough for sockets."""
    folder = Path("/tmp", f"aistudio_{os.getpid()}")
    folder.mkdir()
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_rays_folder_is_where_ray_itself_looks(monkeypatch):
    from ray._common.utils import get_default_ray_temp_dir

    assert str(ray_folder()) == get_default_ray_temp_dir()
    for name, value in (("TMPDIR", "/var/x"), ("RAY_TMPDIR", "/var/y")):
        monkeypatch.setenv(name, value)
        assert str(ray_folder()) == get_default_ray_temp_dir() == f"{value}/ray"


def test_a_good_folder_is_made_and_nothing_stays_in_it(short):
    check_folder(short / "ray")
    assert list((short / "ray").iterdir()) == []


def test_a_folder_that_cannot_be_made_names_the_variable(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nonexist")
    with pytest.raises(
        ConfigError, match=r"/proc/nonexist/ray \(from RAY_TMPDIR\): it cannot be used .*set RAY_TMPDIR"
    ):
        check_folder(ray_folder())


def test_a_file_in_the_folders_place(short):
    (short / "ray").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        check_folder(short / "ray")


def test_a_path_too_long_for_sockets(tmp_path):
    with pytest.raises(ConfigError, match=r"too long for sockets \(at most 39 bytes"):
        check_folder(Path("/tmp", "x" * 35, "ray"))
    with pytest.raises(ConfigError, match="too long"):
        check_folder(Path("/tmp", "图" * 12, "ray"))  # bytes count


@pytest.mark.parametrize("free", [0, 64_000, 19_000_000])
def test_a_disk_without_room_tells_how_much_there_is(short, monkeypatch, free):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    with pytest.raises(AIStudioError, match=rf"{short}/ray: its disk has {free / 1e6:.2f} MB free, 20 MB are needed"):
        check_folder(short / "ray")


def test_a_quota_that_only_writing_shows(short, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(AIStudioError, match="MB free"):
        check_folder(short / "ray")


def test_no_loopback_is_said(short, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(short))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(AIStudioError, match=r"network interface, `lo` at least.*ip link set lo up") as e:
        check_machine()
    assert e.value.exit_code == 1


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null", None])
def test_without_a_home_the_token_is_given_by_a_variable(short, monkeypatch, home):
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    if home is None:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", home)
    try:
        check_machine()
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    finally:
        os.environ.pop("RAY_AUTH_TOKEN", None)


def test_with_a_home_or_a_word_of_the_users_the_token_is_rays_business(short, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    monkeypatch.setenv("HOME", str(short))
    check_machine()
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_machine()
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("auto", None),
        ("10.0.0.5:6379", ("10.0.0.5", 6379)),
        ("ray://head.corp:10001", ("head.corp", 10001)),
        ("[fe80::1]:6379", ("fe80::1", 6379)),
    ],
)
def test_addresses_that_are(address, place):
    assert cluster_place(address, "RAY_ADDRESS") == place


@pytest.mark.parametrize(
    "address", ["a b:1", "head", "10.0.0.5 6379", "head:0", "head:99999", "http://h:1", "h:6379/x"]
)
def test_addresses_that_are_not_name_their_source(address):
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS: .* is not host:port"):
        cluster_place(address, "RAY_ADDRESS")


def test_a_dead_head_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable("127.0.0.1", port, 5)
    with pytest.raises(AIStudioError, match=f"the Ray cluster at 127.0.0.1:{port} cannot be reached") as e:
        check_reachable("127.0.0.1", port, 5)
    assert e.value.exit_code == 1


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        (None, None, None),
        (None, "  ", None),
        (None, "local", None),
        (None, " 10.0.0.5:6379 ", "10.0.0.5:6379"),
        ("local", "10.0.0.5:6379", None),
        ("auto", "10.0.0.5:6379", "auto"),
    ],
)
def test_a_cluster_is_joined_only_when_it_is_named(monkeypatch, setting, variable, expected):
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster.cluster_address(EngineSettings(address=setting)) == expected


@pytest.mark.parametrize("error", [RuntimeError("Version mismatch:\n Ray: 2.1"), AssertionError(), OSError(28, "full")])
@pytest.mark.parametrize("address", [None, "10.0.0.5:6379"])
def test_whatever_ray_raises_becomes_one_line(error, address):
    with pytest.raises(AIStudioError) as e, cluster._explained(EngineSettings(address=address)):
        raise error
    assert "\n" not in str(e.value) and e.value.exit_code == 1
    assert ("the Ray cluster at 10.0.0.5:6379" if address else "a local Ray cannot be started") in str(e.value)
    assert (" ".join(str(error).split()) or "AssertionError") in str(e.value)


def test_little_shared_memory_is_a_warning(tmp_path):
    assert "is not there" in next(surroundings.machine_warnings(tmp_path / "none"))
    assert list(surroundings.machine_warnings(Path("/"))) == []
