"""download.py against a local server with every fault, files, S3, TLS and a proxy."""

import gc
import os
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

from aistudio.config import DownloadSettings, ImageSpec, ImagesSettings, StoreSettings
from aistudio.images import _addresses
from aistudio.images.decode import decode
from aistudio.images.download import Downloader, Fetched
from aistudio.schema import Status

STORE = StoreSettings(retries=1, timeout_s=2)


def _settings(**changes) -> DownloadSettings:
    base = {
        "timeout_s": 1.0,
        "read_timeout_s": 0.4,
        "connect_timeout_s": 1.0,
        "retries": 2,
        "backoff_s": 0.02,
        "backoff_max_s": 3.0,
        "max_bytes": 2_000_000,
        "allow_private_addresses": True,
    }
    return DownloadSettings.model_validate(base | changes)


def _fetch(*urls: str | tuple[str, str | None], store: StoreSettings = STORE, **changes) -> list[Fetched]:
    requests = [u if isinstance(u, tuple) else (u, None) for u in urls]
    with Downloader(_settings(**changes), store) as downloader:
        got = dict(downloader.stream(requests))
    assert sorted(got) == list(range(len(requests)))
    return [got[i] for i in range(len(requests))]


def _wait_until(condition: Callable[[], bool], limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


FAULTS = {
    "ok": (Status.OK, 1),
    "404": (Status.HTTP_ERROR, 1),
    "403": (Status.HTTP_ERROR, 1),
    "410": (Status.HTTP_ERROR, 1),
    "500": (Status.HTTP_ERROR, 3),
    "503": (Status.HTTP_ERROR, 3),
    "429": (Status.OK, 2),
    "429date": (Status.OK, 2),
    "flaky": (Status.OK, 3),
    "timeout": (Status.TIMEOUT, 3),
    "slow": (Status.TIMEOUT, 3),
    "stall": (Status.TIMEOUT, 3),
    "truncate": (Status.CONNECTION_ERROR, 3),
    "reset": (Status.CONNECTION_ERROR, 3),
    "reset_once": (Status.OK, 2),
    "chunked_cut": (Status.CONNECTION_ERROR, 3),
    "bad_header": (Status.CONNECTION_ERROR, None),  # aiohttp itself may try a kept connection once more
    "empty": (Status.EMPTY, 1),
    "html": (Status.NOT_AN_IMAGE, 1),
    "garbage": (Status.NOT_AN_IMAGE, 1),
    "cut_jpeg": (Status.TRUNCATED_IMAGE, 1),
    "huge": (Status.TOO_LARGE, 1),
    "gzip_bomb": (Status.TOO_LARGE, 1),
    "gzip": (Status.OK, 1),
    "gzip_cut": (Status.CONNECTION_ERROR, 3),
    "gzip_bad": (Status.CONNECTION_ERROR, 3),
    "deflate": (Status.OK, 1),
    "deflate_raw": (Status.OK, 1),
    "brotli": (Status.CONNECTION_ERROR, 1),
    "no_length": (Status.OK, 1),
    "chunked": (Status.OK, 1),
    "redirect": (Status.OK, 1),
    "redirect_cookie": (Status.OK, 2),
    "redirect_loop": (Status.TOO_MANY_REDIRECTS, 6),
    "redirect_file": (Status.BAD_URL, 1),
    "redirect_s3": (Status.BAD_URL, 1),
}


def test_every_fault_ends_in_its_status(image_server) -> None:
    got = _fetch(*(image_server.url(f"{fault}/x!!0.jpg") for fault in FAULTS))
    for (fault, (status, num_tries)), fetched in zip(FAULTS.items(), got, strict=True):
        if fetched.status is Status.OK:
            decoded = decode(fetched.body or b"", [ImageSpec(size=16)], ImagesSettings())
            assert decoded.status is status, fault
            assert fetched.error is None
            assert fetched.num_bytes == len(fetched.body or b"")
            if status is Status.OK:
                assert fetched.body == image_server.image, fault
        else:
            assert fetched.status is status, (fault, fetched.error)
            assert fetched.body is None
            assert fetched.error
        if num_tries is not None:
            assert image_server.hits[f"/{fault}/x!!0.jpg"] == num_tries, fault
    by_fault = dict(zip(FAULTS, got, strict=True))
    assert by_fault["404"].http_status == 404
    assert by_fault["503"].http_status == 503
    assert "(3 tries)" in (by_fault["503"].error or "")
    assert by_fault["redirect"].final_url == image_server.url("/ok/redirect/x!!0.jpg")
    assert by_fault["ok"].final_url is None
    assert "download.timeout_s" in (by_fault["slow"].error or "")
    assert "download.read_timeout_s" in (by_fault["stall"].error or "")


def test_bad_rows_never_raise(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "large.jpg").write_bytes(bytes(2_000_001))
    os.mkfifo(tmp_path / "fifo.jpg")
    cases = {
        "": Status.BAD_URL,
        "javascript:alert(1)": Status.BAD_URL,
        "http://": Status.BAD_URL,
        "http://h.example/a b": Status.BAD_URL,
        "http://nosuchhost.invalid/x.jpg": Status.DNS_ERROR,
        "http://127.0.0.1:1/x.jpg": Status.CONNECTION_ERROR,
        "http://[::1]:1/x.jpg": Status.CONNECTION_ERROR,
        "/no/such/file.jpg": Status.NOT_FOUND,
        "file:///no/such/file.jpg": Status.NOT_FOUND,
        str(tmp_path): Status.NOT_FOUND,
        str(tmp_path / "fifo.jpg"): Status.NOT_FOUND,
        str(tmp_path / "empty.jpg"): Status.EMPTY,
        str(tmp_path / "large.jpg"): Status.TOO_LARGE,
        "/dev/zero": Status.NOT_FOUND,
        "/" + "x" * 5000: Status.NOT_FOUND,
        "\ud800": Status.BAD_URL,
    }
    for url, fetched in zip(cases, _fetch(*cases), strict=True):
        assert fetched.status is cases[url], (url, fetched.error)
        assert fetched.error


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a b!%41.jpg"
    path.write_bytes(b"body")
    url = path.as_uri()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"x")
    url_map = {"https://img.example/": tmp_path.as_uri() + "/"}
    plain, as_url, mapped, denied = _fetch(
        str(path), url, "https://img.example/a%20b!%2541.jpg", str(secret), url_map=url_map
    )
    assert plain.body == as_url.body == mapped.body == b"body"
    assert plain.http_status is None
    assert denied.status is Status.OK
    if os.geteuid() != 0:  # root may read everything
        secret.chmod(0)
        assert _fetch(str(secret))[0].status is Status.ACCESS_DENIED


