"""A folder of images without labels -> the ASGI application of the page on which a person labels them.

The features are computed in one thread, and the accuracy is estimated in another, while labels are given.
"""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tellapart.errors import ConfigError
from tellapart.files import printable
from tellapart.serve.middleware import Access, Guard
from tellapart.studio.http import all_are, body_of, image_file, page_application, train_or_stop, version_of
from tellapart.studio.images import SIDES
from tellapart.studio.retrain import Trainer
from tellapart.studio.review import Looking
from tellapart.studio.thumbnails import Thumbnails
from tellapart.training.labelling import BATCH, Labels
from tellapart.training.learner import Assessment
from tellapart.words import measured, percent

GRID = 24
"""Obvious images offered at once."""
NEIGHBOURS = 5

_PAGES = {
    "/": ("tellapart.studio", "label.html", "text/html"),
    "/page/label.js": ("tellapart.studio", "label.js", "text/javascript"),
}
_PATIENCE = 3.0


class LabelSession:
    """Labels, and what happens beside them. `begin` computes features until all images have come."""

    def __init__(self, data: str, labels: Labels) -> None:
        self.data, self.labels = data, labels
        self.looking = Looking()
        self.trainer = Trainer(str(labels.decisions.path), ["--root", str(labels.pool.root)], None, None)
        self.assessed: tuple[int, Assessment] | None = None
        self._wanted, self._over = threading.Event(), False
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._fill, self._assess)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over = True
        self.looking.stop()
        self._wanted.set()
        self.trainer.stop()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def changed(self) -> None:
        """Have the accuracy estimated anew, when the last estimate is there."""
        self._wanted.set()

    def _fill(self) -> None:
        with self.looking.told():
            self.labels.pool.fill(self.looking)
        self.changed()

    def _assess(self) -> None:
        while self._wanted.wait() and not self._over:
            self._wanted.clear()
            count = len(self.labels)
            self.assessed = (count, self.labels.assess())


def label_application(session: LabelSession, access: Access) -> ASGIApp:
    """The page of a session, guarded."""
    return Guard(_routes(_Page(session)), access)


class _Page:
    """What the page asks."""

    def __init__(self, session: LabelSession) -> None:
        self.session = session
        self._labels = session.labels
        self._thumbnails = Thumbnails()

    def close(self) -> None:
        self.session.close()
        self._thumbnails.close()

    async def state(self, _request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._state))

    def _state(self) -> dict[str, Any]:
        session, labels = self.session, self._labels
        version = labels.decisions.version  # before what is shown: a later one would hide what came between
        rows = labels.decided
        counts = dict.fromkeys(labels.classes, 0)
        for row in rows.values():
            if row.action == "relabel":
                counts[row.label] += 1
        obvious = labels.obvious(GRID)
        named = {name: printable(name) for name in counts}
        return {
            "version": version,
            "data": printable(session.data),
            "file": printable(str(labels.decisions.path)),
            "made": len(labels.decisions.made),
            "classes": [{"name": name, "shown": named[name], "count": count} for name, count in counts.items()],
            "images": len(labels.pool),
            "ready": labels.pool.seen().count,
            "labelled": sum(counts.values()),
            "skipped": len(rows) - sum(counts.values()),
            "next": [
                self._image(each.path) | {"how": each.how, "likely": each.likely} for each in labels.suggest(BATCH - 1)
            ],
            "obvious": None
            if obvious is None
            else {"label": obvious.label, "images": [self._image(path) for path in obvious.paths]},
            "assessment": self._assessment(),
            "looking": session.looking.to_dict(),
            "training": None if session.trainer.last is None else session.trainer.last.to_dict(),
            "command": printable(
                shlex.join(["tellapart", "train", str(labels.decisions.path), "--root", str(labels.pool.root)])
            ),
        }

    def _assessment(self) -> dict[str, Any] | None:
        if self.session.assessed is None:
            return None
        count, found = self.session.assessed
        return {
            "labels": count,
            "accuracy": None if found.accuracy is None else measured(found.accuracy),
            "drawn": found.drawn,
            "changed": None if found.changed is None else percent(found.changed),
            "enough": found.enough,
        }

    def _image(self, path: str) -> dict[str, Any]:
        place = self._labels.pool.places[path]
        record = self._labels.pool.records[place]
        size = {"width": record.width, "height": record.height, "digest": record.digest[:8]}
        return {"id": place, "path": printable(path), **size}

    async def near(self, request: Request) -> Response:
        """The labelled images that are most like one."""
        path = self._path(request.path_params["place"])

        def found() -> list[dict[str, Any]]:
            near = self._labels.neighbours(path, NEIGHBOURS)
            return [self._image(other) | {"label": self._labels[other], "similarity": s} for other, s in near]

        return JSONResponse(await asyncio.to_thread(found))

    async def give(self, request: Request) -> Response:
        """{"version", "images": [position ...], "label" (none: skipped), "how", "ask": [position ...] of those that a
        person does not find obvious} -> the state afterwards."""
        given = await body_of(request)
        paths, ask = (self._paths(given.get(name, [])) for name in ("images", "ask"))
        label, how, version = given.get("label"), str(given.get("how", "chosen")), version_of(given)

        def decide() -> dict[str, Any]:
            if label is None:
                self._labels.skip(paths, how, version)
            else:
                self._labels.give(dict.fromkeys(paths, str(label)), how, version)
            self._labels.ask(ask)
            self.session.changed()
            return self._state()

        return JSONResponse(await asyncio.to_thread(decide))

    async def undo(self, request: Request) -> Response:
        """{"version"} -> the state afterwards."""
        version = version_of(await body_of(request))
        await asyncio.to_thread(self._labels.undo, version)
        self.session.changed()
        return JSONResponse(await asyncio.to_thread(self._state))

    async def train(self, request: Request) -> Response:
        await train_or_stop(request, self.session.trainer, "" if len(self._labels) else "Nothing is labelled yet.")
        return JSONResponse(await asyncio.to_thread(self._state))

    async def pixels(self, request: Request) -> Response:
        """The image itself, upright and no larger than `side`."""
        place, side = request.path_params["place"], request.path_params["side"]
        path, pool = self._path(place), self._labels.pool
        record = pool.records.get(place)
        if side not in SIDES or record is None or record.error:
            raise HTTPException(404, f"There is no such image of {printable(path)}.")
        return await image_file(pool.root, record, side, self._thumbnails, printable(path))

    def _paths(self, places: Any) -> list[str]:
        if not all_are(places, int):
            raise ConfigError("`images` and `ask` must be lists of positions.")
        return [self._path(place) for place in places]

    def _path(self, place: int) -> str:
        paths: Sequence[str] = self._labels.pool.paths
        if not 0 <= place < len(paths):
            raise HTTPException(404, "There is no such image.")
        return paths[place]


def _routes(page: _Page) -> Starlette:
    asked = [
        Route("/v1/state", page.state),
        Route("/v1/near/{place:int}", page.near),
        Route("/v1/labels", page.give, methods=["POST"]),
        Route("/v1/undo", page.undo, methods=["POST"]),
        Route("/v1/train", page.train, methods=["POST"]),
        Route("/pixels/{place:int}/{side:int}/{digest:str}", page.pixels),
    ]
    return page_application(_PAGES, asked, begin=page.session.begin, close=page.close)
