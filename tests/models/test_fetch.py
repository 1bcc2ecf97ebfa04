"""Downloads against a server on this machine that cuts, lies or refuses ranges on request."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aistudio.config import WeightsFile
from aistudio.errors import WeightsError
from aistudio.models._fetch import TRIES, fetch_file
from aistudio.models._files import record_path

BODY = bytes(range(256)) * 5000  # 1.28 MB: more than one chunk
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """`cut_at`: answers stop after so many bytes, `cuts` times; `ranges`: are they honoured?"""

    cut_at, cuts, ranges = 0, 0, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/w.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path != "/w.pth":
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        end = len(BODY)
        if self.server.cuts > 0:
            self.server.cuts -= 1
            end = start + self.server.cut_at
        self.wfile.write(BODY[start:end])
        self.close_connection = True
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield http
        http.shutdown()
        thread.join(timeout=10)


def test_file_is_fetched_and_its_checksum_recorded(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    file = WeightsFile(path=str(tmp_path / "deep" / "w.pth"), url=server.url)
    assert fetch_file(file, lambda *at: seen.append(at)) == DIGEST
    assert Path(file.path).read_bytes() == BODY
    assert record_path(file.path).read_text().split()[0] == DIGEST
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) > 1
    fetch_file(file)
    assert server.asked == [None]  # there already
    Path(file.path).write_bytes(b"other")
    with pytest.raises(WeightsError, match=f"expected {DIGEST}"):
        fetch_file(file)


def test_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_at, server.cuts = 400_000, 2
    file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url, sha256=DIGEST.upper())
    fetch_file(file)
    assert Path(file.path).read_bytes() == BODY
    assert server.asked == [None, "bytes=400000-", "bytes=800000-"]
    assert not record_path(file.path).exists()  # the conf knows it
    assert list(tmp_path.iterdir()) == [Path(file.path)]


def test_next_call_resumes_too(server: Server, tmp_path: Path) -> None:
    server.cut_at, server.cuts = 100_000, TRIES
    file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url)
    with pytest.raises(WeightsError, match=r"400,000 bytes are kept in .*w\.pth\.part"):
        fetch_file(file)
    assert not Path(file.path).exists()
    assert fetch_file(file) == DIGEST
    assert server.asked[-1] == "bytes=400000-"


def test_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(BODY)
    assert fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url)) == DIGEST


def test_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "w.pth.part").write_bytes(BODY[:1000])
    assert fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url)) == DIGEST


def test_wrong_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    for wrong in ({"sha256": "0" * 64}, {"size_bytes": 7}):
        file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url, **wrong)
        with pytest.raises(WeightsError, match="not the file expected"):
            fetch_file(file)
        assert list(tmp_path.iterdir()) == []


def test_server_that_says_no(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="answered 404"):
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url.replace("w.pth", "none")))


def test_file_of_ones_own_may_change(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    for body in (b"first", b"second"):
        path.write_bytes(body)
        assert fetch_file(WeightsFile(path=str(path))) == hashlib.sha256(body).hexdigest()
    assert list(tmp_path.iterdir()) == [path]


def test_file_put_there_by_hand_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"first")
    file = WeightsFile(path=str(path), url="http://127.0.0.1:1/w.pth")
    fetch_file(file)
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="sha256 is"):
        fetch_file(file)


def test_offline(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(WeightsError, match=r"cannot be fetched(.|\n)*Without a network: download it elsewhere"):
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=url))
    with pytest.raises(WeightsError, match="no address is known"):
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth")))
