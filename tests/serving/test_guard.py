"""Limits and security: bodies, bombs, addresses, tokens, hosts, forms of other sites, rates, a full queue."""

import asyncio
import io
import json
import socket
import threading
import time
import zlib
from contextlib import suppress

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.requests import ClientDisconnect, Request

from aistudio.config import ImagesSettings, ServeSettings
from aistudio.schema import Status
from aistudio.serving import decoder as decoders
from aistudio.serving.counters import Counters
from aistudio.serving.decoder import SafeDecoder
from aistudio.serving.errors import Refused
from aistudio.serving.gate import Gate
from aistudio.serving.guard import Guard
from tests.serving.served import app_of, listening, picture


def test_a_gigabyte_is_refused_early(client, server):
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(16_384):
            sent += 65_536
            yield b"\0" * 65_536

    with suppress(httpx.WriteError):  # the server has answered and closed while we still wrote
        assert client.post("/v1/photos", content=endless()).status_code == 413
    assert sent < 50_000_000
    declared = client.build_request("POST", "/v1/photos", content=b"x", headers={"content-length": "1000000000"})
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        head = f"POST {declared.url.path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 1000000000\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(4_096).startswith(b"HTTP/1.1 413")
    assert client.get("/live").status_code == 200


def bomb():
    """A PNG of 60,000 x 60,000 pixels in a few kilobytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    data = zlib.compress(b"\0" * 200_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@pytest.mark.parametrize(
    ("body", "status"),
    [(bomb(), 413), (SVG, 422), (b"", 422), (b"/etc/passwd", 422), (b"<html>", 422), (picture("red", 1)[:200], 422),
     (b"\xff\xd8\xff" + b"\0" * 1000, 422), (b"\0" * 190_000, 422)],
    ids=["bomb", "svg", "nothing", "path", "html", "cut", "no jpeg", "zeros"],
)  # fmt: skip
def test_uploads_that_are_no_pictures(client, body, status):
    answer = client.post("/v1/photos", content=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    page = client.post("/photo", files={"file": ("x.png", body)}, headers={"accept": "text/html"})
    assert page.status_code == status and 'role="alert"' in page.text


@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/a.png", "http://[::1]/a.png", "http://0x7f000001/",
     "http://10.0.0.1/a.png", "file:///etc/passwd", "/etc/passwd", "s3://bucket/key.png", "ftp://x.example/a.png", "http://[",
     "http://localhost/a.png", "HTTP://2130706433/"],
)  # fmt: skip
def test_addresses_of_this_machine_and_its_neighbours_are_refused(client, address):
    answer = client.post("/v1/search", json={"image_url": address})
    assert answer.status_code == 422, answer.text
    assert "passwd" not in answer.text.replace(address, "") and "allow_private" not in answer.text
    assert client.get("/", params={"url": address}).status_code == 422


def test_visitors_requests_carry_nothing_of_the_operators(served_run):
    from aistudio.config import DownloadSettings, ServeSettings
    from aistudio.serving.photos import visitors_download

    own = DownloadSettings(
        headers={"authorization": "secret"}, allow_private_addresses=True, url_map={"http://a/": "file:///"}, retries=9
    )
    seen = visitors_download(own, ServeSettings())
    assert not seen.headers and not seen.url_map and not seen.allow_private_addresses and not seen.trust_env_proxy


def test_a_token_is_demanded(served_run):
    token = "a token of some length"
    with listening(app_of([served_run.root], token=token)) as base, httpx.Client(base_url=base, timeout=20) as client:
        assert client.get("/live").status_code == 200
        for path in ("/v1/runs", "/metrics", "/openapi.json", "/v1/thumbnail?row=1"):
            assert client.get(path).status_code == 401
        assert client.get("/", headers={"accept": "text/html"}).headers["location"] == "/login"
        assert client.get("/v1/runs", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/runs", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        signed = client.post("/login", data={"token": token})
        assert signed.status_code == 303 and "httponly" in signed.headers["set-cookie"].lower()
        assert client.get("/v1/runs").status_code == 200  # the cookie


def test_other_names_and_other_sites_are_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "["}).status_code == 421
    for origin in ("http://evil.example", "null", "http://["):
        answer = client.post("/v1/search", json={"text": "a"}, headers={"origin": origin})
        assert answer.status_code == 403
    own = str(client.base_url).rstrip("/")
    assert client.post("/v1/search", json={"text": "a"}, headers={"origin": own}).status_code == 200


def test_a_rate_has_a_limit(served_run):
    with listening(app_of([served_run.root], ["serve.requests_per_minute=3"], models=["recall"])) as base:
        answers = [httpx.post(f"{base}/v1/search", json={"text": "a"}, timeout=20) for _ in range(5)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429, 429] and "retry-after" in answers[-1].headers
        assert httpx.get(f"{base}/live", timeout=20).status_code == 200


def test_a_full_queue_refuses_and_empties_again():

    async def scene():
        gate, free = Gate(1, 1, Counters()), threading.Event()
        first = [asyncio.create_task(gate.run(free.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as refused:
            await gate.run(lambda: 1)
        first[1].cancel()  # a visitor who goes away while waiting makes room, once
        free.set()
        assert await first[0]
        await asyncio.sleep(0.05)
        assert await gate.run(lambda: 2) == 2
        gate.close()
        return refused.value.status

    assert asyncio.run(scene()) == 429


GONE = {"type": "http.disconnect"}
PART = {"type": "http.request", "body": b"abc", "more_body": True}
WHOLE = PART | {"more_body": False}


async def _reads(scope, receive, send):
    await Request(scope, receive, send).body()


async def _asks_whether_it_is_there(scope, receive, send):
    await receive()
    assert (await receive()) == GONE
    raise ClientDisconnect


async def _answers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(
    ("app", "messages", "sending", "status", "told"),
    [
        (_reads, [PART, GONE], None, 499, ""),
        (_asks_whether_it_is_there, [WHOLE, GONE], None, 499, ""),
        (_answers, [WHOLE], RuntimeError("unable to perform operation on <TCPTransport closed=True>"), 200, ""),
        (_answers, [WHOLE], BrokenPipeError(), 200, ""),
        (_answers, [WHOLE], RuntimeError("Response content longer than Content-Length"), 200, "error: RuntimeError"),
        (_asks_whether_it_is_there, [WHOLE, WHOLE], None, 500, "error: AssertionError"),
    ],
)
def test_a_visitor_who_goes_away_is_no_fault_of_the_server(capsys, app, messages, sending, status, told):
    left, log = list(messages), io.StringIO()

    async def receive():
        return left.pop(0)

    async def send(message):
        if sending is not None:
            raise sending

    scope = {"type": "http", "method": "POST", "path": "/v1/photos", "headers": [(b"host", b"127.0.0.1")]}
    guard = Guard(app, ServeSettings(), None, Counters(), log, page=lambda text: text.encode())
    asyncio.run(guard(scope, receive, send))
    assert json.loads(log.getvalue())["status"] == status
    said = capsys.readouterr().err
    assert said.startswith(told) if told else said == ""


def test_an_upload_that_is_left_is_noted_as_such(served_run, capsys):
    log = io.StringIO()
    with listening(app_of([served_run.root], models=["recall"], log=log)) as base:
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(f"POST /v1/photos HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100\r\n\r\nabc".encode())
        until = time.monotonic() + 20
        while "/v1/photos" not in log.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
    (line,) = [line for line in log.getvalue().splitlines() if "/v1/photos" in line]
    assert json.loads(line)["status"] == 499 and "error: " not in capsys.readouterr().err


def test_a_slow_body_does_not_hold_a_worker(served_run):
    with listening(app_of([served_run.root], ["serve.body_timeout_s=0.5"], models=["recall"])) as base:
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(f"POST /v1/photos HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100\r\n\r\nabc".encode())
            assert raw.recv(4_096).startswith(b"HTTP/1.1 408")


def _die(link):
    link.send("ready")
    link.recv()
    raise SystemExit(1)


def _hang(link):
    link.send("ready")
    time.sleep(600)


@pytest.mark.parametrize(("work", "said"), [(_die, "ended the process"), (_hang, "longer than 0.5 s")])
def test_a_decoder_that_dies_or_hangs_costs_its_picture_alone(monkeypatch, work, said):
    safe = SafeDecoder(ImagesSettings(), 30 if work is _die else 0.5)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(decoders, "_work", work)
            found = safe.decode(picture("red", 1), [])
            assert found.status == Status.UNSUPPORTED_IMAGE and said in found.error
        safe._timeout_s = 30
        assert safe.decode(picture("red", 1), []).status == Status.OK
    finally:
        safe.close()


def test_uploads_are_decoded_as_the_run_decoded(served_run):
    """A picture that is turned by its EXIF data, with alpha: the bits of the run's own decoder."""
    from aistudio.images.decode import decode

    out = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 4), dtype=np.uint8), "RGBA")
    image.save(out, "PNG")
    plan = json.loads((served_run.read_bytes("run.json")).decode())
    assert plan["config"]["images"]["apply_exif_orientation"] is False
    safe = SafeDecoder(ImagesSettings(), 30)
    try:
        assert safe.decode(out.getvalue(), []) == decode(out.getvalue(), [], ImagesSettings())
    finally:
        safe.close()


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [("POST", "/photo", {"content": b"x" * 400_000}, 413), ("GET", "/nowhere", {}, 404), ("GET", "/photo", {}, 405),
     ("GET", "/picture/no-such-run/1", {}, 404),
     ("POST", "/login", {"headers": {"origin": "http://evil.example"}}, 403),
     ("GET", "/", {"headers": {"host": "evil.example"}}, 421)],
)  # fmt: skip
def test_people_get_a_page_where_programs_get_json(client, method, path, sent, status):
    sent = dict(sent)
    headers = sent.pop("headers", {})
    seen = client.request(method, path, headers=headers | {"accept": "text/html,*/*;q=0.8"}, **sent)
    assert seen.status_code == status and seen.headers["content-type"] == "text/html; charset=utf-8"
    assert 'role="alert"' in seen.text and 'href="/"' in seen.text
    told = client.request(method, path, headers=headers, **sent)
    assert told.status_code == status and told.json()["error"] and "<" not in told.json()["error"]


def test_the_api_answers_browsers_in_json_too(client):
    seen = client.get("/v1/nowhere", headers={"accept": "text/html"})
    assert seen.status_code == 404 and seen.json()["error"]
