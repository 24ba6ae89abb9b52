"""A folder that frames of a camera are collected in -> the ASGI application of its page: hold a button, train, look.

Frames are JPEG files in one folder a class, named by the take in which they were made, so that no two of a take are in
different splits: they are nearly the same image. Written are new files; removed, when a person says so, are only those.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tellapart.data import pixels
from tellapart.data.sources.listing import ignored, kind_of, natural_key
from tellapart.errors import ConfigError, ImageError, TellapartError
from tellapart.files import printable, terminal_safe
from tellapart.inference.predictor import Predictor
from tellapart.runs.run import open_run
from tellapart.serve.middleware import Access, Guard
from tellapart.studio.frames import Frames
from tellapart.studio.http import all_are, body_of, bytes_of, page_application, train_or_stop
from tellapart.studio.retrain import Trainer
from tellapart.training.labelling import class_name
from tellapart.words import probability

TAKES = r"(?P<group>.*/take-\d+)-\d+\.jpg"
"""As --group-by takes it: the frames of a take belong together."""

MOST = 100_000
"""Frames of a folder."""

_TAKE = re.compile(r"\d{1,15}")
_SHOWN = 9
_LISTED = 120
_PAGES = {
    "/": ("tellapart.studio", "camera.html", "text/html"),
    "/page/camera.js": ("tellapart.studio", "camera.js", "text/javascript"),
}


class CameraSession:
    """The frames of a folder, and a network that was trained on them."""

    def __init__(self, folder: Path, classes: tuple[str, ...] = ()) -> None:
        """folder: is made with the first frame. Raises ConfigError for a file."""
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file. Name the folder that the frames are to be collected in.")
        self.folder = folder
        self.trainer = Trainer(str(folder), ["--group-by", TAKES], None, None)
        self._named = tuple(map(folder_name, classes))
        self._lock = threading.Lock()
        self.written = Frames()
        self._predictor: tuple[Path, Predictor] | None = None
        with suppress(TellapartError, OSError):  # there is none, or it is not finished
            self._open(self.trainer.wanted)

    def counts(self) -> dict[str, int]:
        """Frames of each class, in the order of their names; those that were named first."""
        found = dict.fromkeys(self._named, 0)
        if self.folder.is_dir():
            names = [place.name for place in self.folder.iterdir() if place.is_dir() and not ignored(place.name)]
            for name in sorted(names, key=natural_key):
                found[name] = sum(kind_of(file.name) == "image" for file in (self.folder / name).iterdir())
        return found

    def keep(self, label: str, take: str, content: bytes) -> Path:
        """Write a frame, a JPEG, as a new file. take: a number, the same for frames that were made in one go.

        Raises ConfigError for a class or take that is none and where the folder is full or cannot be written,
        ImageError for what is no JPEG.
        """
        name = folder_name(label)
        if not _TAKE.fullmatch(take):
            raise ConfigError("`take` must be a whole number.")
        if not content.startswith(b"\xff\xd8\xff"):
            raise ImageError("not an image", "a frame is a JPEG")
        pixels.decode(content, None)
        with self._lock:
            number = sum(self.counts().values())
            if number >= MOST:
                raise ConfigError(f"{self.folder} holds {number:,} frames, and more are not collected.")
            return self.written.write(self.folder / name, take, content, number)

    @property
    def run(self) -> Path | None:
        """The run that looks: the last that was trained here."""
        last = self.trainer.last
        with self._lock:
            if (
                last is not None
                and last.state == "done"
                and (self._predictor is None or self._predictor[0] != last.out)
            ):
                self._open(last.out)
            return None if self._predictor is None else self._predictor[0]

    def _open(self, path: Path) -> None:
        run = open_run(path)
        self._predictor = (path, Predictor(run.require(run.onnx_file, "exported network")))

    def look(self, content: bytes) -> dict[str, Any]:
        """What the network says of a frame. Raises ConfigError before one is trained, ImageError for no image."""
        if self.run is None or self._predictor is None:
            raise ConfigError("Nothing is trained yet.")
        path, predictor = self._predictor
        (said,) = predictor.predict_named([("frame", content)])
        if said.error:
            raise ImageError("not an image", said.error)
        shares = [(name, round(share, 4)) for name, share in said.top(_SHOWN)]
        words = probability(said.probability)
        return {"run": str(path), "label": said.label, "words": words, "verdict": said.verdict, "likely": shares}


def folder_name(text: str) -> str:
    """The name of a class, which is a folder too. Raises ConfigError for one that would lie elsewhere or be hidden.

    >>> folder_name("thumb up")
    'thumb up'
    """
    name = class_name(text)
    if name != Path(name).name or "\\" in name or ":" in name or ignored(name) or name.endswith("."):
        raise ConfigError(f"{name[:40]!r} cannot be the name of a folder: no slash, colon or leading or last dot.")
    return name


def camera_application(session: CameraSession, access: Access) -> ASGIApp:
    """The page of a session, guarded."""
    return Guard(_routes(_Page(session)), access)


class _Page:
    """What the page asks."""

    def __init__(self, session: CameraSession) -> None:
        self._session = session

    def close(self) -> None:
        self._session.trainer.stop()

    async def state(self, _request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._state))

    def _state(self) -> dict[str, Any]:
        session, problem, run = self._session, "", None
        try:
            run = session.run
        except (TellapartError, OSError) as error:
            problem = terminal_safe(str(error))
        last = session.trainer.last
        return {
            "folder": printable(str(session.folder)),
            "classes": [
                {"name": name, "shown": printable(name), "count": count} for name, count in session.counts().items()
            ],
            "run": None if run is None else str(run),
            "problem": problem,
            "training": None if last is None else last.to_dict(),
            "written": session.written.version,
            "command": printable(shlex.join(["tellapart", "train", str(session.folder), "--group-by", TAKES])),
        }

    async def frame(self, request: Request) -> Response:
        """A JPEG, with ?label= and ?take= -> its path, and how many frames the class has."""
        label, take = (request.query_params.get(name, "") for name in ("label", "take"))
        content = await bytes_of(request)
        kept = await asyncio.to_thread(self._session.keep, label, take, content)
        return JSONResponse({"path": printable(str(kept))})

    async def frames(self, _request: Request) -> Response:
        """The newest frames of this session, and how many removals can be undone."""
        written = self._session.written
        rows = [
            {"id": number, "label": frame.path.parent.name, "take": frame.take, "digest": frame.digest}
            for number, frame in written.newest(_LISTED)
        ]
        for row in rows:
            row["label"] = printable(str(row["label"]))
        return JSONResponse({"version": written.version, "frames": rows, "undo": written.undos})

    async def pixels(self, request: Request) -> Response:
        """A frame of this session."""
        try:
            content = await asyncio.to_thread(self._session.written.read, request.path_params["number"])
        except ConfigError as error:
            raise HTTPException(404, str(error)) from None
        headers = {"cache-control": "private, max-age=31536000, immutable"}
        return Response(content, media_type="image/jpeg", headers=headers)

    async def remove(self, request: Request) -> Response:
        """{"frames": [id ...]} -> how many of the session's frames were removed."""
        numbers: list[int] = (await body_of(request)).get("frames", [])
        if not all_are(numbers, int):
            raise ConfigError("`frames` must be a list of whole numbers.")
        return JSONResponse({"count": await asyncio.to_thread(self._session.written.remove, numbers)})

    async def restore(self, _request: Request) -> Response:
        """Undo the last removal -> how many frames are there again."""
        return JSONResponse({"count": await asyncio.to_thread(self._session.written.restore)})

    async def look(self, request: Request) -> Response:
        """A JPEG -> what the network says of it."""
        return JSONResponse(await asyncio.to_thread(self._session.look, await bytes_of(request)))

    async def train(self, request: Request) -> Response:
        await train_or_stop(request, self._session.trainer)
        return JSONResponse(await asyncio.to_thread(self._state))


def _routes(page: _Page) -> Starlette:
    asked = [
        Route("/v1/state", page.state),
        Route("/v1/frames", page.frame, methods=["POST"]),
        Route("/v1/frames", page.frames),
        Route("/v1/remove", page.remove, methods=["POST"]),
        Route("/v1/restore", page.restore, methods=["POST"]),
        Route("/frames/{number:int}/{digest:str}", page.pixels),
        Route("/v1/look", page.look, methods=["POST"]),
        Route("/v1/train", page.train, methods=["POST"]),
    ]
    return page_application(_PAGES, asked, close=page.close)
