"""A file server on this machine that cuts, refuses ranges, names versions or is busy on request; and the S3 one."""

import threading
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.s3_server import S3Server

__all__ = ["FileServer", "S3Server"]


class FileServer:
    """`files`: path -> body.

    `cut_at`: answers stop after so many bytes, `cuts` times; `ranges`: are they honoured; `busy`: so many 503 first;
    `versions`: none, etag or date; `hold`: answers stop in the middle until it is set.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)
        self.cut_at, self.cuts, self.ranges, self.busy = 0, 0, True, 0
        self.versions: str | None = None
        self.hold: threading.Event | None = None
        self.asked: list[str | None] = []  # Range headers
        self.paths: list[str] = []
        self.dates = dict.fromkeys(files, 1_000_000_000)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.files = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}{path}"

    def replace(self, path: str, body: bytes) -> None:
        self.files[path] = body
        self.dates[path] += 60

    def version(self, path: str) -> tuple[str, str] | None:
        """Header and value."""
        if self.versions == "etag":
            return "ETag", f'"{sha256(self.files[path]).hexdigest()[:16]}"'
        return ("Last-Modified", formatdate(self.dates[path], usegmt=True)) if self.versions == "date" else None

    def close(self) -> None:
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join(timeout=10)
            self._http.server_close()

    def __enter__(self) -> "FileServer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.hold:
            self.hold.set()
        self.close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: FileServer = self.server.files  # type: ignore[attr-defined]
        asked, path = self.headers.get("Range"), self.path.partition("?")[0]
        server.asked.append(asked)
        server.paths.append(path)
        if path not in server.files:
            return self.send_error(404)
        if server.busy:
            server.busy -= 1
            return self.send_error(503)
        body, version = server.files[path], server.version(path)
        known = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since")
        if version and known == version[1]:
            self.send_response(304)
            return self.end_headers()
        other = version and self.headers.get("If-Range") not in (None, version[1])
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges and not other else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if version:
            self.send_header(*version)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body)
        if server.cuts > 0:
            server.cuts -= 1
            end = start + server.cut_at
        self.wfile.write(body[start : end // 2] if server.hold else body[start:end])
        if server.hold:
            self.wfile.flush()
            server.hold.wait(30)
            self.wfile.write(body[max(start, end // 2) : end])
        self.close_connection = True
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass
