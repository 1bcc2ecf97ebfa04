"""Proxies and certificates of the environment: which are used, which are passed by, and what is said beforehand."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.errors import ConfigError
from aistudio.images._proxies import Proxies
from aistudio.images.download import Downloader, Fetched
from aistudio.images.environment import check_environment
from aistudio.schema import Status

SETTINGS = DownloadSettings(allow_private_addresses=True, retries=0, timeout_s=10)
HTTP, HTTPS = ["http://far.invalid/x"], ["https://far.invalid/x"]
BOTH = HTTP + HTTPS


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def _fetch(*urls: str) -> list[Fetched]:
    with Downloader(SETTINGS, StoreSettings()) as downloader:
        got = dict(downloader.stream([(url, None) for url in urls]))
    return [got[i] for i in range(len(urls))]


# SOCKS and other proxies that cannot be used


@pytest.mark.parametrize("scheme", ["socks", "socks4", "socks5", "socks5h"])
def test_socks_beside_proxies_for_the_schemes_is_not_looked_at(
    image_server, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{image_server.port}")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", f"{scheme}://127.0.0.1:9")
    check_environment(SETTINGS, BOTH)
    image_server._pages["http://far.invalid/x"] = (200, b"by proxy", "")
    assert _fetch("http://far.invalid/x")[0].body == b"by proxy"


def test_socks_alone_is_one_sentence_for_http_rows_and_nothing_for_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://user:hunter2@127.0.0.1:1080")
    with pytest.raises(ConfigError, match=r"ALL_PROXY=socks5://\*\*\*@127\.0\.0\.1:1080: only http") as caught:
        check_environment(SETTINGS, HTTP)
    assert "\n" not in str(caught.value)
    check_environment(SETTINGS, [])
    check_environment(SETTINGS, ["/local/a.jpg", None, "", "s3://bucket/key", "file:///x", "ftp://x", "http://"])
    check_environment(SETTINGS.model_copy(update={"url_map": {"http://far.invalid": "/mirror"}}), HTTP)
    with pytest.raises(ConfigError, match="ALL_PROXY"):
        check_environment(SETTINGS.model_copy(update={"url_map": {"s3://b": "https://cdn"}}), ["s3://b/k"])
    check_environment(SETTINGS.model_copy(update={"trust_env_proxy": False}), BOTH)
    (tmp_path / "a.jpg").write_bytes(b"picture")
    local, far = _fetch(str(tmp_path / "a.jpg"), "http://far.invalid/x")
    assert local.status is Status.OK
    assert far.status is Status.CONNECTION_ERROR
    assert far.error == str(caught.value)


def test_socks_for_the_scheme_that_no_proxy_is_named_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    check_environment(SETTINGS, HTTP)
    with pytest.raises(ConfigError, match="ALL_PROXY"):
        check_environment(SETTINGS, HTTPS)


@pytest.mark.parametrize(
    "value", ["http://", "http://:3128", "http://proxy:port", "http://[::1", "ftp://p:1", "socks:x"]
)
def test_proxies_that_are_no_address(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(ConfigError, match="HTTP_PROXY="):
        check_environment(SETTINGS, HTTP)
    (got,) = _fetch("http://far.invalid/x")
    assert got.status is Status.CONNECTION_ERROR
    assert "HTTP_PROXY=" in (got.error or "")


# NO_PROXY


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("10.0.0.0/8", ["http://10.1.2.3/", "http://10.255.0.1:8080/"], ["http://11.0.0.1/", "http://10.example/"]),
        ("10.0.0.0/8 192.168.0.0/16", ["http://192.168.7.7/"], ["http://192.169.0.1/"]),
        ("10.1.2.3/8", ["http://10.9.9.9/"], ["http://9.9.9.9/"]),
        ("fd00::/8, ::1", ["http://[fd12::5]/", "http://[::1]:80/", "http://[0:0::1]/"], ["http://[fe80::1]/"]),
        ("[::1]", ["http://[::1]/", "http://[::1]:9000/"], ["http://[::2]/"]),
        ("[::1]:9000", ["http://[::1]:9000/"], ["http://[::1]/"]),
        ("*.corp", ["http://a.corp/", "http://a.b.CORP./"], ["http://acorp/", "http://corp.example/"]),
        (".corp", ["http://a.corp/", "http://corp/"], ["http://acorp/"]),
        ("corp", ["http://a.corp/", "http://corp/"], ["http://xcorp/", "http://corp.com/"]),
        ("a.corp:8080", ["http://a.corp:8080/", "http://x.a.corp:8080/"], ["http://a.corp/", "http://a.corp:80/"]),
        ("a.corp:443", ["https://a.corp/"], ["http://a.corp/"]),
        ("10.*", ["http://10.2.3.4/"], ["http://110.2.3.4/"]),
        ("img-*.shop", ["http://img-7.shop/"], ["http://img.shop/"]),
        ("*", ["http://anything/", "http://[::1]/"], []),
        ("http://a.corp/", ["http://a.corp/"], ["http://b.corp/"]),
        ("127.0.0.1", ["http://127.0.0.1/", "http://127.1/", "http://0x7f000001/"], ["http://127.0.0.2/"]),
        ("1", [], ["http://127.0.0.1/"]),
        ("10.0.0.0/8", ["http://[::ffff:10.1.1.1]/"], []),
        ("bücher.example", ["http://xn--bcher-kva.example/"], ["http://b.example/"]),
        (",, ,", [], ["http://a/"]),
        ("a:b:c,[,]:x,/8,a.corp:port", [], ["http://a.corp/", "http://a/"]),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: list[str], proxied: list[str]) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxies = Proxies()
    assert [proxies.of_url(URL(url)) for url in direct] == [None] * len(direct)
    assert [proxies.of_url(URL(url)) for url in proxied] == ["http://proxy:3128"] * len(proxied)


def test_what_passes_by_a_proxy_is_fetched_directly(image_server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    check_environment(SETTINGS, [image_server.url("ok/x"), image_server.url("ok/y")])
    assert _fetch(image_server.url("ok/x"))[0].status is Status.OK


# Certificates


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corp")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ours = x509.BasicConstraints(ca=True, path_length=None)
    signed = builder.add_extension(here, critical=False).add_extension(ours, critical=True).sign(key, hashes.SHA256())
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return cert, secret


@pytest.fixture
def corporate(image_server, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """An address whose certificate a private authority signed, and that authority's file."""
    cert, key = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = type(image_server)(ssl_context=context)
    request.addfinalizer(server.close)
    return server.url("ok/x").replace("http:", "https:"), cert


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_authority_is_trusted_where_the_environment_names_it(
    corporate: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    url, cert = corporate
    assert _fetch(url)[0].status is Status.TLS_ERROR
    monkeypatch.setenv(variable, str(cert))
    check_environment(SETTINGS, BOTH)
    (got,) = _fetch(url)
    assert got.status is Status.OK, got.error


def test_an_error_of_tls_names_the_authorities_in_use(
    corporate: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other, _ = _self_signed(tmp_path_factory.mktemp("other"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    (got,) = _fetch(corporate[0])
    assert got.status is Status.TLS_ERROR
    assert f"REQUESTS_CA_BUNDLE={other}" in (got.error or "")
    monkeypatch.setenv("SSL_CERT_FILE", str(corporate[1]))  # OpenSSL's own comes first
    assert _fetch(corporate[0])[0].status is Status.OK


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there(
    image_server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    (tmp_path / "noise.pem").write_bytes(b"\xff\xfe no certificate")
    for name in ("missing.pem", "empty.pem", "noise.pem"):
        monkeypatch.setenv(variable, str(tmp_path / name))
        check_environment(SETTINGS, HTTP)
        with pytest.raises(ConfigError, match=f"{variable}=.*{name}"):
            check_environment(SETTINGS, BOTH)
        plain, secure = _fetch(image_server.url("ok/x"), "https://127.0.0.1:9/x")
        assert plain.status is Status.OK
        assert secure.status is Status.TLS_ERROR
        assert variable in (secure.error or "")
