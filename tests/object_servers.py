"""Google Cloud Storage and Azure Blob Storage on 127.0.0.1: as much as obstore speaks, with the faults of s3_server.

`GsServer` is moto's S3 server behind Google's XML API, which is S3's but for the names of the conditions. `AzServer` is
a small service of ours: Put, Get, Head, Delete and List Blobs, with If-Match and If-None-Match. Both honour the
conditions as the services say they do; the real services were not asked. `AzuriteServer` stands before an Azurite.
"""

import http.client
import re
import threading
from collections.abc import Callable, Iterable
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from aistudio.config import StoreSettings
from tests.s3_server import Fault, S3Server

# The account that every Azure emulator knows; published by Microsoft.
AZ_ACCOUNT = "devstoreaccount1"
AZ_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PAGE = 3  # blobs a page of a listing, so that every test sees several


class GsServer(S3Server):
    """`gs://bucket`; `settings()` reaches it."""

    scheme = "gs"

    def settings(self, **more: object) -> StoreSettings:
        return StoreSettings(gs_endpoint_url=self.url, **more)

    def answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        if environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None) == "0" and not self.ignores_conditions:
            environ["HTTP_IF_NONE_MATCH"] = "*"
        environ["HTTP_AUTHORIZATION"] = self.authorization  # moto tells the service by it
        return super().answer(environ, start_response)

    authorization = (
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    )


class AzServer(S3Server):
    """`az://bucket`; `settings()` reaches it."""

    scheme = "az"

    def __init__(self, fault: Fault | None = None, hang_s: float = 3.0) -> None:
        self.blobs: dict[str, tuple[bytes, str]] = {}  # name -> (content, ETag without quotes)
        self._lock = threading.Lock()
        self._number = 0
        super().__init__(fault, hang_s)

    def settings(self, **more: object) -> StoreSettings:
        return StoreSettings(az_endpoint_url=f"{self.url}/{AZ_ACCOUNT}", az_account=AZ_ACCOUNT, **more)

    def answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        method, query = environ["REQUEST_METHOD"], parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        name = environ["PATH_INFO"].encode("latin-1").decode().removeprefix(f"/{AZ_ACCOUNT}/bucket").lstrip("/")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with self._lock:
            if query.get("comp") == ["list"]:
                status, headers, found = "200 OK", {}, self._list(query)
            else:
                status, headers, found = getattr(self, f"_{method.lower()}")(name, body, environ)
        code = {"404": "BlobNotFound", "409": "BlobAlreadyExists", "412": "ConditionNotMet", "416": "InvalidRange"}
        if status[:3] in code:
            found = f"<Error><Code>{code[status[:3]]}</Code><Message>no</Message></Error>".encode()
        headers = {"Content-Length": str(len(found)), "Last-Modified": "Thu, 26 Nov 2026 07:00:00 GMT"} | headers
        start_response(status, list(headers.items()))
        return [b"" if method == "HEAD" else found]

    def make_bucket(self) -> None:
        """It is there."""

    def _put(self, name: str, body: bytes, environ: dict) -> tuple[str, dict, bytes]:
        if name in self.blobs and environ.get("HTTP_IF_NONE_MATCH") == "*" and not self.ignores_conditions:
            return "409 Conflict", {}, b""
        self._number += 1
        self.blobs[name] = (body, f"0x{self._number:X}")
        return "201 Created", {"ETag": f'"0x{self._number:X}"'}, b""

    def _get(self, name: str, _: bytes, environ: dict) -> tuple[str, dict, bytes]:
        if name not in self.blobs:
            return "404 Not Found", {}, b""
        body, etag = self.blobs[name]
        if environ.get("HTTP_IF_MATCH", "").strip('"') not in ("", etag):
            return "412 Precondition Failed", {}, b""
        if environ.get("HTTP_IF_NONE_MATCH", "").strip('"') == etag:
            return "304 Not Modified", {}, b""
        headers = {"ETag": f'"{etag}"', "Content-Length": str(len(body)), "x-ms-blob-type": "BlockBlob"}
        wanted = environ.get("HTTP_X_MS_RANGE") or environ.get("HTTP_RANGE")
        if not wanted:
            return "200 OK", headers, body
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if int(first) >= len(body):
            return "416 Range Not Satisfiable", {}, b""
        part = body[int(first) : int(last) + 1 if last else None]
        where = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        return "206 Partial Content", headers | {"Content-Range": where, "Content-Length": str(len(part))}, part

    _head = _get

    def _delete(self, name: str, _: bytes, environ: dict) -> tuple[str, dict, bytes]:
        return ("202 Accepted" if self.blobs.pop(name, None) else "404 Not Found"), {}, b""

    def _post(self, _: str, body: bytes, environ: dict) -> tuple[str, dict, bytes]:
        """A batch, which is how obstore deletes."""
        answers = []
        for part in re.finditer(rb"Content-ID: (\d+).*?DELETE (\S+) HTTP", body, re.S):
            name = unquote(part[2].decode().partition("?")[0]).partition("/bucket/")[2]
            status = self._delete(name, b"", environ)[0]
            head = f"--b\r\nContent-Type: application/http\r\nContent-ID: {part[1].decode()}\r\n\r\n"
            code = "x-ms-error-code: BlobNotFound\r\n" if status.startswith("404") else ""
            answers.append(f"{head}HTTP/1.1 {status}\r\nx-ms-version: 2021-08-06\r\n{code}\r\n\r\n")
        return "202 Accepted", {"Content-Type": "multipart/mixed; boundary=b"}, "".join([*answers, "--b--"]).encode()

    def _list(self, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        found: dict[str, str] = {}
        for name, (body, etag) in self.blobs.items():
            head, sep, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if not name.startswith(prefix):
                continue
            if sep:
                folder = prefix + head + sep
                found[folder] = f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>"
            else:
                found[name] = (
                    f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>Thu, 26 Nov 2026 07:00:00 GMT"
                    f"</Last-Modified><Etag>{etag}</Etag><Content-Length>{len(body)}</Content-Length>"
                    "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
                )
        names = sorted(n for n in found if n > query.get("marker", [""])[0])
        more = names[PAGE - 1] if len(names) > PAGE else ""
        blobs = "".join(found[n] for n in names[:PAGE])
        return (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Prefix>{escape(prefix)}</Prefix><Blobs>{blobs}'
            f"</Blobs><NextMarker>{escape(more)}</NextMarker></EnumerationResults>"
        ).encode()


class AzuriteServer(AzServer):
    """Hands every request on to an Azurite that runs already."""

    address = ""

    def answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        to = urlsplit(self.address)
        headers = {k[5:].replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_") and k != "HTTP_HOST"}
        if environ.get("CONTENT_TYPE"):
            headers["Content-Type"] = environ["CONTENT_TYPE"]
        if self.ignores_conditions:
            headers.pop("IF-NONE-MATCH", None)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=20)
        path = environ["RAW_URI"] if "RAW_URI" in environ else environ["REQUEST_URI"]
        connection.request(environ["REQUEST_METHOD"], path, body=body, headers=headers)
        answer = connection.getresponse()
        found = answer.read()
        hop = {"connection", "transfer-encoding", "keep-alive"}
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in hop]
        if answer.getheader("Content-Length") is None and environ["REQUEST_METHOD"] != "HEAD":
            kept.append(("Content-Length", str(len(found))))
        connection.close()
        start_response(f"{answer.status} {answer.reason}", kept)
        return [found]
