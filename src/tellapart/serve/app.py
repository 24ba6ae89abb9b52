"""Runs by name -> the ASGI application: predictions, health, metrics, the web page and the API description."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tellapart import __version__
from tellapart.data.feedback import FeedbackFolder, Said
from tellapart.inference.predictor import Predictor
from tellapart.serve import schemas
from tellapart.serve.limits import Bounds, RequestError
from tellapart.serve.metrics import Metrics
from tellapart.serve.middleware import Access, Guard
from tellapart.serve.service import Service

_GONE = 499  # nginx's code for a client that disconnected; nobody receives it
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.PredictionsReply if status == 422 else schemas.Problem, "description": description}
    for status, description in (
        (400, "The body is damaged or holds no image."),
        (401, "The token is missing or wrong."),
        (403, "The request comes from another origin or uses an unknown host name."),
        (404, "No run has this name."),
        (408, "The request took too long."),
        (413, "Too many bytes or images."),
        (415, "Unsupported content type."),
        (422, "No image could be read; each row says why."),
        (503, "Busy: retry after `Retry-After` seconds."),
    )
}
_PROBLEMS_OF_FEEDBACK = {
    **{status: {**told, "model": schemas.Problem} for status, told in _PROBLEMS.items()},
    422: {"model": schemas.Problem, "description": "The image could not be read."},
    507: {"model": schemas.Problem, "description": "The folder is full, or cannot be written. Nothing was kept."},
}
_PAGES = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page/words.js": ("words.js", "text/javascript"),
    "/page/index.js": ("index.js", "text/javascript"),
    "/page/card.js": ("card.js", "text/javascript"),
    "/page/feedback.js": ("feedback.js", "text/javascript"),
    "/page/files.js": ("files.js", "text/javascript"),
    "/page/docs.js": ("docs.js", "text/javascript"),
    "/page/style.css": ("style.css", "text/css"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Application:
    """The ASGI application and its service. Requests that name no run are answered by the first. The networks are
    warmed up before it is returned. feedback: where what people say of the answers is kept."""

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        bounds: Bounds,
        access: Access,
        feedback: FeedbackFolder | None = None,
    ) -> None:
        metrics = Metrics()
        self.service = Service(predictors, bounds, metrics, feedback)
        self.asgi = Guard(_routes(self.service, feedback is not None), access, metrics)


def _routes(service: Service, keeps: bool) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="tellapart",
        version=__version__,
        summary="Classify images: labels, calibrated probabilities and a verdict.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_predictions(app, service)
    if keeps:
        _add_feedback(app, service)
    _add_health(app, service)
    _add_pages(app)
    _add_problems(app)
    return app


def _add_predictions(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/predict",
        summary="Predict images",
        response_model=schemas.PredictionsReply,
        responses=_PROBLEMS,
        openapi_extra=schemas.body_description(service.bounds),
    )
    async def predict(
        request: Request,
        run: Annotated[str | None, Query(description="Name of a run; by default the first.")] = None,
        explain: Annotated[bool, Query(description="Also return a heat map of the evidence for each label.")] = False,
    ) -> Response:
        """Send images as form files, one image as the raw body, or JSON with base64."""
        return await service.predict(request, run, explain)

    @app.get("/v1/runs", summary="The runs, and the limits of a request", responses={401: _PROBLEMS[401]})
    async def runs() -> schemas.Served:
        return service.served()


def _add_feedback(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/feedback",
        summary="Say whether an answer is right",
        responses=_PROBLEMS_OF_FEEDBACK,
        openapi_extra=schemas.body_description(service.bounds),
    )
    async def feedback(
        request: Request,
        said: Annotated[Said, Query(description="right; other: it is `label`; or none: it is none of the classes.")],
        run: Annotated[str | None, Query(description="Name of a run; by default the first.")] = None,
        label: Annotated[str, Query(description="With said=other: the class that it is.")] = "",
    ) -> schemas.FeedbackReply:
        """Send one image, as to /v1/predict. The server keeps it as it is in the file, with its answer and what you
        say, for whoever runs it to look at and to train with: ask the person whose image it is first. The same image
        again replaces what was said."""
        return await service.feedback(request, run, said, label)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Liveness probe")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    unready: dict[int | str, dict[str, Any]] = {
        503: {"description": "The server is shutting down, or does not process waiting images."}
    }

    @app.get("/readyz", summary="Readiness probe", responses=unready)
    async def readyz() -> Response:
        return JSONResponse({"status": service.state}, 200 if service.state == "ready" else 503)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    folder = files("tellapart.serve") / "page"
    for path, (name, kind) in _PAGES.items():
        app.add_api_route(path, _file((folder / name).read_bytes(), kind), include_in_schema=False)


def _file(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(content, media_type=kind)

    return file


def _add_problems(app: FastAPI) -> None:
    def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        return JSONResponse({"error": message}, status, headers)

    @app.exception_handler(RequestError)
    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
        return problem(error.status, str(error), headers)

    @app.exception_handler(HTTPException)
    async def not_found(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, f"{error.detail}. /docs lists the endpoints.", error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return problem(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.")

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> Response:
        return problem(500, "The server failed on this request; its log says why.")
