"""Serves a demo catalogue over HTTP on this machine, misbehaving where the catalogue says so.

The first part of a path decides: images/ and original/ are files, gone/ and everything unknown is 404, and redirect/,
redirect_loop/, slow/ and flaky/ do what they are called before the rest of the path is served.
"""

import mimetypes
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from aistudio.demo.faults import BASE_URL

SLOW_S = 1.0  # how long a slow answer takes: noticed, yet far from any time limit
CHUNKS = 10


class CatalogueServer:
    """Context manager: serves `folder` on 127.0.0.1 at a free port from a thread of its own, until the block ends."""

    def __init__(self, folder: str | Path) -> None:
        self._server = _Server(Path(folder).resolve())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="catalogue", daemon=True)

    @property
    def url(self) -> str:
        """http://127.0.0.1:<port>/"""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def url_map(self) -> dict[str, str]:
        """Setting `download.url_map` for the catalogue's manifests."""
        return {BASE_URL: self.url}

    @property
    def num_requests(self) -> int:
        """Requests answered so far."""
        return self._server.num_requests

    def __enter__(self) -> "CatalogueServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client that keeps its connection open must not keep the process alive
    block_on_close = False
    request_queue_size = 256  # downloads arrive by the dozen; the default of 5 would reset some

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.lock = folder, threading.Lock()
        self.num_requests, self.seen = 0, set[str]()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up ends nothing; anything else is shown as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def first_time(self, path: str) -> bool:
        """Whether this path is asked for the first time."""
        with self.lock:
            new = path not in self.seen
            self.seen.add(path)
            return new


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # an idle connection is closed after this many seconds
    server: _Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.num_requests += 1
        path = unquote(urlsplit(self.path).path).lstrip("/")
        kind, _, rest = path.partition("/")
        if kind == "redirect":
            self._redirect(f"/{rest}")
        elif kind == "redirect_loop":
            self._redirect(self.path)
        elif kind == "flaky" and self.server.first_time(path):
            self._answer(503, b"try again\n", "text/plain")
        elif kind in ("slow", "flaky", "original"):
            self._file(rest, SLOW_S if kind == "slow" else 0.0)
        else:
            self._file(path, 0.0)

    def _redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: str, pause_s: float) -> None:
        file = (self.server.folder / path).resolve()
        if not file.is_relative_to(self.server.folder / "images") or not file.is_file():
            self._answer(404, b"no such picture\n", "text/plain")
            return
        self._answer(200, file.read_bytes(), mimetypes.guess_type(file.name)[0] or "image/jpeg", pause_s)

    def _answer(self, status: int, body: bytes, content_type: str, pause_s: float = 0.0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        step = max(1, -(-len(body) // CHUNKS)) if pause_s else max(1, len(body))
        try:
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                if pause_s:
                    time.sleep(pause_s / CHUNKS)
        except ConnectionError:
            self.close_connection = True  # the client had enough; that is its business

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the job prints its own progress."""
