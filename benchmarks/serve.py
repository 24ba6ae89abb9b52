"""Serving under load, generator and server on the same cores: ours, the bare engine, FastAPI with model.predict.

The load is made by wrk, which posts every image in turn as a file of a form. Ours and the plain server are processes
of their own; the bare engine is the Predictor over the same bytes in memory.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.benchmark import Figures, Setting
from benchmarks.predict import run_of
from benchmarks.start import console_script

CLIENTS = 8
MANY_CLIENTS = 32
"""So many keep both cores at work; with eight, a core waits for requests between two batches."""
SECONDS = 15
SCRIPT = Path(__file__).with_suffix(".lua")
PATIENCE = 120

Server = Callable[[Setting], AbstractContextManager[str]]


def throughput(setting: Setting) -> Figures:
    with tellapart_server(setting) as url:
        return _most(setting, url, MANY_CLIENTS)


def plain_throughput(setting: Setting) -> Figures:
    with plain_server(setting) as url:
        return _most(setting, url, MANY_CLIENTS)


def bare_engine(setting: Setting) -> Figures:
    from tellapart.inference.predictor import Predictor

    images = [(path.name, path.read_bytes()) for path in setting.images()]
    predictor = Predictor(run_of(setting) / "model.onnx")
    list(predictor.predict_named(images[:10], batch_size=4))
    started = time.perf_counter()
    # As the server does; on this network quicker than batches of 32.
    count = sum(not found.error for found in predictor.predict_named(images, batch_size=4))
    return {"value": count / (time.perf_counter() - started)}


def waiting(setting: Setting) -> Figures:
    return _waiting(setting, tellapart_server)


def plain_waiting(setting: Setting) -> Figures:
    return _waiting(setting, plain_server)


def _most(setting: Setting, url: str, clients: int) -> Figures:
    _load(setting, url, clients, seconds=2)
    found = _load(setting, url, clients)
    return {"value": found["requests"] / found["seconds"], "p99 ms": 1000 * found["p99"]}


def _waiting(setting: Setting, server: Server) -> Figures:
    """p99 of CLIENTS at half the most that they get, in times of an image that is sent alone."""
    with server(setting) as url:
        most = _most(setting, url, CLIENTS)["value"]
        alone = _load(setting, url, 1)["p50"]
        pause = max(0.001, CLIENTS / (most / 2) - alone)
        found = _load(setting, url, CLIENTS, pause=pause)
    return {
        "value": found["p99"] / alone,
        "p99 ms": 1000 * found["p99"],
        "alone ms": 1000 * alone,
        "load %": 100 * found["requests"] / found["seconds"] / most,
    }


def _load(
    setting: Setting, url: str, clients: int, *, seconds: int | None = None, pause: float = 0.0
) -> dict[str, float]:
    """What wrk says: requests, seconds, p50 and p99 in seconds. Raises RuntimeError where an answer was not good."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("This benchmark needs wrk: apt-get install wrk.")
    listing = setting.work / "images.txt"
    listing.write_text("\n".join(map(str, setting.images())) + "\n")
    lasting = 1 if setting.smoke else seconds or SECONDS
    while True:
        command = [wrk, "-t1", f"-c{clients}", f"-d{lasting}s", "--timeout", "60s", "-s", str(SCRIPT), url, "--"]
        arguments = [str(listing), str(1000 * pause), str(clients)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if found["failed"] or found["refused"]:
            raise RuntimeError(f"The server did not answer all requests: {found}")
        if found["requests"]:
            return found
        lasting *= 3  # nothing was answered in so short a time


@contextmanager
def tellapart_server(setting: Setting) -> Iterator[str]:
    """The address of `tellapart serve`."""
    port = _free_port()
    with _server([*console_script(), "serve", str(run_of(setting)), "--port", str(port)], port) as url:
        yield url


@contextmanager
def plain_server(setting: Setting) -> Iterator[str]:
    """The address of the plain server."""
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.plain_server", str(run_of(setting)), str(port)]
    with _server(command, port) as url:
        yield url


@contextmanager
def _server(command: list[str], port: int) -> Iterator[str]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            if _answers(port):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{' '.join(command)} did not start.")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])
