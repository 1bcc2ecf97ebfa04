"""A real S3 server over HTTP on 127.0.0.1 (moto's), that misbehaves on request.

`S3Server.fault` is asked before every request with its method and path and names what goes wrong, or None:
slow_down (503), error (500), late_error (the request is carried out, the answer is 500), cut (half the body, then the
connection ends), hang (no answer for `hang_s`), denied (403), conflict (409), not_implemented (501). With
`ignores_conditions` it writes whatever an If-None-Match says, as old compatible services do.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Fault = Callable[[str, str], str | None]
_ANSWERS = {
    "slow_down": ("503 Slow Down", "SlowDown"),
    "error": ("500 Internal Server Error", "InternalError"),
    "late_error": ("500 Internal Server Error", "InternalError"),
    "denied": ("403 Forbidden", "AccessDenied"),
    "conflict": ("409 Conflict", "ConditionalRequestConflict"),
    "not_implemented": ("501 Not Implemented", "NotImplemented"),
}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


class S3Server:
    """`with S3Server() as s3: s3.url` is the endpoint; bucket `bucket` is there."""

    def __init__(self, fault: Fault | None = None, hang_s: float = 3.0) -> None:
        self.fault = fault
        self.hang_s = hang_s
        self.ignores_conditions = False
        self.hits: Counter[str] = Counter()  # by method
        self.faults: Counter[str] = Counter()  # by name
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="s3-server", daemon=True)
        self._thread.start()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        with self.undisturbed():
            self.make_bucket()

    def make_bucket(self) -> None:
        self.client.create_bucket(Bucket="bucket")

    def undisturbed(self) -> "_Undisturbed":
        """A block without faults."""
        return _Undisturbed(self)

    def close(self) -> None:
        with self.undisturbed():
            self._server.shutdown()
            self._thread.join(10)
            self._server.server_close()

    def __enter__(self) -> "S3Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.hits[method] += 1
        if self.ignores_conditions and method == "PUT":
            environ.pop("HTTP_IF_NONE_MATCH", None)
        fault = self.fault(method, path) if self.fault is not None else None
        if fault == "cut" and method != "GET":
            fault = "error"  # there is no body to cut
        if fault is None:
            return self.answer(environ, start_response)
        self.faults[fault] += 1
        if fault == "hang":
            time.sleep(self.hang_s)
            return self.answer(environ, start_response)
        if fault == "cut":
            return self._cut(environ, start_response)
        if fault == "late_error":
            list(self.answer(environ, lambda *_: lambda _: None))
        status, code = _ANSWERS[fault]
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    def answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        """What the service says without faults."""
        return self._app(environ, start_response)

    def _cut(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        head: list = []

        def keep(status: str, headers: list, *_: object) -> Callable:
            head.extend((status, headers))
            return lambda _: None

        body = b"".join(self.answer(environ, keep))
        headers = [(k, v) for k, v in head[1] if k.lower() not in ("content-length", "connection")]
        start_response(head[0], [*headers, ("Content-Length", str(len(body))), ("Connection", "close")])
        return [body[: len(body) // 2]]


class _Undisturbed:
    def __init__(self, server: S3Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._fault, self._server.fault = self._server.fault, None

    def __exit__(self, *_: object) -> None:
        self._server.fault = self._fault
