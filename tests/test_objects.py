"""Every kind of bucket behind store.py: whole or absent, first writer wins, bodies and listings that break off.

S3 is moto; Google Cloud Storage and Azure are tests/object_servers.py, the real services were not asked. With
AISTUDIO_AZURITE=http://127.0.0.1:PORT/devstoreaccount1 (container `bucket`) the same tests run against an Azurite too.
"""

import io
import os
import ssl
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.errors import ChangedError, StoreError
from aistudio.images.download import Downloader
from aistudio.images.validators import Validators
from aistudio.objects import refuse_key, split_object_url
from aistudio.schema import Status
from aistudio.store import Store, open_store
from tests.object_servers import AZ_KEY, AzServer, AzuriteServer, GsServer
from tests.s3_server import S3Server
from tests.test_store import once


class _S3(S3Server):
    scheme = "s3"

    def settings(self, **more: object) -> StoreSettings:
        return StoreSettings(endpoint_url=self.url, **more)


SERVERS = {"s3": _S3, "gs": GsServer, "az": AzServer, "azurite": AzuriteServer}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZ_KEY)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "test")


@pytest.fixture(scope="module", params=SERVERS)
def started(request) -> Iterator:
    if request.param == "azurite":
        AzuriteServer.address = os.environ.get("AISTUDIO_AZURITE", "")
        if not AzuriteServer.address:
            pytest.skip("AISTUDIO_AZURITE names no Azurite")
    with SERVERS[request.param](hang_s=0.8) as server:
        yield server


@pytest.fixture
def server(started):
    started.fault, started.ignores_conditions = None, False
    started.faults.clear()
    return started


@pytest.fixture
def store(server) -> Store:
    settings = server.settings(retries=3, timeout_s=0.4)
    return open_store(f"{server.scheme}://bucket/{uuid.uuid4().hex}/", settings)


class TestWholeFiles:
    def test_a_file_is_written_from_its_start_and_replaces_another(self, store):
        store.write_bytes("a/file", b"before")
        stream = io.BytesIO(os.urandom(300_000))
        stream.seek(77)
        store.write_file("a/file", stream)
        assert store.read_bytes("a/file") == stream.getvalue()

    @pytest.mark.parametrize("fault", ["slow_down", "error"])
    def test_busy_answers_are_tried_again_from_the_start(self, server, store, fault):
        server.fault = once(fault)
        store.write_file("file", io.BytesIO(b"x" * 100_000))
        assert store.read_bytes("file") == b"x" * 100_000

    def test_what_fails_is_one_message_and_leaves_the_old_file(self, server, store):
        store.write_bytes("file", b"before")
        server.fault = lambda method, path: "denied" if method == "PUT" else None
        with pytest.raises(StoreError, match="/file: "):
            store.write_file("file", io.BytesIO(b"after"))
        server.fault = None
        assert store.read_bytes("file") == b"before"

    def test_large_ones_are_sent_in_blocks(self, started, store, monkeypatch):
        if started.scheme == "s3" or type(started) is AzServer:
            pytest.skip("one PUT on S3; this stand-in knows no blocks")
        monkeypatch.setattr("aistudio._object_backend._ONE_PUT_BYTES", 1_000)
        data = os.urandom(12_000_000)
        store.write_file("file", io.BytesIO(data))
        assert store.read_bytes("file") == data


