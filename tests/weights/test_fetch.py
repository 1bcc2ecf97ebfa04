"""Downloads against a server on this machine that cuts, lies or refuses ranges on request."""

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from aistudio.config import StoreSettings, WeightsFile
from aistudio.errors import WeightsError
from aistudio.secrets import shown_address
from aistudio.store import open_store
from aistudio.weights.download import TRIES
from aistudio.weights.fetch import fetch_file
from aistudio.weights.files import record_path
from tests.object_servers import AZ_KEY, AzServer, GsServer
from tests.weights.file_server import FileServer, S3Server

BODY = bytes(range(256)) * 5000  # 1.28 MB: more than one chunk
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/w.pth": BODY}) as http:
        yield http


def test_file_is_fetched_and_its_checksum_recorded(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    file = WeightsFile(path=str(tmp_path / "deep" / "w.pth"), url=server.url("/w.pth"))
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


def test_cut_download_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.cut_at, server.cuts = 400_000, 2
    file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"), sha256=DIGEST.upper())
    fetch_file(file)
    assert Path(file.path).read_bytes() == BODY
    assert server.asked == [None, "bytes=400000-", "bytes=800000-"]
    assert not record_path(file.path).exists()  # the conf knows it
    assert list(tmp_path.iterdir()) == [Path(file.path)]


def test_next_call_resumes_too(server: FileServer, tmp_path: Path) -> None:
    server.cut_at, server.cuts = 100_000, TRIES
    file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"))
    with pytest.raises(WeightsError, match=r"400,000 bytes are kept in .*w\.pth\.part"):
        fetch_file(file)
    assert not Path(file.path).exists()
    assert fetch_file(file) == DIGEST
    assert server.asked[-1] == "bytes=400000-"


def test_part_that_is_whole_already(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(BODY)
    assert fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"))) == DIGEST


def test_server_without_ranges_begins_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "w.pth.part").write_bytes(BODY[:1000])
    assert fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"))) == DIGEST


def test_wrong_file_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    for wrong in ({"sha256": "0" * 64}, {"size_bytes": 7}):
        file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"), **wrong)
        with pytest.raises(WeightsError, match="not the file expected"):
            fetch_file(file)
        assert list(tmp_path.iterdir()) == []


def test_server_that_says_no(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="answered 404"):
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/none")))


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


def test_offline(server: FileServer, tmp_path: Path) -> None:
    url = server.url("/w.pth")
    server.close()
    with pytest.raises(WeightsError, match=r"cannot be fetched(.|\n)*Without a network: download it elsewhere"):
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=url))
    with pytest.raises(WeightsError, match="no address is known"):
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth")))


@pytest.mark.parametrize("named", ["etag", "date"])
def test_another_version_is_not_continued_from_the_middle(server: FileServer, tmp_path: Path, named: str) -> None:
    server.versions, server.cut_at, server.cuts = named, 300_000, TRIES
    file = WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"))
    with pytest.raises(WeightsError, match="bytes are kept"):
        fetch_file(file)
    assert {p.name for p in tmp_path.iterdir()} == {"w.pth.part", "w.pth.part.version"}
    server.replace("/w.pth", BODY[::-1])
    assert fetch_file(file) == hashlib.sha256(BODY[::-1]).hexdigest()
    assert {p.name for p in tmp_path.iterdir()} == {"w.pth", "w.pth.sha256"}


def test_part_longer_than_the_file_is_begun_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(BODY + b"more")
    assert fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth"))) == DIGEST


def test_full_disk(server: FileServer, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))  # files beyond this size cannot be written
    try:
        with pytest.raises(WeightsError, match=r"w\.pth\.part: cannot be written: File too large"):
            fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=server.url("/w.pth")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_nothing_secret_of_an_address_is_shown(server: FileServer, tmp_path: Path) -> None:
    url = server.url("/none?X-Amz-Signature=hidden")
    with pytest.raises(WeightsError, match=r"/none\?…: the server answered 404") as e:
        fetch_file(WeightsFile(path=str(tmp_path / "w.pth"), url=url))
    assert "hidden" not in str(e.value)
    assert shown_address("https://user:word@host/x") == "https://host/x"


@pytest.mark.parametrize("kind", [GsServer, AzServer])
def test_from_another_bucket(kind: type[GsServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "test")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZ_KEY)
    with kind() as server:
        settings, url = server.settings(retries=0), f"{server.scheme}://bucket/m/w.pth"
        open_store(url.removesuffix("/w.pth"), settings).write_bytes("w.pth", BODY)
        file = WeightsFile(path=str(tmp_path / "w.pth"), url=url)
        cuts = ["cut"]
        server.fault = lambda method, path: cuts.pop() if cuts and method == "GET" else None
        assert fetch_file(file, store=settings) == DIGEST  # went on after half of it
        assert not cuts
        (tmp_path / "w.pth").unlink()
        (tmp_path / "w.pth.part").write_bytes(BODY)
        assert fetch_file(file, store=settings) == DIGEST  # was whole
        (tmp_path / "w.pth").unlink()
        (tmp_path / "w.pth.part").write_bytes(BODY + b"of another version")
        assert fetch_file(file, store=settings) == DIGEST
        gone = WeightsFile(path=str(tmp_path / "gone"), url=f"{server.scheme}://bucket/m/gone")
        with pytest.raises(WeightsError, match=r"://bucket/m/gone: Object at location m/gone not found"):
            fetch_file(gone, store=settings)
        server.fault = lambda method, path: "denied"
        with pytest.raises(WeightsError, match="AccessDenied"):
            fetch_file(gone, store=settings)


def test_from_s3(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = StoreSettings(endpoint_url=s3.url, retries=0)
    s3.client.put_object(Bucket="bucket", Key="m/w.pth", Body=BODY)
    file = WeightsFile(path=str(tmp_path / "w.pth"), url="s3://bucket/m/w.pth")
    cuts = ["cut"]
    s3.fault = lambda method, path: cuts.pop() if cuts else None
    assert fetch_file(file, store=settings) == DIGEST  # went on after half of it
    (tmp_path / "w.pth").unlink()
    (tmp_path / "w.pth.part").write_bytes(BODY)
    assert fetch_file(file, store=settings) == DIGEST  # was whole
    gone = WeightsFile(path=str(tmp_path / "gone"), url="s3://bucket/m/gone")
    with pytest.raises(WeightsError, match=r"s3://bucket/m/gone: NoSuchKey"):
        fetch_file(gone, store=settings)
    s3.fault = lambda method, path: "denied"
    with pytest.raises(WeightsError, match="AccessDenied"):
        fetch_file(gone, store=settings)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="Unable to locate credentials"):
        fetch_file(gone, store=settings)