def test_request_as_sent(image_server) -> None:
    path = "/ok/TB2_!!0-alitrip.jpg?q=a%2Fb!&x='(1)"
    url = image_server.url(path).replace("http://", "http://user:pa%3Ass@")
    (got,) = _fetch(url, headers={"X-Team": "studio"}, user_agent="studio/1")
    assert got.status is Status.OK
    head = image_server.heads[path]
    assert "Authorization: Basic dXNlcjpwYTpzcw==" in head  # user:pa:ss
    assert "X-Team: studio" in head
    assert "User-Agent: studio/1" in head
    assert "Accept-Encoding: gzip, deflate\r" in head


def test_no_password_in_any_outcome(image_server) -> None:
    base = image_server.url("").replace("http://", "http://user:hunter2@")
    got = _fetch(
        *(base + f"{f}/x" for f in ("404", "timeout", "truncate", "redirect", "redirect_loop", "bad_header", "empty")),
        ("http://user:hunter2@127.0.0.1:1/x", base + "ok/x"),
        ("http://user:hunter2@127.0.0.1:1/x", base + "404/x"),
        "http://user:hunter2@h ost/",
        "http://user:hunter2@host:port/",
        "http://user:hunter2/x@127.0.0.1/",
        "s3://user:hunter2@/",
        "file://user:hunter2@host/x",
        image_server.add("to", b"", status=302, headers="Location: http://a:hunter2@127.0.0.1:1/x y\r\n"),
        image_server.add("to3", b"", status=302, headers=f"Location: ftp://a:{'hunter2' * 50}@h/\r\n"),
        image_server.add("to2", b"", status=302, headers="Location: ftp://a:hunter2@h/\r\n"),
    )
    for fetched in got:
        assert "hunter2" not in f"{fetched.error} {fetched.final_url}"


