"""What the pages of the studio share: application, files, images, the body of a request, and errors in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tellapart.data.catalog import ImageRecord
from tellapart.data.decisions import OutdatedError
from tellapart.errors import ConfigError, TellapartError
from tellapart.files import from_json, printable
from tellapart.studio.images import shown
from tellapart.studio.retrain import Trainer
from tellapart.studio.thumbnails import Thumbnails

BODY = 1_000_000
"""Bytes of a request."""

Answer = Callable[[Request], Awaitable[Response]]

_OURS, _SERVED = "tellapart.studio", "tellapart.serve"
_SHARED = {
    "/page/studio.js": (_OURS, "studio.js", "text/javascript"),
    "/page/learn.js": (_OURS, "learn.js", "text/javascript"),
    "/page/studio.css": (_OURS, "studio.css", "text/css"),
    "/page/words.js": (_SERVED, "words.js", "text/javascript"),
    "/page/style.css": (_SERVED, "style.css", "text/css"),
    "/page/icon.svg": (_SERVED, "icon.svg", "image/svg+xml"),
}
"""Files of all pages: their package, name and media type by address."""


def page_application(
    pages: Mapping[str, tuple[str, str, str]],
    asked: Sequence[BaseRoute],
    *,
    begin: Callable[[], object] = lambda: None,
    close: Callable[[], object],
) -> Starlette:
    """The application of a page. pages: files by address, as _SHARED has them. close: waits in a thread of its own."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        begin()
        yield
        await asyncio.to_thread(close)

    files_of = [Route(path, _page_file(room, name, kind)) for path, (room, name, kind) in {**_SHARED, **pages}.items()]
    return Starlette(routes=[*files_of, *asked], lifespan=lifespan, exception_handlers=PROBLEMS)


def _page_file(room: str, name: str, kind: str) -> Answer:
    content = (files(room) / "page" / name).read_bytes()

    async def file(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


async def _outdated(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)


async def _wrong(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": printable(str(error))}, 400)


async def _missing(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": printable(error.detail)}, error.status_code, error.headers)


async def image_file(root: Path, image: ImageRecord, side: int, kept: Thumbnails, called: str) -> Response:
    """The image itself, as studio.images.shown gives it. Its address names its content, so a browser may keep it."""
    try:
        content, kind = await asyncio.to_thread(shown, root, image, side, kept)
    except (TellapartError, OSError) as error:
        raise HTTPException(404, f"{called} cannot be read any more: {error}") from None
    return Response(content, media_type=kind, headers={"cache-control": "private, max-age=31536000, immutable"})


async def bytes_of(request: Request) -> bytes:
    """The body of a request. Raises HTTPException for one of more than BODY."""
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > BODY:
            raise HTTPException(413, f"A request may have {BODY:,} bytes.")
        parts.append(part)
    return b"".join(parts)


async def body_of(request: Request) -> dict[str, Any]:
    """A body that is a JSON object."""
    try:
        found = from_json(await bytes_of(request))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError("The body must be a JSON object.")
    return found


async def train_or_stop(request: Request, trainer: Trainer, reason: str = "") -> None:
    """{"stop": true} ends the training; else one is started. Raises ConfigError with the reason why none can be, or
    where one runs."""
    if (await body_of(request)).get("stop"):
        await asyncio.to_thread(trainer.stop)
    elif reason or not trainer.start():
        raise ConfigError(reason or "A training runs already.")


def version_of(given: Mapping[str, Any]) -> int:
    version = given.get("version")
    if not isinstance(version, int):
        raise ConfigError("`version` must be a whole number, as the state tells it.")
    return version


def all_are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def whole_number(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise ConfigError(f"{text[:40]!r} is not a whole number.")
    return int(text)


PROBLEMS = {OutdatedError: _outdated, TellapartError: _wrong, HTTPException: _missing}
"""Answers to what is raised."""
