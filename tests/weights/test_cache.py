"""A node's cache: one download for many processes, whatever dies, is damaged or lies."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aistudio.config import StoreSettings, WeightsFile
from aistudio.errors import WeightsError
from aistudio.weights import cache as _cache
from aistudio.weights import download as _download
from aistudio.weights.cache import WeightsCache, default_folder
from tests.weights.file_server import FileServer, S3Server

BODY = bytes(range(256)) * 12_000  # 3 MB: half of it is more than is read at once
DIGEST = hashlib.sha256(BODY).hexdigest()
PROGRAM = """
import os, sys
from pathlib import Path
from aistudio.config import StoreSettings, WeightsFile
from aistudio.weights.cache import WeightsCache
file = WeightsFile(path="nowhere/w.pth", url=sys.argv[2], sha256=sys.argv[3])
Path(f"{sys.argv[1]}-{os.getpid()}").touch()  # begins now
print(WeightsCache(Path(sys.argv[1]), StoreSettings(), patient=True).get(file))
"""


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/w.pth": BODY}) as http:
        yield http


@pytest.fixture
def cache(tmp_path: Path) -> WeightsCache:
    return WeightsCache(tmp_path / "cache", StoreSettings(retries=0))


def file_at(server: FileServer, sha256: str | None = DIGEST) -> WeightsFile:
    return WeightsFile(path="nowhere/w.pth", url=server.url("/w.pth"), sha256=sha256)


def start(cache: WeightsCache, server: FileServer) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(cache.folder), server.url("/w.pth"), DIGEST]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what: str, condition, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.02)


def test_processes_that_start_together_download_once(server: FileServer, cache: WeightsCache) -> None:
    server.hold = threading.Event()
    first, second = start(cache, server), start(cache, server)
    wait_for("a request", lambda: server.paths)
    wait_for("both to begin", lambda: all(Path(f"{cache.folder}-{p.pid}").exists() for p in (first, second)))
    server.hold.set()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert Path(out.strip()).read_bytes() == BODY
    assert server.paths == ["/w.pth"]
    assert cache.get(file_at(server)).read_bytes() == BODY
    assert server.paths == ["/w.pth"]
    assert list((cache.folder / "parts").iterdir()) == []


def test_killed_downloader_lets_go_and_the_next_goes_on(server: FileServer, cache: WeightsCache) -> None:
    server.hold = threading.Event()
    server.versions = "etag"
    process = start(cache, server)
    part = cache.folder / "parts" / f"{DIGEST}.part"
    wait_for("half of the file", lambda: part.exists() and part.stat().st_size)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    server.hold.set()
    server.hold = None
    have = part.stat().st_size
    assert cache.get(file_at(server)).read_bytes() == BODY
    assert server.asked == [None, f"bytes={have}-"]


def test_damaged_copy_is_fetched_again_once(
    server: FileServer, cache: WeightsCache, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = cache.get(file_at(server))
    blob.write_bytes(BODY[:-1] + b"?")
    assert cache.get(file_at(server)).read_bytes() == BODY
    assert "damaged, fetched again" in capsys.readouterr().err
    assert len(server.paths) == 2
    blob.write_bytes(b"")
    server.replace("/w.pth", b"another file")
    for _ in range(2):
        with pytest.raises(WeightsError, match="not the file expected"):
            cache.get(file_at(server))
    assert len(server.paths) == 4  # one request each
    assert list((cache.folder / "blobs").iterdir()) == []


def test_wrong_beginning_is_thrown_away(server: FileServer, cache: WeightsCache) -> None:
    cache.get(file_at(server)).unlink()
    (cache.folder / "parts" / f"{DIGEST}.part").write_bytes(b"?" * 1000)
    assert cache.get(file_at(server)).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", None]


def test_messages_name_node_address_and_checksums(server: FileServer, cache: WeightsCache, tmp_path: Path) -> None:
    host = socket.gethostname()
    wrong = file_at(server, "0" * 64)
    with pytest.raises(WeightsError) as e:
        cache.get(wrong)
    for part in (f"node {host}: {server.url('/w.pth')}: ", f"sha256 {DIGEST}", "expected " + "0" * 64):
        assert part in str(e.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=rf"node {host}: .*not usable as a cache.*engine\.weights_cache"):
        WeightsCache(tmp_path / "file" / "below", StoreSettings()).get(wrong)
    server.close()
    with pytest.raises(WeightsError, match=rf"node {host}: {server.url('/w.pth')}: cannot be fetched"):
        cache.get(wrong)


def test_busy_server_is_asked_again(
    server: FileServer, cache: WeightsCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_download, "PAUSE_S", 0.001)
    server.busy = 3
    with pytest.raises(WeightsError, match="answered 503"):
        cache.get(file_at(server))
    patient = WeightsCache(tmp_path / "other", StoreSettings(), patient=True)
    assert patient.get(file_at(server)).read_bytes() == BODY
    assert server.busy == 0 and len(server.paths) == 4


@pytest.mark.parametrize("named", ["etag", "date"])
def test_without_a_checksum_the_address_decides(
    server: FileServer, cache: WeightsCache, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.versions = named
    file = file_at(server, None)
    assert cache.find(file) is None
    first = cache.get(file)
    assert first.name == DIGEST and cache.find(file) == first
    assert cache.get(file) == first  # asked, and answered: unchanged
    assert len(server.paths) == 2
    server.replace("/w.pth", b"newer")
    newer = cache.get(file)
    assert newer.read_bytes() == b"newer" and cache.find(file) == newer
    assert first.read_bytes() == BODY  # a run that is at work keeps its own
    server.close()
    capsys.readouterr()
    assert cache.get(file) == newer
    assert "the copy of last time is used" in capsys.readouterr().err


def test_address_that_names_no_version_gives_what_it_gave_first(server: FileServer, cache: WeightsCache) -> None:
    first = cache.get(file_at(server, None))
    server.replace("/w.pth", b"newer")
    assert cache.get(file_at(server, None)) == first
    first.unlink()  # and a beginning of unknown version is not gone on with
    next((cache.folder / "addresses").iterdir()).unlink()
    part = cache.folder / "parts" / f"{_cache._address_name(server.url('/w.pth'))}.part"
    part.write_bytes(b"ol")
    assert cache.get(file_at(server, None)).read_bytes() == b"newer"


def test_from_s3(s3: S3Server, tmp_path: Path) -> None:
    s3.client.put_object(Bucket="bucket", Key="m/w.pth", Body=BODY)
    cache = WeightsCache(tmp_path / "cache", StoreSettings(endpoint_url=s3.url, retries=0))
    file = WeightsFile(path="nowhere/w.pth", url="s3://bucket/m/w.pth")
    first = cache.get(file)
    assert first.read_bytes() == BODY and cache.get(file) == first
    assert s3.hits["GET"] == 2
    assert cache.get(file.model_copy(update={"sha256": DIGEST})) == first
    assert s3.hits["GET"] == 2
    s3.client.put_object(Bucket="bucket", Key="m/w.pth", Body=b"newer")
    assert cache.get(file).read_bytes() == b"newer"


def test_lock_that_is_never_given_back(
    server: FileServer, cache: WeightsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cache, "LOCK_LIMIT_S", 0.0)
    monkeypatch.setattr(_cache, "LOCK_POLL_S", 0.001)
    cache.get(file_at(server)).unlink()
    with (
        cache._lock(DIGEST, file_at(server)),
        pytest.raises(WeightsError, match="another process has been fetching it"),
    ):
        cache.get(file_at(server))


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AISTUDIO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_folder() == Path("/home/someone/.cache/aistudio/weights")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_folder() == Path("/xdg/aistudio/weights")
    monkeypatch.setenv("AISTUDIO_CACHE", "/mnt/nvme")
    assert default_folder() == Path("/mnt/nvme/weights")
    assert default_folder("~/mine") == Path("/home/someone/mine")


def test_a_user_without_a_home_or_a_name_has_a_cache_all_the_same():
    code = "import os; from aistudio.weights.cache import default_folder; os.setuid(12345); print(default_folder())"
    if os.getuid():
        pytest.skip("only root can become another user")
    without = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "AISTUDIO_CACHE", "TMPDIR")}
    run = subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True, timeout=100)
    assert run.stdout == "/tmp/aistudio-12345/weights\n", run.stderr
