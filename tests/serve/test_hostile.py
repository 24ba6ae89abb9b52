"""Clients that try to stop the server or to fill its memory, before it knows who they are or with their images."""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import uvicorn

import tellapart as ta
from tellapart.serve import protocol
from tellapart.serve.http_server import listen
from tellapart.serve.limits import PATIENCE
from tests.data.hostile import large_png, slow_jp2

if TYPE_CHECKING:
    from tests.serve.conftest import Server

JPEG = {"content-type": "image/jpeg"}
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
LARGE = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
GROWTH = 150e6  # bytes that the server may take more while it is attacked


def resident(server: Server) -> int:
    """Bytes of the server and its processes."""
    own = psutil.Process(server.process.pid)
    total = 0
    for each in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


@contextmanager
def bounded(server: Server, growth: float) -> Iterator[None]:
    """Fails where the server takes more memory at any time meanwhile."""
    before, most, over = resident(server), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, resident(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert most - before < growth, f"{(most - before) / 1e6:.0f} MB"


def honest(server: Server, photograph: Path, seconds: float = 5) -> None:
    """A client that behaves is answered, and soon."""
    began = time.monotonic()
    with server.client() as client:
        assert client.post("/v1/predict", content=photograph.read_bytes(), headers=JPEG).status_code == 200
    assert time.monotonic() - began < seconds


def push(line: socket.socket, data: bytes, most: int) -> bool:
    """Send the data again and again, reading nothing; whether the server ended the connection before so many bytes."""
    line.settimeout(0.5)
    sent = 0
    with suppress(TimeoutError):
        try:
            while sent < most:
                sent += line.send(data)
        except OSError:
            return True
    return False


def test_requests_that_do_not_wait_for_their_answers_end_the_connection(
    server: Server, photographs: list[Path]
) -> None:
    with bounded(server, GROWTH), ThreadPoolExecutor(8) as pool:

        def flood(_: int) -> bool:
            with server.raw() as line:
                return push(line, HEALTH * 2000, 10_000_000)

        assert all(pool.map(flood, range(4)))
        honest(server, photographs[0])


def test_the_first_of_overlapping_requests_is_answered(server: Server) -> None:
    with server.raw() as line:
        line.sendall(HEALTH * 3)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        assert answer.status == 200
        assert answer.read() == b'{"status":"alive"}'
        assert answer.getheader("connection") == "close"
        assert line.recv(100) == b""


def test_connections_that_read_nothing_are_ended_and_take_no_memory(server: Server, photographs: list[Path]) -> None:
    with ExitStack() as stack, bounded(server, GROWTH):
        for _ in range(50):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            line.connect(server.address)
            line.sendall(LARGE)
        honest(server, photographs[0])
        own = psutil.Process(server.process.pid)
        deadline = time.monotonic() + PATIENCE + 5
        while len([each for each in own.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED]) > 10:
            assert time.monotonic() < deadline, "connections stay that take nothing"
            time.sleep(0.2)


@pytest.fixture
def answers_much(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server whose answer no socket's own buffer takes, with less patience."""
    monkeypatch.setattr(protocol, "PATIENCE", 0.5)

    async def app(scope: dict[str, object], _receive: object, send: Callable[[dict[str, object]], Any]) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(30_000_000)})

    with listen("127.0.0.1", 0) as place:
        config = uvicorn.Config(app, http=protocol.bounded_protocol(10), lifespan="off", log_config=None, ws="none")
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [place]})
        thread.start()
        yield place
        running.should_exit = running.force_exit = True
        thread.join()


def test_an_answer_that_is_not_taken_is_given_up_and_one_that_is_taken_comes_whole(
    answers_much: socket.socket,
) -> None:
    address = answers_much.getsockname()
    with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}") as client:
        assert len(client.get("/").content) == 30_000_000
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.connect(address)
        line.sendall(HEALTH)
        time.sleep(1.5)
        taken = 0
        with suppress(ConnectionResetError):
            while got := line.recv(1 << 20):
                taken += len(got)
        assert taken < 30_000_000


