"""Who may come in, with how much, how often; and what every answer carries. One ASGI middleware, outermost.

In this order: a request's number and its line in the access log; the host's name; the token; the origin of a form; the
client's rate; the size of the body and the time it takes. What is refused here has cost nothing yet.
"""

import asyncio
import hmac
import json
import sys
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from aistudio.config import ServeSettings
from aistudio.serving.counters import Counters
from aistudio.serving.errors import Refused
from aistudio.storable import storable_text

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

COOKIE = "aistudio_token"
OPEN_PATHS = ("/live", "/ready", "/login", "/assets/")  # need no token
UPLOAD_PATHS = ("/v1/photos", "/photo")
SEARCH_PATHS = ("/", "/photo", "/v1/search", "/v1/photos", "/v1/results.csv", "/v1/results.parquet")
MOST_BODY = 2_000_000  # of a request that is no upload
MULTIPART_ROOM = 64_000  # what a form adds to its file
CLIENTS = 10_000  # whose rate is remembered
RATE = 600
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

CLIENT_GONE = 499  # noted, as nginx does, of a visitor who left without an answer: no fault of the server's


class Guard:
    """Wraps the app."""

    def __init__(
        self, app: App, settings: ServeSettings, token: str | None, counters: Counters, log: Any = None, *,
        page: Callable[[str], bytes],
    ) -> None:  # fmt: skip
        """Wrap.

        Args:
            token: what visitors must give; None: nothing.
            log: a text stream; None: standard output.
            page: makes the HTML page that says to a person why a request was refused.
        """
        self.app, self.settings, self.token, self.counters, self._page = app, settings, token, counters, page
        self._log = log
        self._rate = settings.requests_per_minute or (None if settings.is_local else RATE)
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websockets here
        request = _Request(scope, receive, send, self.settings)
        started = time.monotonic()
        try:
            self._check(request)
            await self.app(scope, request.receive, request.send)
        except Refused as e:
            await request.refuse(e, self._page)
        except ClientDisconnect:
            if request.status in (0, 500):  # Starlette has answered for it, to nobody
                request.status = CLIENT_GONE
        except Exception as e:  # noqa: BLE001 - the visitor gets an answer, the operator the reason
            print(f"error: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
            await request.refuse(Refused(500, "something went wrong here; the server's log says what"), self._page)
        finally:
            self._note(request, time.monotonic() - started)

    def _check(self, request: "_Request") -> None:
        self._check_host(request)
        if self.token is not None and not request.path.startswith(OPEN_PATHS):
            given = request.bearer() or request.cookie(COOKIE)
            if given is None or not hmac.compare_digest(given.encode(), self.token.encode()):
                raise Refused(401, "a token is needed: `Authorization: Bearer ...`, or sign in at /login")
        origin = request.header("origin") if request.scope["method"] == "POST" else None
        if origin and origin.lower().partition("://")[2] != (request.header("host") or "").lower():
            raise Refused(403, "this form belongs to another site")
        self._check_rate(request)
        length = request.header("content-length")
        if length is not None and (not length.isdigit() or int(length) > request.most_bytes):
            raise Refused(413, too_large(request.most_bytes))

    def _check_host(self, request: "_Request") -> None:
        """A page of another site must not reach this one under a name of its own (DNS rebinding)."""
        if "*" in self.settings.hosts or not self.settings.is_local:
            return
        host = _host_name(request.header("host") or "")
        if host not in ("127.0.0.1", "localhost", "::1", *self.settings.hosts):
            raise Refused(421, "this server does not know itself by that name (serve.hosts)")

    def _check_rate(self, request: "_Request") -> None:
        if self._rate is None or request.path not in SEARCH_PATHS:
            return
        now, times = time.monotonic(), self._seen.setdefault(request.client, deque())
        self._seen.move_to_end(request.client)
        while len(self._seen) > CLIENTS:
            self._seen.popitem(last=False)
        while times and times[0] < now - 60:
            times.popleft()
        if len(times) >= self._rate:
            raise Refused(429, f"more than {self._rate} searches in a minute; wait a little")
        times.append(now)

    def _note(self, request: "_Request", seconds: float) -> None:
        self.counters.request(request.route, request.status, seconds)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "id": request.number, "client": request.client,
            "method": request.scope["method"], "path": storable_text(request.path, 500), "status": request.status,
            "ms": round(1000 * seconds, 1), "bytes_in": request.bytes_in, "bytes_out": request.bytes_out,
        }  # fmt: skip
        print(json.dumps(line), file=self._log or sys.stdout, flush=True)


