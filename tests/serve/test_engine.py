"""The engine by itself: what is given up is not worked on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request

import tellapart as ta
from tellapart.data.decode_pool import IsolatedDecoder
from tellapart.data.pixels import Decoded
from tellapart.explain.heat import HeatMaker
from tellapart.inference.predictor import Predictor
from tellapart.parallel import cores
from tellapart.serve.bodies import Upload
from tellapart.serve.engine import Engine, Reply
from tellapart.serve.limits import Bounds, Ledger, RequestError
from tellapart.serve.metrics import Metrics
from tellapart.serve.service import Service
from tests.data.hostile import slow_jp2


@pytest.fixture
def engine(run: ta.Run) -> Iterator[Engine]:
    bounds = Bounds()
    found = Engine({"two": run.predictor(threads=1)}, bounds, Ledger(bounds), Metrics())
    yield found
    found.close()


def test_heat_that_nobody_waits_for_any_more_is_not_made(
    engine: Engine, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    go_on = threading.Event()
    made: list[int] = []
    real = HeatMaker.heat

    def counted(self: HeatMaker, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        made.append(len(images))
        begun.set()
        go_on.wait()
        return real(self, images, classes)

    monkeypatch.setattr(HeatMaker, "heat", counted)

    async def give_up() -> None:
        answers = await engine.predict("two", [Upload(path.name, path.read_bytes()) for path in photographs[:8]])
        asked = asyncio.create_task(engine.heat("two", answers))
        await asyncio.to_thread(begun.wait)
        asked.cancel()
        # Only then the others of its images are given up too.
        with pytest.raises(asyncio.CancelledError):
            await asked
        go_on.set()
        (heat,) = await engine.heat("two", answers[:1])
        assert heat is not None

    asyncio.run(give_up())
    assert len(made) == 2


def test_images_that_nobody_waits_for_any_more_do_not_reach_the_network(
    engine: Engine, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = cores()
    begun = threading.Semaphore(0)
    go_on = threading.Event()
    seen: list[int] = []
    real = Predictor.answer

    def counted(self: Predictor, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        seen.append(len(batch))
        begun.release()
        go_on.wait()
        return real(self, batch)

    monkeypatch.setattr(Predictor, "answer", counted)

    async def give_up() -> None:
        uploads = [Upload(path.name, path.read_bytes()) for path in photographs]
        first = asyncio.create_task(engine.predict("two", (uploads * lanes)[:lanes]))
        for _ in range(lanes):
            await asyncio.to_thread(begun.acquire)
        rest = asyncio.create_task(engine.predict("two", uploads))
        await asyncio.sleep(0)
        rest.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert len(await first) == lanes
        assert (await engine.predict("two", uploads[:1]))[0].prediction.label

    asyncio.run(give_up())
    assert sum(seen) == lanes + 1


def test_images_that_nobody_waits_for_any_more_are_not_decoded(
    engine: Engine, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = cores()
    begun = threading.Semaphore(0)
    go_on = threading.Event()
    seen: list[int] = []
    real = IsolatedDecoder.decode_all

    def counted(self: IsolatedDecoder, contents: list[bytes], *rest: Any, **options: Any) -> list[Decoded | Exception]:
        seen.extend([1] * len(contents))
        begun.release()
        go_on.wait()
        return real(self, contents, *rest, **options)

    monkeypatch.setattr(IsolatedDecoder, "decode_all", counted)

    async def give_up() -> None:
        upload = Upload("a", photographs[0].read_bytes())
        first = []
        for _ in range(lanes):  # one each
            first.append(asyncio.create_task(engine.predict("two", [upload])))
            await asyncio.sleep(0)
            await asyncio.to_thread(begun.acquire)
        rest = asyncio.create_task(engine.predict("two", [upload] * 10))
        await asyncio.sleep(0)
        rest.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert all([(await one)[0].prediction.label for one in first])
        assert (await engine.predict("two", [upload]))[0].prediction.label

    asyncio.run(give_up())
    assert len(seen) == lanes + 1


def test_one_image_that_breaks_its_process_is_one_row_and_the_others_of_its_batch_are_predicted(
    engine: Engine, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = [Upload(path.name, path.read_bytes()) for path in photographs[:6]]
    real = IsolatedDecoder.decode_all
    slow = slow_jp2()

    def first_slow(self: IsolatedDecoder, contents: list[bytes], *rest: Any, **_: Any) -> list[Decoded | Exception]:
        # Its header promised little, and it takes over its time, as do all that are decoded in one message with it.
        return real(self, [slow if each == uploads[2].data else each for each in contents], *rest, seconds=0.5)

    monkeypatch.setattr(IsolatedDecoder, "decode_all", first_slow)
    answers = asyncio.run(engine.predict("two", uploads))
    assert [bool(answer.prediction.label) for answer in answers] == [True, True, False, True, True, True]
    assert answers[2].prediction.error.startswith("too slow")


def test_images_that_may_take_long_take_a_part_of_the_queue_alone(run: ta.Run, photographs: list[Path]) -> None:
    bounds = Bounds(queue=8, files=2, threads=1)
    engine = Engine({"two": run.predictor(threads=1)}, bounds, Ledger(bounds), Metrics())
    slow, quick = Upload("slow", slow_jp2()), Upload("quick", photographs[0].read_bytes())

    async def ask() -> None:
        waiting = [asyncio.create_task(engine.predict("two", [slow])) for _ in range(5)]
        answer = await asyncio.wait_for(engine.predict("two", [quick]), 10)
        assert answer[0].prediction.label
        refused = [one for one in await asyncio.gather(*waiting, return_exceptions=True) if isinstance(one, Exception)]
        assert len(refused) == 1
        assert isinstance(refused[0], RequestError)
        assert refused[0].status == 503

    try:
        asyncio.run(ask())
    finally:
        engine.close()


def test_an_error_of_the_network_reaches_the_one_who_asked_and_the_next_is_answered(
    engine: Engine, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Upload("a", photographs[0].read_bytes())
    real = Predictor.answer

    def failing(_self: Predictor, _batch: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        raise RuntimeError("out of memory")

    async def ask() -> None:
        monkeypatch.setattr(Predictor, "answer", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            await engine.predict("two", [upload])
        monkeypatch.setattr(Predictor, "answer", real)
        assert (await engine.predict("two", [upload]))[0].prediction.label

    asyncio.run(ask())


def service_and_request(run: ta.Run, data: bytes, *, leaves: bool) -> tuple[Service, Request]:
    """A request whose body has come; its client then waits, or goes away."""
    messages = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "headers": [(b"content-type", b"image/jpeg")], "method": "POST", "path": "/v1/predict"}
    return Service({"two": run.predictor(threads=1)}, Bounds(seconds=7), Metrics()), Request(scope, receive)


def test_the_image_of_a_client_that_went_away_is_given_up(
    run: ta.Run, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = []

    async def endless(_self: Engine, _run: str, uploads: list[Upload]) -> list[Reply]:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(len(uploads))
        return []

    monkeypatch.setattr(Engine, "predict", endless)
    service, request = service_and_request(run, photographs[0].read_bytes(), leaves=True)

    async def ask() -> None:
        with pytest.raises(ClientDisconnect):
            await service.predict(request, None, explain=False)
        await asyncio.sleep(0)

    asyncio.run(ask())
    service.close()
    assert given_up == [1]
    assert not service._ledger.images


def test_a_request_has_the_seconds_that_were_set(
    run: ta.Run, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = []
    real = asyncio.timeout

    def noted(seconds: float) -> asyncio.Timeout:
        allowed.append(seconds)
        return real(seconds)

    monkeypatch.setattr(asyncio, "timeout", noted)
    service, request = service_and_request(run, photographs[0].read_bytes(), leaves=False)
    assert asyncio.run(service.predict(request, None, explain=False)).status_code == 200
    service.close()
    assert allowed == [7]
