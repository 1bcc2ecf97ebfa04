"""The JSON API under /v1/, and what operators look at: live, ready, metrics, the OpenAPI page."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse

from aistudio.errors import ConfigError
from aistudio.search.searcher import Found
from aistudio.serving.answers import (
    ErrorAnswer,
    FacetAnswer,
    IndexAnswer,
    PhotoAnswer,
    SearchAnswer,
    csv_answer,
    parquet_answer,
    search_answer,
)
from aistudio.serving.engine import Engine, choose
from aistudio.serving.errors import Refused
from aistudio.serving.hall import Hall
from aistudio.serving.questions import Name, Question, from_address
from aistudio.serving.signing import presigned
from aistudio.values import column_values

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer}, 401: {"model": ErrorAnswer}, 404: {"model": ErrorAnswer}, 408: {"model": ErrorAnswer},
    413: {"model": ErrorAnswer}, 422: {"model": ErrorAnswer}, 429: {"model": ErrorAnswer},
}  # fmt: skip
Index = Annotated[Name | None, Query(alias="in", description="an index, as /v1/runs names it; none: the first")]
Row = Annotated[Name, Query(alias="row", description="row_id")]


T = TypeVar("T")


def make_api(hall: Hall) -> APIRouter:
    """Return the routes of one server."""
    api = APIRouter(responses=ERRORS)
    _add_searches(api, hall)
    _add_rows(api, hall)
    _add_operators(api, hall)
    return api


def _add_searches(api: APIRouter, hall: Hall) -> None:
    @api.post("/v1/search", tags=["search"])
    async def search(question: Question) -> SearchAnswer:
        """Find the rows most like a text, a stored row or item, a photograph, or several of them."""
        engine = hall.engine(question.index)

        def work() -> SearchAnswer:
            found, seconds = hall.search(engine, question)
            return _refusing(lambda: search_answer(engine, found, question.columns, seconds))

        return await hall.gate.run(work)

    @api.post(
        "/v1/photos", tags=["search"],
        openapi_extra={"requestBody": {"required": True, "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    )  # fmt: skip
    async def upload(request: Request) -> PhotoAnswer:
        """Take a picture's bytes; the name that it gets can be asked with for a while."""
        body = bytearray()
        async for part in request.stream():
            body += part
        photo = await hall.gate.run(lambda: hall.photos.take(bytes(body)))
        return PhotoAnswer(photo=photo.name, width=photo.width, height=photo.height)

    async def table(request: Request) -> tuple[Engine, Found, Question]:
        question, names = from_address(request.query_params.multi_items(), min(100, hall.settings.max_results))
        engine = choose(hall.engines, names[:1])[0]
        found, _ = await hall.gate.run(lambda: hall.search(engine, question))
        return engine, found, question

    @api.get("/v1/results.csv", tags=["search"], response_class=Response)
    async def as_csv(request: Request) -> Response:
        """Results of a page's address as CSV; its parameters are those of the page."""
        engine, found, question = await table(request)
        body = await hall.gate.run(lambda: _refusing(lambda: csv_answer(engine, found, question.columns)))
        return _file(body, "text/csv; charset=utf-8", "results.csv")

    @api.get("/v1/results.parquet", tags=["search"], response_class=Response)
    async def as_parquet(request: Request) -> Response:
        """Results of a page's address as Parquet; its parameters are those of the page."""
        engine, found, question = await table(request)
        body = await hall.gate.run(lambda: _refusing(lambda: parquet_answer(engine, found, question.columns)))
        return _file(body, "application/vnd.apache.parquet", "results.parquet")


def _add_rows(api: APIRouter, hall: Hall) -> None:
    @api.get("/v1/runs", tags=["rows"])
    async def runs() -> list[IndexAnswer]:
        """List what can be searched: each run's models."""
        return [
            IndexAnswer(
                index=e.name, run=e.run, model=e.model.name, kind=str(e.model.kind), rows=len(e.searcher),
                dim=e.searcher.dim, asks=e.kinds, columns=e.searcher.columns,
            )
            for e in hall.engines.values()
        ]  # fmt: skip

    @api.get("/v1/columns", tags=["rows"])
    async def columns(index: Index = None) -> list[FacetAnswer]:
        """List the columns to filter by, with their choices and ranges."""
        engine = hall.engine(index)
        found = await hall.gate.run(lambda: engine.facets)
        return [FacetAnswer(column=f.column, choices=list(f.choices), min=f.low, max=f.high) for f in found]

    @api.get("/v1/thumbnail", tags=["rows"], response_class=Response,
             responses={200: {"content": {"image/jpeg": {}}}})  # fmt: skip
    async def thumbnail(row: Row, index: Index = None) -> Response:
        """Return a row's stored picture."""
        engine = hall.engine(index)
        found = await hall.gate.run(lambda: engine.thumbnail(row))
        if found is None:
            raise Refused(404, "no picture is stored of this row")
        return Response(found, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    @api.get("/v1/photo", tags=["rows"], response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    async def photo(name: Annotated[Name, Query()]) -> Response:
        """Return a small picture of an upload."""
        found = hall.photos.get(name).thumbnail
        if found is None:
            raise Refused(404, "no small picture was made")
        return Response(found, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    @api.get("/v1/original", tags=["rows"], response_class=Response)
    async def original(row: Row, index: Index = None) -> Response:
        """Lead to the original of a row on S3 where `serve.presign` allows it, else return the stored picture."""
        engine = hall.engine(index)

        def look() -> tuple[str | None, bytes | None]:
            url = _image_url(engine, row)
            signed = presigned(url, engine.searcher.config.store) if hall.settings.presign else None
            return signed, None if signed else engine.thumbnail(row)

        signed, stored = await hall.gate.run(look)
        if signed is not None:
            return RedirectResponse(signed, 307)
        if stored is None:
            raise Refused(404, "no picture is stored of this row")
        return Response(stored, media_type="image/jpeg")


def _add_operators(api: APIRouter, hall: Hall) -> None:
    @api.get("/live", tags=["operators"], response_class=PlainTextResponse)
    async def live() -> str:
        """Say that the process answers."""
        return "live\n"

    @api.get("/ready", tags=["operators"], response_class=PlainTextResponse, responses={503: {}})
    async def ready() -> Response:
        """Say whether questions are answered."""
        return PlainTextResponse("ready\n" if hall.ready else "loading\n", 200 if hall.ready else 503)

    @api.get("/metrics", tags=["operators"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Tell counters and times in Prometheus' text format."""
        return Response(hall.counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _image_url(engine: Engine, row_id: str) -> str:
    rows = engine.searcher.held.rows_of("row_id", row_id)
    if not len(rows) or "image_url" not in engine.searcher.columns:
        return ""
    return str(column_values(engine.searcher.copy.table["image_url"].take(rows[:1]))[0] or "")


def _refusing(work: Callable[[], T]) -> T:
    """Return what `work` returns; a setting that it refuses is the visitor's error."""
    try:
        return work()
    except ConfigError as e:
        raise Refused(422, str(e)) from None


def _file(body: bytes, kind: str, name: str) -> Response:
    return Response(body, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def error_answer(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a refusal as JSON."""
    return JSONResponse({"error": message}, status, headers)
