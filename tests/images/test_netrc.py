"""URLs whose credentials were taken out get them from netrc, or say what to do."""

import base64
from pathlib import Path

import pytest
from yarl import URL

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images._fetched import FetchFailed
from aistudio.images._netrc import Netrc
from aistudio.images.download import Downloader
from aistudio.schema import Status
from aistudio.secrets import redact


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    return path


def fetch(url: str):
    settings = DownloadSettings(allow_private_addresses=True, retries=0)
    with Downloader(settings, StoreSettings()) as downloader:
        return next(iter(downloader.stream([(url, None)])))[1]


def test_the_entry_of_the_host_is_sent_and_nothing_of_it_is_told(image_server, netrc):
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    url = redact(image_server.url("ok/a.jpg").replace("://", "://me:s3cret@"))
    got = fetch(url)
    assert got.status is Status.OK and got.final_url is None
    sent = base64.b64encode(b"me:s3cret").decode()
    assert f"Authorization: Basic {sent}" in image_server.heads["/ok/a.jpg"]


def test_without_an_entry_the_row_says_what_to_do(image_server, netrc):
    netrc.write_text("machine other.example login me password x\n")
    got = fetch(image_server.url("ok/b.jpg").replace("://", "://***@"))
    assert got.status is Status.BAD_URL and "machine 127.0.0.1 login USER password PASSWORD" in got.error
    assert not image_server.hits


def test_without_a_file_or_with_a_broken_one(netrc):
    marked = URL("http://***@h.example/x", encoded=True)
    with pytest.raises(FetchFailed, match=r"put them into ~/\.netrc"):
        Netrc().sign_in(marked)
    netrc.write_text("machine\n\x00 what")
    with pytest.raises(FetchFailed, match="cannot be read"):
        Netrc().sign_in(marked)


def test_other_urls_are_left_alone(netrc):
    for text in ("http://h.example/x", "http://u:p@h.example/x"):
        assert Netrc().sign_in(URL(text)) == (URL(text), None)


@pytest.mark.parametrize(("password", "sent"), [("pä", b"me:p\xe4"), ("密", "me:密".encode()), ("", b"me:")])
def test_other_alphabets(netrc, password, sent):
    """Latin-1 where it will do, as servers have always taken it; else UTF-8 (RFC 7617)."""
    netrc.write_text(f'machine h.example login me password "{password}"\n', encoding="utf-8")
    url, authorization = Netrc().sign_in(URL("http://***@h.example/x", encoded=True))
    assert str(url) == "http://h.example/x"
    assert authorization == f"Basic {base64.b64encode(sent).decode()}"