class TestFirstWriterWins:
    def test_a_file_is_written_once(self, store):
        assert store.write_bytes("claim", b"first", overwrite=False) is True
        assert store.write_bytes("claim", b"second", overwrite=False) is False
        assert store.read_bytes("claim") == b"first"

    def test_of_many_writers_at_once_one_wins(self, store):
        won: list[int] = []
        start = threading.Barrier(8)

        def claim(i: int) -> None:
            start.wait(10)
            if store.write_bytes("claim", str(i).encode(), overwrite=False):
                won.append(i)

        threads = [threading.Thread(target=claim, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(20)
        assert len(won) == 1 and store.read_bytes("claim") == str(won[0]).encode()

    def test_a_claim_whose_answer_got_lost_is_not_taken_by_two(self, server, store):
        server.fault = once("late_error")
        assert store.write_bytes("claim", b"first", overwrite=False) is False
        assert store.read_bytes("claim") == b"first"

    def test_a_conflict_is_no_lost_race(self, server, store):
        server.fault = once("conflict")
        assert store.write_bytes("claim", b"1", overwrite=False) is True
        assert store.read_bytes("claim") == b"1"

    def test_conflicts_without_end_are_an_error(self, server, store):
        server.fault = lambda method, path: "conflict" if method == "PUT" else None
        with pytest.raises(StoreError, match="/claim: "):
            store.write_bytes("claim", b"1", overwrite=False)

    def test_a_claim_that_is_not_answered_is_made_again(self, server, store):
        server.fault = once("hang")
        store.write_bytes("claim", b"1", overwrite=False)
        assert store.read_bytes("claim") == b"1"

    def test_a_service_that_ignores_the_condition_is_refused(self, server, store):
        store.check_writable()
        if isinstance(server, AzuriteServer):
            pytest.skip("its signatures cover the condition, which cannot be taken out on the way")
        server.ignores_conditions = True
        with pytest.raises(StoreError, match="does not honour a conditional create"):
            store.check_writable()
        assert store.list("") == []

    def test_a_service_that_refuses_the_condition_is_refused(self, server, store):
        server.fault = lambda method, path: "not_implemented" if method == "PUT" else None
        with pytest.raises(StoreError, match="does not honour a conditional create"):
            store.write_bytes("claim", b"1", overwrite=False)


class TestReading:
    @pytest.mark.parametrize("fault", ["slow_down", "error", "hang"])
    def test_failures_are_tried_again(self, server, store, fault):
        server.fault = once(fault, fault)
        store.write_bytes("x", b"123")
        server.fault = once(fault, fault)
        assert store.read_bytes("x") == b"123"
        server.fault = once(fault)
        assert [(e.key, e.size) for e in store.list("")] == [("x", 3)]
        assert server.faults[fault] == 5

    def test_a_body_that_breaks_off_is_asked_for_again(self, server, store):
        store.write_bytes("x", b"0123456789" * 100)
        server.fault = once("cut", "cut")
        assert store.read_bytes("x") == b"0123456789" * 100
        assert server.faults["cut"] == 2

    def test_a_body_that_always_breaks_off_is_one_message(self, server, store):
        store.write_bytes("x", b"0123456789" * 100)
        server.fault = lambda method, path: "cut"
        with pytest.raises(StoreError, match=r"://bucket/.*/x: ") as caught:
            store.read_bytes("x")
        assert "\n" not in str(caught.value)

    def test_what_is_denied_is_not_tried_again(self, server, store):
        server.fault = lambda method, path: "denied"
        with pytest.raises(StoreError, match="AccessDenied"):
            store.write_bytes("x", b"1", overwrite=False)
        assert server.faults["denied"] == 1

    def test_what_is_missing_is_said(self, store):
        assert store.exists("x") is False
        with pytest.raises(StoreError, match="/x: "):
            store.read_bytes("x")
        with pytest.raises(StoreError, match="/x: No such key"):
            store.open("x")
        store.delete("x")

    def test_what_is_read_is_one_object(self, store):
        store.write_bytes("a", b"1" * 300_000)
        etag = store.list("a")[0].etag
        with store.open("a", etag=etag) as f:
            assert f.read(10) == b"1" * 10
            store.write_bytes("a", b"2" * 300_000)
            with pytest.raises(ChangedError, match="a: replaced while it was being read"):
                f.read()
        with pytest.raises(ChangedError, match="a: another object by now, of 300,000 bytes"):
            store.open("a", etag=etag)
        with store.open("a") as f:
            f.seek(-5, 2)
            assert f.read() == b"2" * 5


class TestListing:
    def test_pages_and_prefixes_that_end_within_a_name(self, store):
        keys = ["a", "ab/1", "ab/2", "ab/3", "abc", "b/x 图?#%20+", "b/y/z"]
        for key in keys:
            store.write_bytes(key, key.encode())
        assert [e.key for e in store.list("")] == keys
        assert [e.key for e in store.list("ab")] == ["ab/1", "ab/2", "ab/3", "abc"]
        assert [e.key for e in store.list("ab/")] == ["ab/1", "ab/2", "ab/3"]
        assert [e.key for e in store.list("b/x")] == ["b/x 图?#%20+"]
        assert store.list("c") == []
        assert all(store.read_bytes(key) == key.encode() for key in keys)

    def test_a_page_that_breaks_off_is_asked_for_again(self, server, store):
        for i in range(5):
            store.write_bytes(f"scores/{i}", b"1")
        server.fault = once("cut")
        assert len(store.list("scores/")) == 5
        server.fault = lambda method, path: "denied"
        with pytest.raises(StoreError):
            store.list("scores/")  # what cannot be listed must not look empty


def test_tables_and_json(store):
    store.write_json("a.json", {"a": [1, None]})
    assert store.read_json("a.json") == {"a": [1, None]}


@pytest.mark.parametrize("key", ["/a", "a/", "a//b", "./a", "a/../b", "a\n"])
def test_keys_that_would_be_another_object_are_refused(key):
    with pytest.raises(ValueError, match="the key"):
        refuse_key(key)


def test_addresses():
    assert split_object_url("GS://b/k/x") == ("gs", "b", "k/x")
    for bad in ("s3://b/k", "gs://", "gs:b", "az:///x"):
        with pytest.raises(ValueError, match="expected gs://bucket/key"):
            split_object_url(bad)


class TestPictures:
    def test_each_failure_has_its_status(self, server):
        settings = server.settings(retries=0, timeout_s=2)
        folder = uuid.uuid4().hex
        store = open_store(f"{server.scheme}://bucket/{folder}", settings)
        store.write_bytes("a b/!!0.jpg", b"body")
        store.write_bytes("empty.jpg", b"")
        store.write_bytes("large.jpg", bytes(2_000))
        root = f"{server.scheme}://bucket/{folder}"
        cases = {
            f"{root}/a b/!!0.jpg": Status.OK,
            f"{root}/none.jpg": Status.NOT_FOUND,
            f"{root}/empty.jpg": Status.EMPTY,
            f"{root}/large.jpg": Status.TOO_LARGE,
            f"{server.scheme}://bucket": Status.BAD_URL,
        }
        assert self.fetch(cases, settings) == cases

    @pytest.mark.parametrize(
        ("fault", "status"), [("denied", Status.ACCESS_DENIED), ("error", Status.HTTP_ERROR), ("hang", Status.TIMEOUT)]
    )
    def test_refusals(self, server, fault, status):
        url = f"{server.scheme}://bucket/x.jpg"
        server.fault = lambda method, path: fault
        assert self.fetch([url], server.settings(retries=0, timeout_s=0.3)) == {url: status}

    def test_a_key_that_cannot_be_addressed_costs_its_row(self, server):
        url = f"{server.scheme}://bucket/a//b.jpg"
        wanted = Status.NOT_FOUND if server.scheme == "s3" else Status.BAD_URL
        assert self.fetch([url], server.settings(retries=0)) == {url: wanted}

    def test_a_picture_that_has_not_changed_is_not_sent_again(self, server):
        store = open_store(f"{server.scheme}://bucket/{uuid.uuid4().hex}", server.settings(retries=0))
        store.write_bytes("x.jpg", b"one")
        asked = [(store.path("x.jpg"), None)]
        with Downloader(DownloadSettings(retries=0), server.settings(retries=0)) as downloader:
            [(_, first)] = downloader.stream(asked)
            known = {0: Validators(first.etag, first.last_modified)}
            [(_, again)] = downloader.stream(asked, known)
            [(_, elsewhere)] = downloader.stream(asked, {0: Validators(first.etag, None, "http://elsewhere/x.jpg")})
            store.write_bytes("x.jpg", b"two")
            [(_, changed)] = downloader.stream(asked, known)
        assert first.etag and first.last_modified and not first.not_modified
        assert again.not_modified and again.body is None and again.status is Status.OK
        assert (elsewhere.body, changed.body) == (b"one", b"two") and changed.etag != first.etag

    @staticmethod
    def fetch(urls, settings) -> dict[str, Status]:
        urls = list(urls)
        with Downloader(DownloadSettings(retries=0, max_bytes=1_000), settings) as downloader:
            return {urls[i]: f.status for i, f in downloader.stream([(u, None) for u in urls])}


def test_the_environments_proxy_is_used(monkeypatch):
    seen: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        settings = StoreSettings(gs_endpoint_url="http://gcs.invalid", public_buckets=["gs://b"], retries=0)
        with pytest.raises(StoreError, match="404"):
            open_store("gs://b", settings).read_bytes("x")
        proxy.shutdown()
    assert seen == ["http://gcs.invalid/b/x"]


def _signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost with its key, and the authority that signed it."""
    now, files = datetime.now(UTC), []
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, n)]) for n in ("authority", "localhost")]
    for i in range(2):
        dates = now - timedelta(1), now + timedelta(1)
        builder = x509.CertificateBuilder(names[0], names[i], keys[i].public_key(), i + 1, *dates)
        builder = builder.add_extension(x509.BasicConstraints(ca=i == 0, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        pem = builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        secret = keys[i].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files.append(folder / f"{i}.pem")
        files[-1].write_bytes(pem + secret if i else pem)
    return files[1], files[0]


def test_a_private_authority_is_trusted_when_the_environment_names_it(monkeypatch, tmp_path):
    certificate, authority = _signed(tmp_path)

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in (
                ("Content-Length", "2"),
                ("ETag", '"1"'),
                ("Last-Modified", "Thu, 26 Nov 2026 07:00:00 GMT"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}"
        settings = StoreSettings(gs_endpoint_url=url, public_buckets=["gs://b"], retries=0, timeout_s=5)
        with pytest.raises(StoreError, match="InvalidCertificate"):
            open_store("gs://b", settings).read_bytes("x")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert open_store("gs://b", settings).read_bytes("x") == b"ok"
        server.shutdown()
