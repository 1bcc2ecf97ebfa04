"""What a dry run finds out about addresses without fetching one."""

import socket

import pytest

from aistudio.config import DownloadSettings
from aistudio.images import addresses
from aistudio.images.addresses import look_at
from aistudio.schema import Status

SETTINGS = DownloadSettings(trust_env_proxy=False)
NAMES = {
    "shop.example": ["93.184.216.34"],
    "intern.example": ["10.1.2.3"],
    "both.example": ["10.0.0.1", "93.184.216.34"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    def resolve(host, *_, **__):
        if host not in NAMES:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in NAMES[host]]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("http://intern.example/a.jpg", Status.BLOCKED_ADDRESS, "resolves to 10.1.2.3"),
        ("http://127.0.0.1:8000/a.jpg", Status.BLOCKED_ADDRESS, "allow_private_addresses"),
        ("http://0x7f000001/a.jpg", Status.BLOCKED_ADDRESS, "not a public address"),
        ("https://[::1]/a.jpg", Status.BLOCKED_ADDRESS, "not a public address"),
        ("http://nowhere.example/a.jpg", Status.DNS_ERROR, "nowhere.example cannot be resolved"),
        ("ftp://shop.example/a.jpg", Status.BAD_URL, "the scheme ftp:"),
        ("http://shop.example/a b.jpg", Status.BAD_URL, "a blank"),
        ("images/none.jpg", Status.NOT_FOUND, "no such file"),
        ("file:///none/" + "x" * 300, Status.NOT_FOUND, "no such file"),
    ],
)
def test_what_would_fail_is_known_before(url, status, words):
    [problem] = look_at([(url, None)], SETTINGS).problems
    assert problem.status == status and words in problem.reason and problem.rows == 1 and problem.example == url


def test_what_would_not_fail(tmp_path):
    (tmp_path / "a.jpg").touch()
    urls = [
        "http://shop.example/a.jpg",
        "https://both.example/b",
        "http://93.184.216.34/c",
        str(tmp_path / "a.jpg"),
        "s3://b/k",
    ]
    look = look_at([(u, None) for u in urls], SETTINGS)
    assert look.problems == [] and look.kinds == {"http": 3, "file": 1, "s3": 1} and len(look.hosts) == 3


def test_rows_are_counted_by_reason_and_a_good_fallback_saves_one():
    rows = [("http://intern.example/1", None), ("http://intern.example/2", "http://shop.example/2"),
            ("http://intern.example/3", "http://nowhere.example/3"), ("http://u:pw@nowhere.example/4", "")]  # fmt: skip
    look = look_at(rows, SETTINGS)
    assert [(p.status, p.rows) for p in look.problems] == [(Status.BLOCKED_ADDRESS, 2), (Status.DNS_ERROR, 1)]
    assert look.failing == 3 and "pw" not in look.problems[1].example


def test_private_addresses_may_be_allowed_and_url_map_is_followed(tmp_path):
    rows = [("http://intern.example/a.jpg", None), ("http://127.0.0.1/a.jpg", None)]
    assert look_at(rows, SETTINGS.model_copy(update={"allow_private_addresses": True})).problems == []
    mapped = SETTINGS.model_copy(update={"url_map": {"http://nowhere.example/": f"{tmp_path}/"}})
    [problem] = look_at([("http://nowhere.example/a.jpg", None)], mapped).problems
    assert problem.status == Status.NOT_FOUND


def test_behind_a_proxy_names_are_not_looked_up(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    look = look_at([("http://nowhere.example/a.jpg", None), ("http://127.0.0.1/b", None)], DownloadSettings())
    assert [p.status for p in look.problems] == [Status.BLOCKED_ADDRESS] and "proxy" in look.note


def test_a_slow_resolver_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(addresses, "LOOKUP_S", 0.05)
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *a, **k: __import__("time").sleep(0.5) or [])
    look = look_at([("http://shop.example/a.jpg", None)], SETTINGS)
    assert look.problems == [] and look.note == "1 of 1 hosts were not looked up within 0.05 s"
