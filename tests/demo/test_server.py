"""The catalogue's server: files, and each misbehaviour that the manifest promises."""

import threading
import urllib.error
import urllib.request

import pytest

from aistudio.demo import server as server_module
from aistudio.demo.faults import BASE_URL
from aistudio.demo.server import CatalogueServer


@pytest.fixture
def served(tmp_path):
    (tmp_path / "images/lake").mkdir(parents=True)
    (tmp_path / "images/lake/000.jpg").write_bytes(b"a picture")
    (tmp_path / "recall.csv").write_text("not for everybody")
    with CatalogueServer(tmp_path) as server:
        yield server


def _get(server, path):
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return answer.url, answer.headers["Content-Type"], answer.read()


def _status(server, path):
    with pytest.raises(urllib.error.HTTPError) as e:
        _get(server, path)
    return e.value.code


def test_serves_files_under_both_addresses(served):
    for path in ("images/lake/000.jpg", "original/images/lake/000.jpg"):
        assert _get(served, path)[1:] == ("image/jpeg", b"a picture")
    assert served.url_map == {BASE_URL: served.url}
    assert served.num_requests == 2


OTHERS = (
    "images/lake/001.jpg",
    "gone/images/lake/000.jpg",
    "recall.csv",
    "images/../recall.csv",
    "images/%2e%2e/recall.csv",
    "original/recall.csv",
    "",
)


@pytest.mark.parametrize("path", OTHERS)
def test_everything_else_is_404(served, path):
    assert _status(served, path) == 404


def test_redirect_arrives_and_loop_does_not(served):
    url, _, body = _get(served, "redirect/images/lake/000.jpg")
    assert url == f"{served.url}images/lake/000.jpg" and body == b"a picture"
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        _get(served, "redirect_loop/images/lake/000.jpg")


def test_flaky_fails_once(served):
    assert _status(served, "flaky/images/lake/000.jpg") == 503
    assert _get(served, "flaky/images/lake/000.jpg")[2] == b"a picture"


def test_slow_sends_everything(served, monkeypatch):
    monkeypatch.setattr(server_module, "SLOW_S", 0.05)
    assert _get(served, "slow/images/lake/000.jpg")[2] == b"a picture"


def test_stops_with_its_block(tmp_path):
    with CatalogueServer(tmp_path) as server:
        url = server.url
        assert url.startswith("http://127.0.0.1:")
    assert not [t for t in threading.enumerate() if t is server._thread]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=2)