def test_authorization_is_not_shown_to_another_site(image_server, request: pytest.FixtureRequest) -> None:
    other = type(image_server)()
    request.addfinalizer(other.close)
    away = image_server.add("away", b"", status=302, headers=f"Location: {other.url('ok/there')}\r\n")
    here = image_server.add("here", b"", status=302, headers="Location: /ok/here2\r\n")
    got = _fetch(away, here, headers={"Authorization": "Bearer secret", "X-Team": "studio"})
    assert [f.status for f in got] == [Status.OK, Status.OK]
    assert "Bearer secret" in image_server.heads["/away"]
    assert "Bearer secret" in image_server.heads["/ok/here2"]
    assert "Authorization" not in other.heads["/ok/there"]
    assert "X-Team: studio" in other.heads["/ok/there"]


def test_private_addresses_are_blocked(image_server) -> None:
    port = image_server.port
    urls = [f"http://{h}:{port}/ok/x" for h in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]")]
    mapped = "https://img.example/x"
    got = _fetch(
        *urls, mapped, allow_private_addresses=False, url_map={"https://img.example/": f"http://127.0.0.1:{port}/"}
    )
    for fetched in got:
        assert fetched.status is Status.BLOCKED_ADDRESS, fetched.error
        assert "download.allow_private_addresses" in (fetched.error or "")
    assert not image_server.hits


