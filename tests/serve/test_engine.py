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
from tellapart.data import pixels
from tellapart.explain.heat import HeatMaker
from tellapart.inference.predictor import Predictor
from tellapart.parallel import cores
from tellapart.serve.bodies import Upload
from tellapart.serve.bounds import Bounds, Ledger
from tellapart.serve.engine import Answer, Engine
from tellapart.serve.metrics import Metrics
from tellapart.serve.service import Service


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

    def counted(self: HeatMaker, pictures: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        made.append(len(pictures))
        begun.set()
        go_on.wait()
        return real(self, pictures, classes)

    monkeypatch.setattr(HeatMaker, "heat", counted)

    async def give_up() -> None:
        answers = await engine.predict("two", [Upload(path.name, path.read_bytes()) for path in photographs[:8]])
        asked = asyncio.create_task(engine.heat("two", answers))
        await asyncio.to_thread(begun.wait)
        asked.cancel()
        await asyncio.sleep(0)
        go_on.set()
        (heat,) = await engine.heat("two", answers[:1])
        assert heat is not None

    asyncio.run(give_up())
    assert len(made) == 2


def test_pictures_that_nobody_waits_for_any_more_do_not_reach_the_network(
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


def test_pictures_that_nobody_waits_for_any_more_are_not_decoded(
    engine: Engine, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = cores()
    begun = threading.Semaphore(0)
    go_on = threading.Event()
    seen: list[int] = []
    real = pixels.decode

    def counted(*arguments: Any) -> pixels.Decoded:
        seen.append(1)
        begun.release()
        go_on.wait()
        return real(*arguments)

    monkeypatch.setattr(pixels, "decode", counted)

    async def give_up() -> None:
        upload = Upload("a", photographs[0].read_bytes())
        first = asyncio.create_task(engine.predict("two", [upload] * lanes))
        for _ in range(lanes):
            await asyncio.to_thread(begun.acquire)
        rest = asyncio.create_task(engine.predict("two", [upload] * 10))
        await asyncio.sleep(0)
        rest.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert len(await first) == lanes
        assert (await engine.predict("two", [upload]))[0].prediction.label

    asyncio.run(give_up())
    assert len(seen) == lanes + 1


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


def test_the_picture_of_a_client_that_went_away_is_given_up(
    run: ta.Run, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = []

    async def endless(_self: Engine, _run: str, uploads: list[Upload]) -> list[Answer]:
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
    assert not service._ledger.pictures


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
