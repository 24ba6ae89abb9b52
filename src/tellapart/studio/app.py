"""A session -> the ASGI application of the studio: its page, its images, and what the page asks.

The guards and the page policy are those of `serve`. Answers are JSON; what is decided is on the disk before its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from tellapart.data.doubts import Doubt
from tellapart.errors import ConfigError, TellapartError
from tellapart.files import printable
from tellapart.serve.middleware import Access, Guard
from tellapart.studio.browse import MOST, SORTS, VERDICTS, Index, Query
from tellapart.studio.feedback import FeedbackSession
from tellapart.studio.http import (
    all_are,
    body_of,
    image_file,
    page_application,
    train_or_stop,
    version_of,
    whole_number,
)
from tellapart.studio.images import SIDES
from tellapart.studio.review import Review, dropped_first
from tellapart.studio.session import Session
from tellapart.studio.thumbnails import Thumbnails

NEIGHBOURS = 5
_PAIRS = 200
FEEDBACK = "/feedback/"
"""The page of what visitors said; what it asks is below it, as the review's is below /."""

_REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
_OURS = "tellapart.studio"
_PAGES = {
    "/": (_OURS, "review.html", "text/html"),
    "/browse": (_OURS, "browse.html", "text/html"),
    "/page/review.js": (_OURS, "review.js", "text/javascript"),
    "/page/browse.js": (_OURS, "browse.js", "text/javascript"),
    "/page/map.js": (_OURS, "map.js", "text/javascript"),
}


def application(session: Session, access: Access) -> ASGIApp:
    """The studio of a session, guarded."""
    return Guard(_routes(session), access)


