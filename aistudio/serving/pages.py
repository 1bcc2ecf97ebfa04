"""The search page, made on the server: its address holds the whole query, so it can be shared; no script is needed."""

import hmac
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.datastructures import UploadFile

from aistudio.models import Kind
from aistudio.reports import page as reports
from aistudio.reports.safe import clip, safe_link
from aistudio.serving.answers import ResultAnswer, address, search_answer
from aistudio.serving.engine import Engine, choose
from aistudio.serving.errors import Refused
from aistudio.serving.guard import COOKIE
from aistudio.serving.hall import Hall
from aistudio.serving.questions import PLAIN, Between, Question, from_address, to_address

PER_PAGE = 24
SAMPLES = 12  # pictures of the first page
FORM_PARTS = 200  # fields of a form
ASSETS = {
    "app.css": "text/css", "theme.js": "text/javascript", "serve.css": "text/css", "serve.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}  # fmt: skip
Pairs = list[tuple[str, str]]


def make_pages(hall: Hall, token: str | None) -> APIRouter:
    """Return the routes of the page; they are no part of the OpenAPI page."""
    pages = APIRouter(include_in_schema=False)

    @pages.get("/")
    async def search(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        status, context = await hall.gate.run(lambda: _answer(hall, pairs))
        return HTMLResponse(_render("search.html", **context), status)

    @pages.post("/photo")
    async def upload(request: Request) -> Response:
        """Take the form's photograph and lead to the page that asks with it."""
        form = await request.form(max_files=1, max_fields=FORM_PARTS)
        file = form.get("file")
        pairs = [(k, v) for k, v in form.multi_items() if isinstance(v, str)]
        try:
            if not isinstance(file, UploadFile) or not file.size:
                raise Refused(422, "choose a photograph first")
            body = await file.read()
            photo = await hall.gate.run(lambda: hall.photos.take(body))
        except Refused as e:
            error = e
            _, context = await hall.gate.run(lambda: _answer(hall, pairs, error))
            return HTMLResponse(_render("search.html", **context), error.status)
        changed = {"photo": photo.name, "row": None, "item": None, "url": None}
        return RedirectResponse("/" + to_address(pairs, changed), 303)

    @pages.get("/login")
    async def login() -> Response:
        return HTMLResponse(_render("login.html", problem=None))

    @pages.post("/login")
    async def sign_in(request: Request) -> Response:
        given = (await request.form(max_files=0, max_fields=5)).get("token")
        if (
            token is None
            or not isinstance(given, str)
            or not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
        ):
            return HTMLResponse(_render("login.html", problem="That is not the token of this server."), 401)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=12 * 3600, httponly=True, samesite="strict", secure=secure)
        return answer

    @pages.get("/assets/{name}")
    async def asset(name: str) -> Response:
        """One of a few files, by a name that is known beforehand."""
        if name not in ASSETS:
            raise Refused(404, "there is no such file")
        return Response(_asset(name), media_type=ASSETS[name], headers={"cache-control": "public, max-age=300"})

    @pages.get("/docs")
    async def docs(request: Request) -> Response:
        return HTMLResponse(_render("docs.html", operations=_operations(request.app.openapi())))

    return pages


def _answer(hall: Hall, pairs: Pairs, problem: Refused | None = None) -> tuple[int, dict[str, Any]]:
    """The page's status and what its template shows."""
    question, engines, status, said = Question(), choose(hall.engines, [None]), 200, None
    try:
        question, names = from_address(pairs, PER_PAGE)
        engines = choose(hall.engines, names)
    except Refused as e:
        problem = problem or e
    lists = [] if problem is not None or question.is_empty else [_list(hall, engine, question) for engine in engines]
    if problem is not None:
        status, said = problem.status, str(problem)
    elif lists and all(one["problem"] for one in lists):
        status = lists[0]["status"]
    return status, _context(hall, pairs, question, engines, lists, said)


def _list(hall: Hall, engine: Engine, question: Question) -> dict[str, Any]:
    """One column of results, or why there is none."""
    empty: list[ResultAnswer] = []
    base = {"engine": engine, "results": empty, "more": False, "problem": None, "status": 200, "ms": None, "rows": None}
    try:
        found, seconds = hall.search(engine, question)
        answer = search_answer(engine, found, None, seconds)
    except Refused as e:
        return base | {"problem": str(e), "status": e.status}
    return base | {"results": answer.results, "more": answer.more, "ms": answer.ms, "rows": answer.gallery_rows}


def _context(
    hall: Hall, pairs: Pairs, question: Question, engines: Sequence[Engine], lists: list[dict[str, Any]],
    problem: str | None,
) -> dict[str, Any]:  # fmt: skip
    kept = [(name, value) for name, value in pairs if value]
    plain = {name: getattr(question, field) or "" for name, field in PLAIN.items()}
    own = {*PLAIN, "wt", "wp", "in", "per", "keep", "page", "n"}

    def link(**changed: str | None) -> str:
        return to_address(kept, {name.removesuffix("_"): value for name, value in changed.items()})

    page = question.offset // question.top_n + 1
    return {
        "question": question, "plain": plain, "engines": list(hall.engines.values()), "chosen": list(engines),
        "lists": lists, "problem": problem, "facets": engines[0].facets, "where": question.where, "link": link,
        "filters": [(k, v) for k, v in kept if k not in own], "active": _active(kept, own),
        "kept": {value for name, value in kept if name == "keep"}, "page": page,
        "has_picture": any(plain[name] for name in ("row", "item", "photo", "url")),
        "is_composer": engines[0].model.kind is Kind.COMPOSER,
        "more": any(one["more"] for one in lists), "files": [(e.name, _download(kept, e)) for e in engines],
        "is_range": lambda column: isinstance(question.where.get(column), Between), "photo_link": _photo_link(plain),
        "row_link": "/v1/thumbnail?" + urlencode({"in": engines[0].name, "row": plain["row"]}, errors="replace"),
        "samples": _samples(engines[0]) if not lists and problem is None else [],
        "rows": len(engines[0].searcher), "fetches": hall.settings.fetch_addresses,
    }  # fmt: skip


def _samples(engine: Engine) -> list[tuple[str, str]]:
    """Rows to begin with, spread over the run, each of another item: (row_id, address of its picture)."""
    ids = engine.searcher.copy.ids_N
    places = np.unique(np.linspace(0, len(ids) - 1, 2 * SAMPLES).astype(int))
    texts = engine.searcher.held.texts(ids[places], ["row_id", "item_id"])
    found = dict(zip(reversed(texts["item_id"]), reversed(texts["row_id"]), strict=True))  # the first row of each item
    rows = [row_id or "" for row_id in reversed(found.values())]
    kept = rows if len(rows) <= SAMPLES else rows[:: -(-len(rows) // SAMPLES)]
    return [(row_id, address("/v1/thumbnail", engine, row_id)) for row_id in kept]


def _photo_link(plain: Mapping[str, str]) -> str:
    return "/v1/photo?" + urlencode({"name": plain["photo"]}, errors="replace")


def _download(kept: Pairs, engine: Engine) -> str:
    """The query of the CSV and Parquet files of one list."""
    return "?" + urlencode([*((k, v) for k, v in kept if k != "in"), ("in", engine.name)], errors="replace")


def _active(kept: Pairs, own: set[str]) -> list[tuple[str, str]]:
    """Filters that are set, in words, each with the address without it."""
    words = {"is": "{column}: {value}", "min": "{column} ≥ {value}", "max": "{column} ≤ {value}"}
    found = []
    for name, value in kept:
        kind, dot, column = name.partition(".")
        if name in own or not dot or kind not in words:
            continue
        rest = [pair for pair in kept if pair != (name, value)]
        found.append((words[kind].format(column=column, value=value), to_address(rest, {})))
    return found


@cache
def _asset(name: str) -> bytes:
    package = "aistudio.serving" if name.startswith(("serve.", "icon.")) else "aistudio.reports"
    return (files(package) / "assets" / name).read_bytes()


def refused_page(said: str) -> bytes:
    """Make the page that says why a request was refused before any page of the search could answer it."""
    return _render("refused.html", problem=said).encode()


def _render(name: str, **context: Any) -> str:
    html = _environment().get_template(name).render(**context)
    return html.encode("utf-8", errors="replace").decode()


@cache
def _environment() -> Environment:
    env = Environment(
        loader=ChoiceLoader([PackageLoader("aistudio.serving"), PackageLoader("aistudio.reports")]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters.update(count=reports.count, number=reports.number, end=_end, clip=clip, link=safe_link)
    return env


def _end(value: float) -> str:
    """An end of a range: whole numbers without decimals."""
    return f"{value:,.0f}" if value == int(value) else reports.number(value)


def _operations(openapi: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of the API as its page shows them."""
    found = []
    for path, methods in openapi["paths"].items():
        for method, one in methods.items():
            found.append(
                {
                    "method": method.upper(), "path": path, "text": one.get("description") or one.get("summary", ""),
                    "parameters": [(p["name"], p.get("description", "")) for p in one.get("parameters", [])],
                }
            )  # fmt: skip
    return found