@pytest.fixture
def loopback_counts_as_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test start from a "public" server and see what a redirect may reach."""
    real = _addresses.is_blocked
    monkeypatch.setattr(_addresses, "is_blocked", lambda a: str(a) != "127.0.0.1" and real(a))


@pytest.mark.usefixtures("loopback_counts_as_public")
def test_redirects_are_checked_at_each_hop(image_server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rebinding:
        """Answers with an inner address although the name looks harmless."""

        async def resolve(self, host: str, port: int, family: int) -> list[dict]:
            return [{"hostname": host, "host": "10.1.2.3", "port": port, "family": 2, "proto": 0, "flags": 0}]

        async def close(self) -> None:
            pass

    monkeypatch.setattr(_addresses, "DefaultResolver", Rebinding)
    to_name = image_server.add("name", b"", status=302, headers="Location: http://cdn.example/x\r\n")
    twice = image_server.add("twice", b"", status=307, headers="Location: /redirect_private/x\r\n")
    fine, private, name, two = _fetch(
        image_server.url("redirect/x"), image_server.url("redirect_private/x"), to_name, twice,
        allow_private_addresses=False,
    )  # fmt: skip
    assert fine.status is Status.OK
    assert [f.status for f in (private, name, two)] == [Status.BLOCKED_ADDRESS] * 3
    assert "169.254.169.254" in (private.error or "")
    assert "cdn.example resolves to 10.1.2.3" in (name.error or "")


def test_redirect_limit_and_odd_locations(image_server) -> None:
    image_server.add("a", b"", status=301, headers="Location: b\r\n")
    image_server.add("b", b"", status=308, headers=f"Location: //127.0.0.1:{image_server.port}/ok/c d\r\n")
    no_place = image_server.add("none", b"", status=302)
    odd = image_server.add("odd", b"", status=302, headers="Location: http://[\r\n")
    assert _fetch(image_server.url("a"))[0].final_url == image_server.url("ok/c%20d")
    assert _fetch(image_server.url("a"), max_redirects=1)[0].status is Status.TOO_MANY_REDIRECTS
    got = _fetch(no_place, odd)
    assert [(f.status, f.http_status) for f in got] == [(Status.HTTP_ERROR, 302), (Status.BAD_URL, None)]


def test_fallback(image_server) -> None:
    ok, bad = image_server.url("ok/2"), image_server.url("404/1")
    used, unused, both = _fetch((bad, ok), (ok, bad), (bad, "http://127.0.0.1:1/x"))
    assert (used.status, used.final_url) == (Status.OK, ok)
    assert (unused.status, unused.final_url) == (Status.OK, None)
    assert (both.status, both.http_status) == (Status.HTTP_ERROR, 404)
    assert "404" in (both.error or "")
    assert "fallback_url: connection_error" in (both.error or "")


def test_retry_after_is_honoured_and_capped(image_server) -> None:
    start = time.monotonic()
    assert _fetch(image_server.url("429/x"))[0].status is Status.OK
    assert time.monotonic() - start >= 1.0
    url = image_server.add("later", b"", status=429, headers="Retry-After: 3600\r\n")
    assert _fetch(url, backoff_max_s=0.05)[0].http_status == 429
    assert image_server.hits["/later"] == 3


def test_max_bytes_is_exact(image_server) -> None:
    exact, over = image_server.add("e", bytes(1000)), image_server.add("o", bytes(1001))
    got = _fetch(exact, over, image_server.url("huge/x"), max_bytes=1000)
    assert [f.status for f in got] == [Status.OK, Status.TOO_LARGE, Status.TOO_LARGE]


def test_concurrency_over_all_streams(image_server) -> None:
    image_server.latency_s = 0.02
    requests = [(image_server.url(f"ok/{i}"), None) for i in range(60)]
    with Downloader(_settings(concurrency=8, per_host_concurrency=5), STORE) as downloader:
        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda: counts.append(len(list(downloader.stream(requests))))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert counts == [60, 60, 60]
    assert image_server.peak == 5  # all to one host

    image_server.peak = 0
    two_hosts = [(image_server.url(f"ok/{i}", host=h), None) for i in range(40) for h in ("127.0.0.1", "localhost")]
    with Downloader(_settings(concurrency=8, per_host_concurrency=5), STORE) as downloader:
        assert len(list(downloader.stream(two_hosts))) == 80
    assert image_server.peak == 8


def test_a_slow_consumer_stops_the_fetching(image_server) -> None:
    requests = [(image_server.url(f"ok/{i}"), None) for i in range(200)]
    with Downloader(_settings(concurrency=4), STORE) as downloader:
        stream = downloader.stream(requests)
        next(stream)
        time.sleep(0.5)
        assert len(image_server.hits) <= 4 * 4 + 1
        assert len(list(stream)) == 199


def test_waiting_bytes_are_bounded(image_server) -> None:
    for i in range(60):
        image_server.add(f"b{i}", bytes(300_000))
    requests = [(image_server.url(f"b{i}"), None) for i in range(60)]
    with Downloader(_settings(concurrency=16), STORE, max_waiting_bytes=3_000_000) as downloader:
        streams = [downloader.stream(requests), downloader.stream(requests)]
        firsts = [next(s) for s in streams]
        assert all(f.status is Status.OK for _, f in firsts)
        time.sleep(0.5)
        assert sum(image_server.hits.values()) <= 12
        for stream in streams:  # one after the other: the first must not be starved by what the second holds
            assert len(list(stream)) == 59
        assert downloader._budget._used == 0 or _settled(downloader)


def _settled(downloader: Downloader) -> bool:
    _wait_until(lambda: downloader._budget._used == 0)
    return True


def test_stopping_early_leaves_nothing_behind(image_server) -> None:
    urls = [image_server.url(f"{'timeout' if i % 2 else 'ok'}/{i}") for i in range(40)]
    with Downloader(_settings(concurrency=8, timeout_s=30, read_timeout_s=30), STORE) as downloader:
        for _ in downloader.stream([(u, None) for u in urls]):
            break
        gc.collect()
        _wait_until(lambda: not downloader._streams and not any(d.gate.users for d in downloader._doors.values()))
        assert _settled(downloader)
        assert downloader._slots._value == 8
        assert [f.status for _, f in downloader.stream([(image_server.url("ok/x"), None)])] == [Status.OK]


def test_close_wakes_a_waiting_consumer(image_server) -> None:
    downloader = Downloader(_settings(timeout_s=30, read_timeout_s=30), STORE)
    errors: list[str] = []

    def consume() -> None:
        with pytest.raises(RuntimeError) as caught:
            list(downloader.stream([(image_server.url("timeout/x"), None)]))
        errors.append(str(caught.value))

    thread = threading.Thread(target=consume)
    thread.start()
    _wait_until(lambda: image_server.active == 1)
    downloader.close()
    thread.join(10)
    assert errors == ["the downloader was closed"]
    with pytest.raises(RuntimeError, match="closed"):
        list(downloader.stream([("http://h.example/", None)]))
    downloader.close()


def test_empty_input() -> None:
    assert _fetch() == []


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.mark.usefixtures("credentials")
def test_s3() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = StoreSettings(endpoint_url=f"http://{host}:{port}", retries=0, timeout_s=5)
        client = boto3.client("s3", endpoint_url=store.endpoint_url, region_name="us-east-1")
        client.create_bucket(Bucket="images")
        client.put_object(Bucket="images", Key="a b/!!0.jpg", Body=b"body")
        client.put_object(Bucket="images", Key="empty.jpg", Body=b"")
        client.put_object(Bucket="images", Key="large.jpg", Body=bytes(2_000_001))
        cases = {
            "s3://images/a b/!!0.jpg": Status.OK,
            "https://img.example/a b/!!0.jpg": Status.OK,
            "s3://images/none.jpg": Status.NOT_FOUND,
            "s3://nobucket/x.jpg": Status.NOT_FOUND,
            "s3://images/empty.jpg": Status.EMPTY,
            "s3://images/large.jpg": Status.TOO_LARGE,
            "s3://Bad Bucket!/x": Status.BAD_URL,
        }
        got = _fetch(
            *cases, store=store, allow_private_addresses=False, url_map={"https://img.example/": "s3://images/"}
        )
    finally:
        server.stop()
    assert {u: f.status for u, f in zip(cases, got, strict=True)} == cases
    assert got[0].body == got[1].body == b"body"


@pytest.mark.usefixtures("credentials")
def test_s3_refusals(image_server) -> None:
    for status, code in ((403, "AccessDenied"), (404, "NoSuchKey"), (500, "InternalError")):
        xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
        image_server.add(f"b/{status}", xml, status=status, headers="Content-Type: application/xml\r\n")
    store = StoreSettings(endpoint_url=image_server.url("").rstrip("/"), retries=1, timeout_s=0.5)
    got = _fetch("s3://b/403", "s3://b/404", "s3://b/500", "s3://timeout/x", "s3://truncate/x", store=store)
    want = [Status.ACCESS_DENIED, Status.NOT_FOUND, Status.HTTP_ERROR, Status.TIMEOUT, Status.CONNECTION_ERROR]
    assert [f.status for f in got] == want
    assert image_server.hits["/b/500"] == 2  # store.retries


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls(image_server, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_self_signed(tmp_path))
    secure = type(image_server)(ssl_context=context)
    request.addfinalizer(secure.close)
    untrusted, not_tls = _fetch(
        secure.url("ok/x").replace("http:", "https:"), image_server.add("plain", b"").replace("http:", "https:"),
        retries=0,
    )  # fmt: skip
    assert untrusted.status is Status.TLS_ERROR
    assert "certificate" in (untrusted.error or "")
    assert not_tls.status in (Status.TLS_ERROR, Status.TIMEOUT, Status.CONNECTION_ERROR)
    assert not secure.hits


def test_proxy_from_the_environment(image_server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{image_server.port}")
    monkeypatch.setenv("no_proxy", "direct.invalid")
    image_server.add("http://far.invalid/x", b"by proxy")
    image_server._pages["http://far.invalid/x"] = image_server._pages.pop("/http://far.invalid/x")
    urls = ("http://far.invalid/x", "http://direct.invalid/x", "http://10.0.0.1/x")
    # The proxy's own address is private, and fine: the operator chose it. A private target is not.
    via, direct, private = _fetch(*urls, allow_private_addresses=False)
    assert via.body == b"by proxy"
    assert direct.status is Status.DNS_ERROR
    assert private.status is Status.BLOCKED_ADDRESS
    assert _fetch(urls[0], trust_env_proxy=False)[0].status is Status.DNS_ERROR
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert _fetch(urls[0])[0].status is Status.CONNECTION_ERROR
