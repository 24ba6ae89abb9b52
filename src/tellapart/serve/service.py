"""A request with images, from its headers to its response: limits, body, images, engine, metrics, feedback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import file_digest
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tellapart.data.feedback import Feedback, FeedbackFolder, FullError, Said
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
_Found = TypeVar("_Found")


class Service:
    """The served runs with their worker threads, which `close` ends."""

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        bounds: Bounds,
        metrics: Metrics,
        feedback: FeedbackFolder | None = None,
    ) -> None:
        """feedback: where it keeps what people say of its answers; None: nowhere."""
        self.bounds = bounds
        self.metrics = metrics
        self._feedback = feedback
        self._fingerprints = {} if feedback is None else {name: _sha256(p) for name, p in predictors.items()}
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
            feedback=self._feedback is not None,
        )

    async def predict(self, request: Request, run: str | None, explain: bool) -> Response:
        """The response to a request. Raises RequestError if there is none."""
        chosen = self._named(run)
        found = await self._in_time(request, lambda uploads: self._worked(chosen, uploads, explain))
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

    async def feedback(self, request: Request, run: str | None, said: Said, label: str) -> schemas.FeedbackReply:
        """Keep the image of a request with the answer, made anew, and what is said of it. Raises RequestError."""
        chosen = self._named(run)
        classes = self._predictors[chosen].task.classes
        if said == "other" and label not in classes:
            raise RequestError(400, unknown("class", label[:100], classes))
        row = await self._in_time(request, lambda uploads: self._kept(chosen, uploads, said, label))
        self.metrics.feedback.labels(chosen, said).inc()
        return schemas.FeedbackReply(run=chosen, said=row.said, label=row.label)

    async def _kept(self, run: str, uploads: Sequence[Upload], said: Said, label: str) -> Feedback:
        assert self._feedback is not None, "the route is there only with a folder"
        if len(uploads) != 1:
            raise RequestError(400, f"Feedback is about one image; the request holds {len(uploads)}.")
        (reply,) = await self._engine.predict(run, uploads)
        answer = reply.prediction
        if answer.error:
            raise RequestError(422, f"The image could not be predicted: {answer.error}")
        row = Feedback(
            path="",
            width=reply.width,
            height=reply.height,
            said=said,
            label={"right": answer.label, "other": label, "none": ""}[said],
            answer=answer.label,
            verdict=answer.verdict,
            probabilities=answer.to_dict()["probabilities"],
            run=run,
            fingerprint=self._fingerprints[run],
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            return await asyncio.to_thread(self._feedback.add, uploads[0].data, row)
        except FullError as error:
            raise RequestError(507, f"The folder of feedback is full: {error}. Tell who runs this server.") from None
        except OSError as error:
            raise RequestError(507, f"The feedback could not be kept: {error.strerror}.") from None

    async def _in_time(
        self, request: Request, work: Callable[[Sequence[Upload]], Coroutine[None, None, _Found]]
    ) -> _Found:
        """What `work` makes of the images of a request. Raises RequestError."""
        try:
            async with asyncio.timeout(self.bounds.seconds):
                return await self._received(request, work)
        except TimeoutError:
            raise RequestError(
                408, f"The request did not finish within {self.bounds.seconds:g} s. Send fewer or smaller images."
            ) from None

    async def _received(
        self, request: Request, work: Callable[[Sequence[Upload]], Coroutine[None, None, _Found]]
    ) -> _Found:
        self._ledger.check()
        with self._ledger.body() as count:
            body = await receive(request, self.bounds, count)
            uploads = await images_of(request.headers.get("content-type", ""), body, self.bounds)
            del body
            with self._ledger.hold(len(uploads)):
                return await _while_connected(request, work(uploads))

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


def _sha256(predictor: Predictor) -> str:
    with predictor.path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


async def _while_connected(request: Request, work: Coroutine[None, None, _Found]) -> _Found:
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
