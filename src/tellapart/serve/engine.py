"""Images of all clients -> predictions: each worker thread takes a batch from the queue, has it decoded and predicts.

An image goes from the event loop to a worker thread, one for each core, and back. A thread takes its share of the
queue, at most BATCH images of one run from any clients, and never waits for more. Decoding happens in processes, which
can be killed (data.decode_pool). Images whose header says that decoding may be slow have a queue of their own, the slow
lane, so that they do not delay the others; an image that takes longer than its header says is moved there.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.data.decode_cost import cost
from tellapart.data.decode_pool import IsolatedDecoder
from tellapart.data.pixels import Decoded
from tellapart.errors import ImageError, NoNumberError
from tellapart.explain.heat import HeatMaker
from tellapart.inference.prediction import Prediction
from tellapart.inference.predictor import Predictor
from tellapart.serve.bodies import Upload
from tellapart.serve.heat import Heat, heat_of
from tellapart.serve.limits import Bounds, Ledger
from tellapart.serve.metrics import Metrics

BATCH = 4
"""On processors, more at a time is no faster an image, and the first of them would wait for the last."""
LARGE = 4_000_000
"""An image of a higher or unknown cost (data.decode_cost) takes the slow lane: it takes about ten times as long as
one of a common data set, or may be made to."""
SOON = 2.0
"""Seconds after which an image of little cost is moved to the slow lane all the same."""
SLOW_LANES = 4
"""At most: so many times the memory for one image may be taken at once."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The result for one image. pixels: as the network saw it, uint8 (h, w, c); None if it could not be read.
    width, height: of the image itself, upright."""

    prediction: Prediction
    pixels: NDArray[np.uint8] | None = None
    width: int = 0
    height: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """An image in progress. loop: the event loop that `answer`, a future, belongs to."""

    upload: Upload
    run: str
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Reply]
    decoded: Decoded | None = None

    @property
    def given_up(self) -> bool:
        """Whether its client disconnected or its time is up."""
        return self.answer.done()


class Engine:
    """The threads that work for the runs; `predictors` use one thread each. `close` ends them."""

    def __init__(self, predictors: Mapping[str, Predictor], bounds: Bounds, ledger: Ledger, metrics: Metrics) -> None:
        self._predictors = predictors
        self._bounds = bounds
        self._ledger = ledger
        self._metrics = metrics
        self._desk = _Desk(bounds.threads)
        # One spare process, for when another has to be killed.
        self._decoder = IsolatedDecoder(memory=bounds.image_memory, ready=bounds.threads + 1)
        self._slow_decoder = IsolatedDecoder(memory=bounds.image_memory)
        self._slow = ThreadPoolExecutor(min(bounds.threads, SLOW_LANES), "decode-large")
        self._large = threading.BoundedSemaphore(bounds.large)
        # One at a time: a heat map may take a hundred times as long as a prediction, and predictions go on meanwhile.
        self._heat = ThreadPoolExecutor(1, "heat")
        self._makers = {name: HeatMaker(predictor) for name, predictor in predictors.items()}
        for predictor in predictors.values():
            predictor.probabilities(np.zeros((1, *predictor.spec.shape), np.uint8))  # the first time is slower
        self._decoder.wait_until_ready()
        self._cores = [
            threading.Thread(target=self._work, name=f"core-{number}", daemon=True) for number in range(bounds.threads)
        ]
        for core in self._cores:
            core.start()

    async def predict(self, run: str, uploads: Sequence[Upload]) -> list[Reply]:
        """A Reply for each image, in order. Cancelling it drops the images that have not begun."""
        loop = asyncio.get_running_loop()
        jobs = [_Job(upload, run, loop, loop.create_future()) for upload in uploads]
        self._desk.put(jobs)
        try:
            return [await job.answer for job in jobs]
        finally:
            for job in jobs:
                job.answer.cancel()

    async def heat(self, run: str, answers: Sequence[Reply]) -> list[Heat | None]:
        """For each answer what speaks for its label, of several the most probable; None where there is no prediction,
        or the network gives no number for a place. Cancelling it gives up what is not begun."""
        loop = asyncio.get_running_loop()
        asked = [
            loop.run_in_executor(self._heat, self._heat_of, run, answer)
            if answer.pixels is not None and not answer.prediction.error
            else None
            for answer in answers
        ]
        try:
            return [None if one is None else await one for one in asked]
        finally:
            for one in asked:
                if one is not None:
                    one.cancel()

    def _heat_of(self, run: str, answer: Reply) -> Heat | None:
        predictor = self._predictors[run]
        assert answer.pixels is not None
        label = np.array([predictor.task.index(answer.prediction.top(1)[0][0])])
        try:
            (found,) = self._makers[run].heat(answer.pixels[None], label)
        except NoNumberError:
            return None
        return heat_of(found, predictor.spec, answer.width, answer.height)

    def heat_method(self, run: str) -> str:
        """The method of this run's heat maps, in words."""
        return self._makers[run].method

    def close(self) -> None:
        """End the processes, and wait briefly for the threads; what has not begun is dropped."""
        self._desk.close()
        self._decoder.close()
        self._slow_decoder.close()
        for pool in (self._slow, self._heat):
            pool.shutdown(wait=False, cancel_futures=True)
        for core in self._cores:
            core.join(1.0)

    def _work(self) -> None:
        """The loop of a worker thread."""
        while taken := self._desk.take():
            self._decode([job for job in taken if not job.decoded and not job.given_up])
            jobs = [job for job in taken if job.decoded and not job.given_up]
            if jobs:
                self._predict(jobs)

    def _decode(self, jobs: list[_Job]) -> None:
        """Fill `decoded` of the quick images; the others are answered with an error, or moved to the slow lane."""
        slow = [job for job in jobs if (cost(job.upload.data) or LARGE + 1) > LARGE]
        soon = [job for job in jobs if job not in slow]
        if soon:
            slow += self._decode_with(self._decoder, soon, min(SOON, self._bounds.image_seconds))
        for job in slow:
            if self._large.acquire(blocking=False):
                self._slow.submit(self._decode_large, job)
            else:
                many = f"{self._bounds.large} slow images are waiting already"
                self._fail([job], self._ledger.busy(many))

    def _decode_large(self, job: _Job) -> None:
        try:
            if not job.given_up:
                self._decode_with(self._slow_decoder, [job], self._bounds.image_seconds, last=True)
        finally:
            self._large.release()
        if job.decoded is not None:
            self._desk.put([job])

    def _decode_with(
        self, decoder: IsolatedDecoder, jobs: list[_Job], seconds: float, *, last: bool = False
    ) -> list[_Job]:
        """Fill `decoded`, or answer with the error; returns those that were too slow, unless it was their last try."""
        started = time.perf_counter()
        slow = []
        try:
            spec = self._predictors[jobs[0].run].spec
            contents = [job.upload.data for job in jobs]
            for job, found in zip(
                jobs, decoder.decode_all(contents, spec, self._bounds.pixels, seconds=seconds), strict=True
            ):
                if not isinstance(found, Exception):
                    job.decoded = found
                elif not isinstance(found, ImageError):
                    self._fail([job], found)
                elif found.reason == "too slow" and not last:
                    slow.append(job)
                else:
                    self._settle([job], [Reply(Prediction(job.upload.name, error=str(found)))])
        except Exception as error:  # noqa: BLE001 - clients wait for an answer, whatever the error
            self._fail(jobs, error)
        each = (time.perf_counter() - started) / len(jobs)
        for _ in jobs:
            self._metrics.decode_seconds.observe(each)
        return slow

    def _predict(self, jobs: list[_Job]) -> None:
        run = jobs[0].run
        predictor = self._predictors[run]
        started = time.perf_counter()
        try:
            decoded = [(job.upload.name, job.decoded) for job in jobs if job.decoded is not None]
            said = predictor.predict_decoded(decoded)
            answers = [
                Reply(one, found.pixels, found.width, found.height)
                for one, (_, found) in zip(said, decoded, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - the thread must survive for the next batches
            self._fail(jobs, error)
            return
        seconds = time.perf_counter() - started
        self._settle(jobs, answers)
        self._metrics.batch_seconds.labels(run).observe(seconds)
        self._metrics.batch_images.labels(run).observe(len(jobs))
        _tell(jobs, lambda: self._ledger.served(len(jobs), seconds))

    def _settle(self, jobs: list[_Job], answers: list[Reply]) -> None:
        """Pass answers to the event loop, in one wake-up."""

        def settle() -> None:
            self._ledger.answered()
            for job, answer in zip(jobs, answers, strict=True):
                if not job.answer.done():
                    job.answer.set_result(answer)

        _tell(jobs, settle)

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        def fail() -> None:
            self._ledger.answered()
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)

        _tell(jobs, fail)


class _Desk:
    """The queue of images."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._waiting: deque[_Job] = deque()
        self._come = threading.Condition()
        self._closed = False

    def put(self, jobs: Sequence[_Job]) -> None:
        with self._come:
            self._waiting.extend(jobs)
            self._come.notify(len(jobs))

    def take(self) -> list[_Job]:
        """The next batch, oldest first, of one run; waits for one. Empty once the engine is closed."""
        with self._come:
            self._come.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            # Some are left for the busy threads: small batches end soon, and latency counts while few images wait.
            share = min(BATCH, max(1, len(self._waiting) - self._cores))
            taken = [self._waiting.popleft()]
            while len(taken) < share and self._waiting[0].run == taken[0].run:
                taken.append(self._waiting.popleft())
            return taken

    def close(self) -> None:
        with self._come:
            self._closed = True
            self._come.notify_all()


def _tell(jobs: list[_Job], callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the server ended meanwhile
        jobs[0].loop.call_soon_threadsafe(callback)
