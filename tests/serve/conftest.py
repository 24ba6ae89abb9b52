"""Real runs, real servers in processes of their own, and clients for them."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tests.command import PATIENCE, STRICT
from tests.serve.page import visit

__all__ = ["visit"]

httpx = pytest.importorskip("httpx")

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"


@dataclass
class Server:
    """A `tellapart serve` that answers."""

    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, **options)

    def raw(self) -> socket.socket:
        """A bare connection, for what no client library would send."""
        return socket.create_connection(self.address, timeout=PATIENCE)

    def figure(self, name: str) -> float:
        """A figure of /metrics, summed over its labels."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(found)

    def wait_for_images(self, count: int) -> None:
        """Wait until so many images have come since the start, predicted or not."""
        self._wait(lambda: self.figure("tellapart_images_waiting") + self.figure("tellapart_images_total") >= count)

    def wait_until_idle(self) -> None:
        """Wait until no image is queued or processed."""
        self._wait(lambda: self.figure("tellapart_images_waiting") == 0)

    def _wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, "the server never came so far"
            time.sleep(0.01)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def start(*arguments: str | Path, environment: dict[str, str] | None = None) -> Server:
    """Start a server on a free port and wait until it prints its address."""
    process = subprocess.Popen(
        [*STRICT, "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stderr is not None
    said = ""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([process.stderr], [], [], 0.5)[0]:
            line = process.stderr.readline()
            said += line
            if line.startswith("Serving "):
                return Server(process, line.split(" on ")[1].split()[0])
    process.kill()
    raise AssertionError(f"the server did not start: {said}{process.stderr.read()}")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that are stopped after the test."""
    servers: list[Server] = []

    def begin(*arguments: str | Path, **options: dict[str, str]) -> Server:
        servers.append(start(*arguments, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.communicate()


def train(data: Path, out: Path, *settings: str) -> ta.Run:
    pytest.importorskip("keras")
    chosen = ["model.name=cnn", "model.filters=[8]", "model.dense=[8]", "image.height=32", "image.width=32"]
    return ta.train(data, out=out, config=ta.make_config(settings=[*chosen, "train.epochs=6", *settings]))


@pytest.fixture(scope="session")
def run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """Tells `disc` from `stripes`."""
    return train(two_shapes, tmp_path_factory.mktemp("runs") / "two")


@pytest.fixture(scope="session")
def other_run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """Tells `disc`, `square` and `stripes` apart, at another size, cut to it."""
    out = tmp_path_factory.mktemp("runs") / "three"
    return train(shapes, out, "image.height=24", "image.width=24", "image.fit=crop")


@pytest.fixture(scope="session")
def server(run: ta.Run, other_run: ta.Run) -> Iterator[Server]:
    """Two runs, `two` and `three`, with limits that a test can reach."""
    bounds = ["--max-body", "1MB", "--max-pixels", "1000000", "--max-files", "4", "--timeout", "60"]
    found = start(run.path, other_run.path, *bounds)
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Real photographs from the package."""
    return sorted(BUILTIN.glob("*/*_1?.jpg"))


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """Makes an image file of pixels."""
    return encode
