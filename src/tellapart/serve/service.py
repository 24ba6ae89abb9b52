"""A prediction request, from its headers to its response: limits, body, images, engine, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tellapart.errors import unknown
from tellapart.files import to_json
from tellapart.inference.predictor import Predictor
from tellapart.serve import schemas
from tellapart.serve.bodies import Upload, images_of, receive
from tellapart.serve.engine import Engine, Reply
from tellapart.serve.heat import Heat
from tellapart.serve.limits import Bounds, Ledger, RequestError
from tellapart.serve.metrics import Metrics

_Answers = list[tuple[Reply, Heat | None]]


class Service:
    """The served runs with their worker threads, which `close` ends."""

    def __init__(self, predictors: Mapping[str, Predictor], bounds: Bounds, metrics: Metrics) -> None:
        self.bounds = bounds
        self.metrics = metrics
        self.ending = False
        self._predictors = dict(predictors)
        self._ledger = Ledger(bounds)
        self._engine = Engine(self._predictors, bounds, self._ledger, metrics)
        metrics.waiting.set_function(lambda: self._ledger.images)

    def end(self) -> None:
        """Accept no more requests."""
        self.ending = True

    def close(self) -> None:
        self._engine.close()

    @property
    def state(self) -> str:
        """`ready`; `ending`; or `stalled`: images wait, and none has been answered for a long time."""
        return "ending" if self.ending else "stalled" if self._ledger.stalled else "ready"

    def served(self) -> schemas.Served:
        """The runs and the bounds."""
        return schemas.Served(
            runs=[
                schemas.ServedRun(
                    name=name,
                    kind=p.task.kind,
                    classes=list(p.task.classes),
                    height=p.spec.height,
                    width=p.spec.width,
                    heat=self._engine.heat_method(name),
                )
                for name, p in self._predictors.items()
            ],
            files=self.bounds.files,
            bytes=self.bounds.body,
            pixels=self.bounds.pixels,
        )

    async def predict(self, request: Request, run: str | None, explain: bool) -> Response:
        """The response to a request. Raises RequestError if there is none."""
        chosen = self._named(run)
        try:
            async with asyncio.timeout(self.bounds.seconds):
                found = await self._answers(request, chosen, explain)
        except TimeoutError:
            raise RequestError(
                408, f"The request did not finish within {self.bounds.seconds:g} s. Send fewer or smaller images."
            ) from None
        good = 0
        for answer, _ in found:
            good += not answer.prediction.error
            outcome = "unreadable" if answer.prediction.error else answer.prediction.verdict or "predicted"
            self.metrics.images.labels(chosen, outcome).inc()
        body = {"run": chosen, "predictions": [schemas.row(answer.prediction, heat) for answer, heat in found]}
        return Response(
            to_json(body).encode("utf-8", "replace"),
            status_code=200 if good else 422,
            media_type="application/json",
        )

    async def _answers(self, request: Request, run: str, explain: bool) -> _Answers:
        self._ledger.check()
        with self._ledger.body() as count:
            body = await receive(request, self.bounds, count)
            uploads = await images_of(request.headers.get("content-type", ""), body, self.bounds)
            del body
            with self._ledger.hold(len(uploads)):
                return await _while_connected(request, self._worked(run, uploads, explain))

    async def _worked(self, run: str, uploads: Sequence[Upload], explain: bool) -> _Answers:
        found = await self._engine.predict(run, uploads)
        heat = await self._engine.heat(run, found) if explain else [None] * len(found)
        return list(zip(found, heat, strict=True))

    def _named(self, run: str | None) -> str:
        if run is None:
            return next(iter(self._predictors))
        if run not in self._predictors:
            raise RequestError(404, unknown("run", run[:100], self._predictors))
        return run


async def _while_connected(request: Request, work: Coroutine[Any, Any, _Answers]) -> _Answers:
    """The result of the work; ClientDisconnect, with the work cancelled, if its client disconnects meanwhile."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