class _Request:
    """A request under way: counts its bytes and adds the headers of every answer."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, settings: ServeSettings) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.path = str(scope["path"])
        self.client = str((scope.get("client") or ("-",))[0])
        self.number = uuid.uuid4().hex[:16]
        self.status, self.bytes_in, self.bytes_out = 0, 0, 0
        upload = settings.max_upload_bytes + MULTIPART_ROOM
        self.most_bytes = upload if self.path in UPLOAD_PATHS else MOST_BODY
        self._body_timeout_s = settings.body_timeout_s
        self._ends_at = time.monotonic() + settings.body_timeout_s
        self._whole = False

    @property
    def route(self) -> str:
        """The route's own path, so that metrics have few names."""
        return str(getattr(self.scope.get("route"), "path", "other"))

    def header(self, name: str) -> str | None:
        wanted = name.encode()
        return next((v.decode("latin-1") for k, v in self.scope["headers"] if k.lower() == wanted), None)

    def bearer(self) -> str | None:
        kind, _, value = (self.header("authorization") or "").partition(" ")
        return value.strip() if kind.lower() == "bearer" else None

    def cookie(self, name: str) -> str | None:
        try:
            found = SimpleCookie(self.header("cookie") or "").get(name)
        except CookieError:
            return None
        return found.value if found is not None else None

    async def receive(self) -> Message:
        """Hand the next part of the body on. Raises Refused for too much of it, or too slow."""
        if self._whole:
            return await self._receive()
        left = self._ends_at - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.01))
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._body_timeout_s:g} s") from None
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self.bytes_in > self.most_bytes:
                raise Refused(413, too_large(self.most_bytes))
        return message

    async def send(self, message: Message) -> None:
        """Send on, with the headers of every answer. Raises ClientDisconnect where the visitor has left."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            own = {k.lower() for k, _ in message.get("headers", [])}
            added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
            more = [(b"x-request-id", self.number.encode())]
            if b"cache-control" not in own:
                more.append((b"cache-control", b"no-store"))
            message["headers"] = [*message.get("headers", []), *added, *more]
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
        try:
            await self._send(message)
        except (OSError, RuntimeError) as e:  # a server may not have noticed yet that the connection is closed
            if isinstance(e, OSError) or "closed" in str(e):
                raise ClientDisconnect from e
            raise

    async def refuse(self, refused: Refused, page: Callable[[str], bytes]) -> None:
        """Answer with a refusal, unless an answer has begun: a page for people, JSON for programs."""
        if self.status:
            return
        is_page = wants_page(self.path, self.header("accept"))
        if refused.status == 401 and is_page:
            await self._answer(303, b"", [(b"location", b"/login")])
            return
        said = storable_text(str(refused), 2_000)
        body, kind = (page(said), b"text/html; charset=utf-8") if is_page else (_as_json(said), b"application/json")
        headers = [(b"content-type", kind)]
        if refused.status == 429:
            headers.append((b"retry-after", b"5"))
        if not self._whole:  # what is left of the body is not read
            headers.append((b"connection", b"close"))
        await self._answer(refused.status, body, headers)

    async def _answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def wants_page(path: str, accept: str | None) -> bool:
    """Whether an answer is for a person: a browser asks, and not the API."""
    return not path.startswith(("/v1/", "/metrics")) and "text/html" in (accept or "")


def _as_json(error: str) -> bytes:
    return json.dumps({"error": error}).encode()


def too_large(most_bytes: int) -> str:
    """Say that a body is larger than it may be."""
    return f"what was sent is too large: at most {most_bytes:,} bytes are taken here"


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
