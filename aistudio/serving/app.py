"""The ASGI app: routes, errors and the guard around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from aistudio.config import JobConfig, ServeSettings
from aistudio.errors import AIStudioError
from aistudio.serving.api import error_answer, make_api
from aistudio.serving.engine import Engines
from aistudio.serving.errors import Refused
from aistudio.serving.guard import Guard, wants_page
from aistudio.serving.hall import Hall
from aistudio.serving.pages import make_pages, refused_page
from aistudio.storable import storable_text

DESCRIPTION = "Search what was scored: by text, photograph, stored row, or several of them; exact results."


def make_app(
    settings: ServeSettings, config: JobConfig, engines: Engines, *, token: str | None = None, log: Any = None
) -> Guard:
    """Return the app of some indexes, which the caller has opened (opening.py).

    Args:
        config: of a run: how visitors' pictures are decoded and fetched.
        token: that visitors must give; None: anybody may ask.
        log: stream of the access log; None: standard output.
    """
    hall = Hall.of(settings, config, engines)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await hall.gate.run(hall.warm_up)
        yield
        hall.close()

    app = FastAPI(
        title="AI Studio search", version="1", description=DESCRIPTION, lifespan=lifespan, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    app.include_router(make_api(hall))
    app.include_router(make_pages(hall, token))
    _add_errors(app)
    return Guard(app, settings, token, hall.counters, log, page=refused_page)


def _answer(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    if wants_page(request.url.path, request.headers.get("accept")):
        return HTMLResponse(refused_page(message), status, headers)
    return error_answer(status, message, headers)


def _add_errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        headers = {"connection": "close"} if error.status in (408, 413) else {}
        headers |= {"retry-after": "5"} if error.status == 429 else {}
        return _answer(request, error.status, storable_text(str(error)), headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return _answer(request, 422, storable_text(f"{where}: {first['msg']}"))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _answer(request, error.status_code, storable_text(str(error.detail)), dict(error.headers or {}))

    async def ours(request: Request, error: Exception) -> Response:
        print(f"error: {error}", flush=True)  # a damaged file, for instance: the operator's, not the visitor's
        return _answer(request, 503, "stored data could not be read; the server's log says what")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(AIStudioError, ours)
