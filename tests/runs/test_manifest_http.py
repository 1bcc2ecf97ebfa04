"""Manifests by HTTP: whole or refused, by one GET, with the downloads' agent, headers, redirects and retries."""

import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from aistudio.config import DownloadSettings, ManifestSettings, StoreSettings
from aistudio.errors import ManifestError
from aistudio.runs import layout
from aistudio.runs.manifest_files import InputFile, list_inputs, open_input
from aistudio.runs.manifest_http import fetch_manifest
from aistudio.runs.record import without_secrets
from aistudio.runs.snapshot import NormaliseGroup, find_manifest, manifest_identity
from aistudio.store import open_store

BODY = b"item_id,image_url\n" + b"".join(b"%d,http://h/%d.jpg\n" % (i, i) for i in range(200))
FAST = DownloadSettings(retries=2, backoff_s=0.01, read_timeout_s=2, timeout_s=2)


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """`server.answer` is called with the handler for each GET; `server.seen` lists (method, path, headers)."""
    state = SimpleNamespace(seen=[], answer=None)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.seen.append((self.command, self.path, dict(self.headers)))
            state.answer(self)

        def do_HEAD(self) -> None:
            state.seen.append((self.command, self.path, dict(self.headers)))
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        yield state
        http.shutdown()


def plain(body: bytes = BODY, length: int | None = None, status: int = 200, **headers: str) -> Callable[..., None]:
    """An answer with these bytes; `length` is what Content-Length says (-1: not at all)."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if length != -1:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def content(url: str, settings: DownloadSettings = FAST) -> bytes:
    got = fetch_manifest(url, settings)
    with got.stream as stream:
        data = stream.read()
    assert got.size == len(data)
    return data


def found(url: str) -> InputFile:
    return list_inputs(ManifestSettings(path=url, format="csv"), StoreSettings(), FAST)[0]


def test_one_get_and_no_head_with_the_size_that_came(server):
    server.answer = plain(ETag='"7"')
    file = found(f"{server.url}/m.csv")
    assert (file.size, file.version) == (len(BODY), '"7"')
    with open_input(file, StoreSettings(), FAST) as stream:
        assert stream.read() == BODY
    assert [method for method, _, _ in server.seen] == ["GET"]


@pytest.mark.parametrize("sent", [0.6, 0.999])
def test_a_cut_body_is_refused_with_both_sizes_after_every_try(server, sent):
    part = BODY[: int(len(BODY) * sent)]
    server.answer = plain(part, length=len(BODY))
    with pytest.raises(ManifestError) as e:
        found(f"{server.url}/cut.csv")
    text = str(e.value)
    assert f"{server.url}/cut.csv" in text and f"{len(part):,} of {len(BODY):,} bytes" in text
    assert len(server.seen) == FAST.retries + 1


def test_a_cut_chunked_body_is_refused(server):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(BODY) + BODY[:100])

    server.answer = answer
    with pytest.raises(ManifestError, match="the body ended early"):
        found(f"{server.url}/m.csv")


def test_another_try_mends_a_cut_a_busy_and_a_not_yet_ready_answer(server):
    answers = [plain(BODY[:50], length=len(BODY)), plain(b"", status=503), plain(BODY)]
    server.answer = lambda handler: answers.pop(0)(handler)
    assert content(f"{server.url}/m.csv") == BODY
    answers = [plain(b"", status=202, Retry_After="0"), plain(b"", status=429), plain(BODY)]
    server.answer = lambda handler: answers.pop(0)(handler)
    assert content(f"{server.url}/m.csv") == BODY


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_one_message_at_the_first_try(server, status):
    server.answer = plain(b"no", status=status)
    with pytest.raises(ManifestError, match=f"the server answered {status}"):
        found(f"{server.url}/m.csv")
    assert len(server.seen) == 1


@pytest.mark.parametrize("phrase", ["Página não", "\x1b[31mred\x85", "x" * 5000], ids=["latin-1", "control", "long"])
def test_a_reason_phrase_is_told_as_it_is_meant_and_bounded(server, phrase):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.0 404 {phrase}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))

    server.answer = answer
    with pytest.raises(ManifestError) as e:
        found(f"{server.url}/m.csv")
    text = str(e.value)
    assert text.encode() and len(text) < 1500 and "\x1b" not in text
    assert "404 Página não" in text or phrase != "Página não"


def test_what_is_no_address_or_out_of_reach_is_one_message():
    for url in ("http://", "http://[bad/x.csv", "http://127.0.0.1:1/x.csv", "http://h:port/x.csv"):
        with pytest.raises(ManifestError, match=r"manifest\.path: http"):
            found(url)


def test_odd_addresses_are_encoded_as_a_browser_does(server):
    server.answer = plain()
    for path, asked in (
        ("/with space.csv", "/with%20space.csv"),
        ("/目录/m.csv?a=b c", "/%E7%9B%AE%E5%BD%95/m.csv?a=b%20c"),
        ("/a%2Fb.csv?x=%20", "/a%2Fb.csv?x=%20"),
        ("/m.csv#sheet1", "/m.csv"),
    ):
        assert content(server.url + path) == BODY
        assert server.seen[-1][1] == asked


def test_agent_and_headers_are_those_of_the_downloads_and_do_not_follow_to_another_host(server):
    settings = FAST.model_copy(update={"user_agent": "shop/1", "headers": {"Authorization": "Bearer x", "X-A": "b"}})

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/from":
            other = server.url.replace("127.0.0.1", "localhost")
            plain(b"", status=302, Location=f"{other}/to with space")(handler)
        else:
            plain()(handler)

    server.answer = answer
    assert content(f"{server.url}/from", settings) == BODY
    (_, _, first), (_, path, second) = server.seen
    assert first["User-Agent"] == second["User-Agent"] == "shop/1" and first["X-A"] == "b"
    assert first["Authorization"] == "Bearer x" and "Authorization" not in second
    assert path == "/to%20with%20space"


def test_endless_redirects_end(server):
    server.answer = plain(b"", status=302, Location="/again")
    with pytest.raises(ManifestError, match="redirects"):
        found(f"{server.url}/m.csv")


def test_silence_is_bounded_but_one_picture_s_limits_do_not_hold(server):
    release = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        plain(BODY[:10], length=len(BODY))(handler)
        handler.wfile.flush()
        release.wait(20)

    server.answer = answer
    quick = FAST.model_copy(update={"read_timeout_s": 0.2, "retries": 0})
    with pytest.raises(ManifestError, match=r"download\.read_timeout_s"):
        fetch_manifest(f"{server.url}/m.csv", quick)
    release.set()
    server.answer = plain()
    small = FAST.model_copy(update={"max_bytes": 100, "allow_private_addresses": False})
    assert content(f"{server.url}/m.csv", small) == BODY


@pytest.mark.parametrize("headers", [{}, {"ETag": '"1"'}], ids=["nothing", "the same ETag"])
def test_what_changes_between_finding_and_reading_is_refused(server, headers):
    server.answer = plain(length=-1 if not headers else None, **headers)
    url = f"{server.url}/m.csv"
    file = found(url)
    open_input(file, StoreSettings(), FAST).close()  # the copy that was kept
    more = BODY + b"new,http://h/new.jpg\n"
    server.answer = plain(more, length=-1 if not headers else None, **headers)
    with pytest.raises(ManifestError, match=rf"{len(BODY):,} bytes.*{len(more):,} now"):
        open_input(file, StoreSettings(), FAST)
    same_size = BODY.replace(b"199.jpg", b"199.png")
    server.answer = plain(same_size, length=-1 if not headers else None, **headers)
    with pytest.raises(ManifestError, match="changed while the run was starting"):
        open_input(file, StoreSettings(), FAST)
    if not headers:
        assert found(url).version != file.version


def test_an_empty_answer_and_a_page_that_is_only_a_part_are_refused(server):
    server.answer = plain(b"")
    with pytest.raises(ManifestError, match="without a body"):
        found(f"{server.url}/m.csv")
    server.answer = plain(BODY[:10], status=206, Content_Range=f"bytes 0-9/{len(BODY)}")
    with pytest.raises(ManifestError, match="answered 206"):
        found(f"{server.url}/m.csv")
    server.answer = plain(BODY, status=206, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
    assert content(f"{server.url}/m.csv") == BODY


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("name", "coding", "body", "wanted"),
    [
        ("m.csv", "gzip", gzip.compress(BODY), BODY),
        ("m.csv", "deflate", zlib.compress(BODY), BODY),
        ("m.csv", "deflate", raw_deflate(BODY), BODY),
        ("m.csv", "aws-chunked,gzip", gzip.compress(BODY), BODY),
        ("m.csv", "gzip, deflate", zlib.compress(gzip.compress(BODY)), BODY),
        ("m.csv", "UTF-8", BODY, BODY),
        ("m.csv", "gzip\r\nContent-Encoding: deflate", zlib.compress(gzip.compress(BODY)), BODY),
        # A stored .gz file, which Apache marks so, and one that was packed once more on the way.
        ("m.csv.gz", "gzip", (packed := gzip.compress(BODY)), packed),
        ("m.csv.gz", "gzip", gzip.compress(packed), packed),
    ],
)
def test_the_transport_s_compression_is_undone_and_the_file_s_own_is_not(server, name, coding, body, wanted):
    server.answer = plain(body, Content_Encoding=coding)
    assert content(f"{server.url}/{name}") == wanted
    assert server.seen[0][2]["Accept-Encoding"] == "identity"


def test_a_damaged_compressed_body_is_refused(server):
    server.answer = plain(gzip.compress(BODY)[:-20], Content_Encoding="gzip")
    with pytest.raises(ManifestError, match="gzip body is damaged"):
        found(f"{server.url}/m.csv")


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("br", "'br', which was not asked for"),
        ("gzip, zstd", "'zstd', which"),
        ("gzip," * 6, "compressed 6 times over"),
    ],
)
def test_a_coding_that_was_not_asked_for_is_refused_by_name(server, coding, message):
    server.answer = plain(gzip.compress(BODY), Content_Encoding=coding)
    with pytest.raises(ManifestError, match=message):
        found(f"{server.url}/m.csv")


def test_a_password_is_not_in_the_message(server):
    server.answer = plain(b"", status=404)
    with pytest.raises(ManifestError) as e:
        found(server.url.replace("://", "://me:s3cret@") + "/m.csv")
    assert "s3cret" not in str(e.value)


def test_signatures_of_an_address_are_neither_stored_nor_shown(server, make_config, tmp_path):
    query = "part=1&X-Amz-Credential=s3cret&X-Amz-Signature=s3cret"
    config = make_config(f"{server.url}/m.csv?{query}")
    server.answer = plain(BODY + b",http://h/no-item.jpg\n")
    files, columns = find_manifest(config)
    group = NormaliseGroup(config.model_dump(mode="json"), files, columns, many=False, num_actors=1)
    told = group({"group": [0], "first": [0], "last": [1]})
    assert {path for _, path, _ in server.seen} == {f"/m.csv?{query}"}  # asked for as it stands
    store = open_store(config.output)
    rows = store.read_table(layout.manifest_key(json.loads(told["shards"][0])[0][0])).to_pylist()
    rejected = store.read_table(store.list("rejected/")[0].key).to_pylist()
    shown = f"{server.url}/m.csv?part=1&X-Amz-Credential=***&X-Amz-Signature=***"
    assert {r["source_file"] for r in rows} == {r["file"] for r in rejected} == {shown}
    assert "s3cret" not in json.dumps([told, without_secrets(config), manifest_identity(config, files)])
    server.answer = plain(b"", status=404)
    with pytest.raises(ManifestError, match="part=1") as e:
        find_manifest(config)
    assert "s3cret" not in str(e.value)


def test_the_content_decides_whose_run_it_is(server, make_config):
    config = make_config(f"{server.url}/m.csv")

    def identity() -> dict:
        files, _ = find_manifest(config)
        return manifest_identity(config, files)

    server.answer = plain(length=-1)
    short = identity()
    assert identity() == short and short["num_bytes"] == len(BODY)
    server.answer = plain(ETag='"another"')  # the same content, said in another way
    assert identity() == short
    server.answer = plain(BODY + b"new,http://h/new.jpg\n", length=-1)
    assert identity() != short