def test_a_client_has_so_many_connections_and_others_are_answered_meanwhile(
    serve: Callable[..., Server], run: ta.Run, photographs: list[Path]
) -> None:
    found = serve(run.path, "--per-client", "5")
    with ExitStack() as stack:
        lines = [stack.enter_context(found.raw()) for _ in range(8)]
        time.sleep(0.2)
        refused = [line for line in lines if select.select([line], [], [], 0)[0]]
        assert len(refused) == 3
        assert all(line.recv(100).startswith(b"HTTP/1.1 503") for line in refused)
        other = stack.enter_context(socket.create_connection(found.address, source_address=("127.0.0.2", 0)))
        other.sendall(HEALTH)
        assert other.recv(100).startswith(b"HTTP/1.1 200")
    time.sleep(0.2)
    honest(found, photographs[0])


def test_a_head_that_comes_byte_by_byte_ends_the_connection_between_requests_too(server: Server) -> None:
    with server.raw() as line:
        line.sendall(HEALTH)
        assert line.recv(1000).startswith(b"HTTP/1.1 200")
        line.sendall(HEALTH.removesuffix(b"\r\n") + b"x: ")
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < PATIENCE + 5:
                line.sendall(b"x")
                if select.select([line], [], [], 0.5)[0] and not line.recv(1000):
                    break
        assert PATIENCE - 1 < time.monotonic() - began < PATIENCE + 3


def ask(server: Server, content: bytes, query: str = "") -> tuple[int, str]:
    with server.client() as client:
        answer = client.post(f"/v1/predict{query}", content=content, headers=JPEG)
        rows = answer.json().get("predictions", [{}])
        return answer.status_code, rows[0].get("error", "")


def test_images_that_take_too_long_are_rows_and_do_not_stop_honest_clients(
    serve: Callable[..., Server], run: ta.Run, photographs: list[Path]
) -> None:
    found = serve(run.path, "--image-timeout", "0.4")
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, found, slow_jp2()) for _ in range(12)]
        found.wait_for_images(12)
        while not all(one.done() for one in asked):
            honest(found, photographs[0])
            with found.client() as client:
                assert client.get("/readyz").status_code == 200
    for status, error in (one.result() for one in asked):
        assert status == 422
        assert error == "too slow: decoding it takes over 0.4 s"


def test_images_that_take_too_much_memory_are_rows_and_memory_stays_bounded(
    serve: Callable[..., Server], run: ta.Run, photographs: list[Path]
) -> None:
    found = serve(run.path)
    with bounded(found, 2.5e9), ThreadPoolExecutor(4) as pool:  # two lanes of 1 GB
        asked = [pool.submit(ask, found, large_png()) for _ in range(4)]
        honest(found, photographs[0])
        assert {one.result()[0] for one in asked} <= {200, 422}


def test_a_server_whose_processes_are_killed_goes_on(
    serve: Callable[..., Server], run: ta.Run, photographs: list[Path]
) -> None:
    found = serve(run.path)
    for _ in range(3):
        for each in psutil.Process(found.process.pid).children():
            each.kill()
        honest(found, photographs[0])
    assert found.stop() == 0


STUCK = """
import time
from tellapart.explain.heat import HeatMaker
from tellapart.serve import limits
limits.STALLED = 1.0
HeatMaker.heat = lambda *_: time.sleep(600)
from tellapart.cli.main import run
run()
"""


@pytest.fixture
def stuck(run: ta.Run) -> Iterator[Server]:
    """A server whose heat maps never come, with two seconds for a request."""
    from tests.serve.conftest import Server

    command = [sys.executable, "-c", STUCK, "serve", str(run.path), "--port", "0", "--timeout", "2", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield Server(process, process.stderr.readline().split(" on ")[1].split()[0])
        process.kill()


def test_a_server_that_answers_no_image_says_that_it_is_not_ready_and_ends_by_force(
    stuck: Server, photographs: list[Path]
) -> None:
    with stuck.client() as client, ThreadPoolExecutor(2) as pool:
        assert client.get("/readyz").json() == {"status": "ready"}
        asked = [pool.submit(ask, stuck, photographs[0].read_bytes(), "?explain=1") for _ in range(2)]
        time.sleep(1.5)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "stalled"})
        assert client.get("/healthz").status_code == 200
        children = psutil.Process(stuck.process.pid).children()
        began = time.monotonic()
        os.kill(stuck.process.pid, signal.SIGTERM)
        assert {one.result()[0] for one in asked} == {408}
    assert stuck.process.wait(10) == 1
    assert time.monotonic() - began < 2 + 2
    psutil.wait_procs(children, timeout=2)
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