class Desk:
    """What a page asks that settles one doubt after the other."""

    def __init__(self, session: Review, thumbnails: Thumbnails) -> None:
        self._session = session
        self._thumbnails = thumbnails

    @property
    def _index(self) -> Index:
        if self._session.index is None:
            raise HTTPException(503, "The images are still being read.")
        return self._session.index

    async def state(self, _request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._state))

    def _after(self) -> dict[str, Any]:
        """The state, with all that is settled."""
        return self._state() | {"settled_now": self._session.settled()}

    def _state(self) -> dict[str, Any]:
        session = self._session
        session.refresh()
        settled, index, feedback = session.settled(), session.index, session.feedback
        return {
            "data": printable(session.data),
            "run": None if session.run is None else printable(session.run.path.absolute().name),
            "report": session.run is not None and session.run.report_file.is_file(),
            "file": printable(str(session.file)),
            "feedback": None if feedback is None else self._of_feedback(feedback),
            "version": session.decisions.version,
            "made": len(session.decisions.made),
            "classes": [] if index is None else list(index.classes),
            "images": 0 if index is None else len(index.catalog),
            "answered": index is not None and index.answered,
            "map": session.of_map(),
            "verdicts": list(VERDICTS),
            "sorts": list(SORTS),
            "kinds": session.kinds(settled),
            "doubts": len(session.doubts),
            "settled": len(settled),
            "corrections": session.counts(),
            "looking": session.looking.to_dict(),
            "training": None if session.trainer.last is None else session.trainer.last.to_dict(),
        }

    @staticmethod
    def _of_feedback(feedback: FeedbackSession) -> dict[str, Any]:
        settled, doubts = feedback.settled(), feedback.doubts
        added = len(feedback.accepted()[1])
        file = printable(str(feedback.decisions.path))
        return {"all": len(doubts), "open": len(doubts) - len(settled), "added": added, "file": file}

    async def queue(self, request: Request) -> Response:
        """Each doubt of a kind and class in short: key, kind, its first image, and what was decided."""
        kind, label = request.query_params.get("kind", ""), request.query_params.get("label", "")

        def found() -> dict[str, Any]:
            settled, session = self._session.settled(), self._session
            rows = [
                self._short(doubt, settled)
                for doubt in session.doubts
                if kind in ("", doubt.kind) and (not label or label in map(session.label_of, doubt.paths))
            ]
            return {"version": session.decisions.version, "doubts": rows}

        return JSONResponse(await asyncio.to_thread(found))

    def _short(self, doubt: Doubt, settled: Mapping[str, str]) -> dict[str, Any]:
        return {
            "key": doubt.key,
            "kind": doubt.kind,
            "image": self._image(doubt.paths[0]),
            "images": len(doubt.paths),
            "labels": list(dict.fromkeys(map(self._session.label_of, doubt.paths))),
            "settled": settled.get(doubt.key),
            "proposed": doubt.proposed[0].label or doubt.proposed[0].action if doubt.proposed else None,
        }

    async def doubt(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._doubt, request.path_params["key"]))

    def _doubt(self, key: str) -> dict[str, Any]:
        session = self._session
        doubt = session.doubt(key)
        fates = {row.path: row for row in session.decisions.corrections if row.action in ("relabel", "drop")}
        images = [self._image(path) for path in doubt.paths]
        for image, path in zip(images, doubt.paths, strict=True):
            fate = fates.get(path)
            image["fate"] = None if fate is None else fate.label or "dropped"
            image["goes"] = path in dropped_first(doubt)
        return {
            "version": session.decisions.version,
            "key": key,
            "kind": doubt.kind,
            "words": session.words[doubt.kind],
            "reason": printable(doubt.reason),
            "images": images,
            "likely": doubt.likely,
            "settled": session.settled().get(key),
            "together": doubt.together,
            "neighbours": self._near(doubt.paths[0], doubt.paths),
        }

    def _image(self, path: str) -> dict[str, Any]:
        row = self._index.row(self._index.places[path])
        return row | {"path": printable(row["path"])}

    def _near(self, path: str, besides: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The nearest training images, without those that are shown already."""
        found = self._session.found
        all_near = [] if found is None else found.neighbours(path, NEIGHBOURS + len(besides))
        near = [one for one in all_near if one[0] not in besides][:NEIGHBOURS]
        return [self._image(other) | {"similarity": round(similarity, 4)} for other, similarity in near]

    async def decide(self, request: Request) -> Response:
        """{"version", "doubts": [key ...], "action", "label", "images": [position ...]} -> the state afterwards."""
        given = await body_of(request)
        keys, images = given.get("doubts", []), given.get("images", [])
        if not all_are(keys, str) or not all_are(images, int):
            raise ConfigError("`doubts` must be a list of keys, and `images` one of positions.")
        paths = [self._path(place) for place in images]
        action, label = str(given.get("action", "")), str(given.get("label", ""))
        count = await asyncio.to_thread(self._session.decide, keys, action, version_of(given), label, paths)
        return JSONResponse(await asyncio.to_thread(self._after) | {"decided": count})

    async def undo(self, request: Request) -> Response:
        """{"version"} -> the state afterwards, with the keys of what is open again."""
        undone = await asyncio.to_thread(self._session.decisions.undo, version_of(await body_of(request)))
        return JSONResponse(await asyncio.to_thread(self._after) | {"undone": [each.doubt for each in undone]})

    async def train(self, request: Request) -> Response:
        trainer = self._session.trainer
        given = self._session.counts()["all"] or trainer.added()[1]
        await train_or_stop(request, trainer, "" if given else "Nothing is corrected yet.")
        return JSONResponse(await asyncio.to_thread(self._state))

    async def pixels(self, request: Request) -> Response:
        """The image itself, upright and no larger than `side`."""
        place, side = request.path_params["place"], request.path_params["side"]
        path = self._path(place)
        image = self._index.catalog.images[place]
        if side not in SIDES or image.error:
            raise HTTPException(404, f"There is no such image of {path!r}.")
        return await image_file(self._index.catalog.root, image, side, self._thumbnails, quote(path))

    def _path(self, place: int) -> str:
        images = self._index.catalog.images
        if not 0 <= place < len(images):
            raise HTTPException(404, "There is no such image.")
        return images[place].path


class Studio(Desk):
    """What the pages of a session ask besides."""

    _session: Session

    async def report(self, _request: Request) -> Response:
        """The run's own page. It needs no script, and gets none: a run may be a stranger's."""
        run = self._session.run
        if run is None or not run.report_file.is_file():
            raise HTTPException(404, "There is no report. Write it with: tellapart report RUN")
        content = await asyncio.to_thread(run.report_file.read_bytes)
        return Response(content, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY})

    async def images(self, request: Request) -> Response:
        """The images of a query from a position on, with how many there are in all."""
        query, index = Query.of(request.query_params), self._index
        start = whole_number(request.query_params.get("start", "0"))
        count = min(MOST, whole_number(request.query_params.get("count", "100")))

        def found() -> dict[str, Any]:
            places = index.find(query, self._session.doubts)
            rows = [index.row(place) for place in places[start : start + count].tolist()]
            return {"total": len(places), "start": start, "rows": [r | {"path": printable(r["path"])} for r in rows]}

        return JSONResponse(await asyncio.to_thread(found))

    async def table(self, request: Request) -> Response:
        query, index = Query.of(request.query_params), self._index
        text = await asyncio.to_thread(index.table, query, self._session.doubts)
        headers = {"content-disposition": 'attachment; filename="images.csv"'}
        return Response(text.encode("utf-8-sig", "surrogateescape"), media_type="text/csv", headers=headers)

    async def confusion(self, request: Request) -> Response:
        query, index = Query.of(request.query_params), self._index
        return JSONResponse({"classes": list(index.classes), "counts": await asyncio.to_thread(index.confusion, query)})

    async def confused(self, request: Request) -> Response:
        """The pairs of classes that are confused most, with ?text= those of a class with this in its name."""
        query, index = Query.of(request.query_params), self._index
        total, pairs = await asyncio.to_thread(index.confused, replace(query, text=""), query.text, _PAIRS)
        return JSONResponse({"total": total, "pairs": pairs})

    async def map(self, _request: Request) -> Response:
        """The map as bytes: browse.ON_MAP of each image, with its axes in a header. Empty before the images were looked
        into."""
        index = self._index
        await asyncio.to_thread(self._session.begin_map)
        axes = index.axes  # before the map, which may be replaced meanwhile: then the page asks again
        content = await asyncio.to_thread(index.map)
        return Response(content, media_type="application/octet-stream", headers={"x-axes": axes})

    async def heat(self, request: Request) -> Response:
        """What speaks for the answer of the run, over the image."""
        place = request.path_params["place"]
        path = self._path(place)
        try:
            content = await asyncio.to_thread(self._session.heat, place)
        except (TellapartError, OSError) as error:
            raise HTTPException(404, f"There is no heat of {printable(path)}: {error}") from None
        if content is None:
            raise HTTPException(404, f"No run tells what speaks for {printable(path)}.")
        return Response(content, media_type="image/jpeg")

    async def image(self, request: Request) -> Response:
        """All that is known of one image; with ?short what a list shows of it."""
        path = self._path(request.path_params["place"])
        if "short" in request.query_params:
            return JSONResponse(self._image(path))

        def found() -> dict[str, Any]:
            settled = self._session.settled()
            about = [self._short(doubt, settled) for doubt in self._session.doubts if path in doubt.paths]
            fates = {row.path: row for row in self._session.decisions.corrections}
            fate = fates[path].label or fates[path].action if path in fates else None
            told = {"probabilities": self._index.probabilities(self._index.places[path]), "fate": fate}
            return self._image(path) | told | {"neighbours": self._near(path), "doubts": about}

        return JSONResponse(await asyncio.to_thread(found))


def _routes(session: Session) -> Starlette:
    thumbnails = Thumbnails()
    studio = Studio(session, thumbnails)
    pages = dict(_PAGES)
    asked: list[BaseRoute] = [
        Route("/report", studio.report),
        *_of_desk(studio),
        Route("/v1/images", studio.images),
        Route("/v1/images.csv", studio.table),
        Route("/v1/confusion", studio.confusion),
        Route("/v1/confused", studio.confused),
        Route("/v1/map", studio.map),
        Route("/heat/{place:int}", studio.heat),
        Route("/v1/images/{place:int}", studio.image),
    ]
    if session.feedback is not None:
        pages[FEEDBACK] = pages["/"]
        asked.append(Mount(FEEDBACK.rstrip("/"), routes=_of_desk(Desk(session.feedback, thumbnails))))

    def close() -> None:
        session.close()
        thumbnails.close()

    return page_application(pages, asked, begin=session.begin, close=close)


def _of_desk(desk: Desk) -> list[BaseRoute]:
    return [
        Route("/v1/state", desk.state),
        Route("/v1/queue", desk.queue),
        Route("/v1/doubts/{key:str}", desk.doubt),
        Route("/v1/decisions", desk.decide, methods=["POST"]),
        Route("/v1/undo", desk.undo, methods=["POST"]),
        Route("/v1/train", desk.train, methods=["POST"]),
        Route("/pixels/{place:int}/{side:int}/{digest:str}", desk.pixels),
    ]
