"""Pictures of all clients -> predictions: decoded in threads, then through each run's network in batches.

A picture goes event loop -> a decoding thread -> the run's one network thread -> event loop. The network takes what
waits, at most BATCH at a time, and never waits for more. Pictures of many pixels have a lane of their own, so that slow
ones do not stall the others. Read by: app.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.errors import PictureError
from tellapart.explain.heat import HeatMaker
from tellapart.inference.predictor import Prediction, Predictor, prediction
from tellapart.parallel import cores
from tellapart.serve.bodies import Upload
from tellapart.serve.bounds import Bounds, Ledger
from tellapart.serve.heat import Heat, heat_of
from tellapart.serve.metrics import Metrics

BATCH = 4
"""On processors, more at a time is no faster a picture, and the first of them would wait for the last."""
MANY_PIXELS = 16_000_000
"""A picture with more takes the slow lane: more than most telephones' photographs have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one picture. pixels: as the network saw it, uint8 (h, w, c), None where it could not be read.
    width, height: the picture's own, upright."""

    prediction: Prediction
    pixels: NDArray[np.uint8] | None = None
    width: int = 0
    height: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """A picture on its way. loop: whose future `answer` is."""

    upload: Upload | None
    line: _Line
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Answer]
    decoded: pixels.Decoded | None = None
    name: str = ""

    @property
    def given_up(self) -> bool:
        """Its client went away, or its time is over."""
        return self.answer.done()


class Engine:
    """The decoding lanes and a network thread a run. `close` ends them."""

    def __init__(self, predictors: Mapping[str, Predictor], bounds: Bounds, ledger: Ledger, metrics: Metrics) -> None:
        self._bounds = bounds
        self._metrics = metrics
        # More threads than cores: those that decode larger pictures share the time with the others.
        self._quick = ThreadPoolExecutor(cores() + 2, "decode")
        self._slow = ThreadPoolExecutor(cores(), "decode-large")
        # One at a time: heat may take a hundred times as long as a prediction, which goes on beside it.
        self._heat = ThreadPoolExecutor(1, "heat")
        self._makers = {name: HeatMaker(predictor) for name, predictor in predictors.items()}
        self._lines = {name: _Line(name, predictor, ledger, metrics) for name, predictor in predictors.items()}

    async def predict(self, run: str, uploads: Sequence[Upload]) -> list[Answer]:
        """An Answer a picture, in order. Cancelling it gives up those that are not begun."""
        loop = asyncio.get_running_loop()
        jobs = [_Job(upload, self._lines[run], loop, loop.create_future(), name=upload.name) for upload in uploads]
        for job in jobs:
            self._quick.submit(self._decode, job, min(MANY_PIXELS, self._bounds.pixels))
        try:
            return [await job.answer for job in jobs]
        finally:
            for job in jobs:
                job.answer.cancel()

    async def heat(self, run: str, answers: Sequence[Answer]) -> list[Heat | None]:
        """For each answer what speaks for its label; None where the picture could not be read. Cancelling it gives up
        what is not begun."""
        loop = asyncio.get_running_loop()
        asked = [
            None if answer.pixels is None else loop.run_in_executor(self._heat, self._heat_of, run, answer)
            for answer in answers
        ]
        try:
            return [None if one is None else await one for one in asked]
        finally:
            for one in asked:
                if one is not None:
                    one.cancel()

    def _heat_of(self, run: str, answer: Answer) -> Heat:
        predictor = self._lines[run].predictor
        assert answer.pixels is not None
        label = np.array([predictor.task.index(answer.prediction.label)])
        (found,) = self._makers[run].heat(answer.pixels[None], label)
        return heat_of(found, predictor.spec, answer.width, answer.height)

    def heat_method(self, run: str) -> str:
        """How heat is made for this run, in words."""
        return self._makers[run].method

    def close(self) -> None:
        """Wait for the threads to end; what has not begun is given up."""
        for pool in (self._quick, self._slow, self._heat):
            pool.shutdown(wait=True, cancel_futures=True)
        for line in self._lines.values():
            line.close()

    def _decode(self, job: _Job, max_pixels: int) -> None:
        upload = job.upload
        if job.given_up or upload is None:
            return
        started = time.perf_counter()
        try:
            job.decoded = pixels.decode(upload.data, job.line.predictor.spec, max_pixels)
        except PictureError as error:
            # Seen in the header, before anything is decoded.
            if error.reason == "too many pixels" and max_pixels < self._bounds.pixels:
                self._slow.submit(self._decode, job, self._bounds.pixels)
                return
            _settle([job], [Answer(Prediction(upload.name, error=str(error)))])
        except Exception as error:  # noqa: BLE001 - whatever it is, the client waits for an answer
            _fail([job], error)
        else:
            job.upload = None
            job.line.waiting.put(job)
        self._metrics.decode_seconds.observe(time.perf_counter() - started)


class _Line:
    """The one thread of a run's network."""

    def __init__(self, name: str, predictor: Predictor, ledger: Ledger, metrics: Metrics) -> None:
        self.predictor = predictor
        self.waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ledger = ledger
        self._seconds = metrics.batch_seconds.labels(name)
        self._pictures = metrics.batch_pictures.labels(name)
        predictor.probabilities(np.zeros((1, *predictor.spec.shape), np.uint8))  # the first time is slower
        self._thread = threading.Thread(target=self._work, name=f"network-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        ending = False
        while not ending:
            batch = [self.waiting.get()]
            while len(batch) < BATCH and batch[-1] is not None:
                try:
                    batch.append(self.waiting.get_nowait())
                except queue.Empty:
                    break
            ending = batch[-1] is None
            jobs = [job for job in batch if job is not None and not job.given_up]
            if jobs:
                self._run(jobs)

    def _run(self, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        try:
            decoded = [job.decoded for job in jobs if job.decoded is not None]
            taken = [found.pixels for found in decoded if found.pixels is not None]
            rows = zip(jobs, decoded, *self.predictor.answer(np.stack(taken)), strict=True)
            metadata = self.predictor.metadata
            answers = [
                Answer(prediction(metadata, job.name, *row), found.pixels, found.width, found.height)
                for job, found, *row in rows
            ]
        except Exception as error:  # noqa: BLE001 - the thread lives on for the next ones
            _fail(jobs, error)
            return
        seconds = time.perf_counter() - started
        _settle(jobs, answers)
        self._seconds.observe(seconds)
        self._pictures.observe(len(jobs))
        _tell(jobs, lambda: self._ledger.served(len(jobs), seconds))


def _settle(jobs: list[_Job], answers: list[Answer]) -> None:
    """Hand answers to the event loop, all in one wake-up."""

    def settle() -> None:
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)

    _tell(jobs, settle)


def _fail(jobs: list[_Job], error: Exception) -> None:
    def fail() -> None:
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(error)

    _tell(jobs, fail)


def _tell(jobs: list[_Job], callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the server ended meanwhile
        jobs[0].loop.call_soon_threadsafe(callback)
