"""Clients and servers that die in the middle, floods of nonsense, and what the server imports and leaves behind."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tests.command import COMMAND

if TYPE_CHECKING:
    from tests.serve.conftest import Server

JPEG = {"content-type": "image/jpeg"}
GROWTH = 50e6  # bytes; what is measured is about a third


def test_clients_that_go_away_leave_nothing_behind(server: Server, photographs: list[Path], run: ta.Run) -> None:
    data = photographs[0].read_bytes()
    head = b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n"
    for cut in (0, 10, len(data) // 2, len(data)):
        for _ in range(10):
            with server.raw() as line:
                line.sendall(head % len(data) + data[:cut])
                # Reset, not closed in order.
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.wait_until_idle()
    (expected,) = run.predict(photographs[0])
    with server.client() as client:
        found = client.post("/v1/predict", content=data, headers=JPEG).json()["predictions"][0]
    assert found["probability"] == pytest.approx(expected.probability, abs=2e-4)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_that_are_begun_finish(
    serve: Callable[..., Server], run: ta.Run, encoded: Callable[..., bytes], signal_number: int
) -> None:
    found = serve(run.path)
    slow = encoded(Image.new("RGB", (4500, 4500)), "PNG")
    with ThreadPoolExecutor(4) as pool, found.client() as client:
        asked = [
            pool.submit(client.post, "/v1/predict", content=slow, headers={"content-type": "image/png"})
            for _ in range(4)
        ]
        found.wait_for_images(4)
        found.process.send_signal(signal_number)
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert found.process.wait(60) == 0
    assert found.process.stderr is not None
    assert "Traceback" not in found.process.stderr.read()
    with pytest.raises(ConnectionRefusedError):
        found.raw()


def test_a_server_that_is_killed_in_mid_request_starts_again_on_its_port(
    serve: Callable[..., Server], run: ta.Run, encoded: Callable[..., bytes], photographs: list[Path]
) -> None:
    found = serve(run.path)
    port = found.address[1]
    slow = encoded(Image.new("RGB", (6000, 6000)), "PNG")

    def ask() -> str:
        with found.client() as client:
            try:
                return str(client.post("/v1/predict", content=slow, headers={"content-type": "image/png"}).status_code)
            except httpx.TransportError:
                return "gone"

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        found.wait_for_images(4)
        os.kill(found.process.pid, signal.SIGKILL)
        assert "gone" in {one.result() for one in asked}
    again = serve(run.path, "--port", str(port))
    assert again.address[1] == port
    with again.client() as client:
        answer = client.post("/v1/predict", content=photographs[0].read_bytes(), headers=JPEG)
    assert answer.status_code == 200


def test_a_port_that_is_taken_is_an_error_in_words(server: Server, run: ta.Run) -> None:
    command = [*COMMAND, "serve", str(run.path)]
    done = subprocess.run([*command, "--port", str(server.address[1])], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Give another --host or --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_serving_loads_no_training_library() -> None:
    script = (
        "import sys, tellapart.serve.server, onnxruntime, uvicorn.loops.auto\n"
        "print(' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"tensorflow", "keras", "torch", "jax", "sklearn", "scipy", "pandas", "matplotlib", "onnx"}
    assert not heavy & set(done.stdout.split())


def test_the_api_describes_no_way_to_name_a_path_or_an_address(client: httpx.Client) -> None:
    text = json.dumps(client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"])
    for word in ('"path"', '"url"', '"file"', '"uri"'):
        assert word not in text


@pytest.mark.slow
@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_malformed_requests_leave_the_server_right_and_its_memory_level(
    count: int, serve: Callable[..., Server], run: ta.Run, photographs: list[Path], encoded: Callable[..., bytes]
) -> None:
    server = serve(run.path, "--max-pixels", "4000000", "--max-body", "2MB")
    small = Image.open(photographs[0]).resize((96, 64))
    seeds = [photographs[0].read_bytes(), *(encoded(small, kind) for kind in ("PNG", "GIF", "WEBP", "TIFF", "BMP"))]
    seeds.append(encoded(small, "JPEG2000"))
    (expected,) = run.predict(photographs[0])

    def flood(worker: int, count: int) -> None:
        stream = nonsense(np.random.default_rng([7, worker]), seeds)
        for number in range(count):
            send(server, *next(stream))
            if number % 100 == 0:
                with server.client() as client:
                    found = client.post("/v1/predict", content=seeds[0], headers=JPEG).json()["predictions"][0]
                assert found["probability"] == pytest.approx(expected.probability, abs=2e-4)

    def flood_all(count: int, first: int) -> None:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(flood, first + worker, count // 8) for worker in range(8)]:
                done.result()

    flood_all(count // 5, 0)
    before = server.figure("process_resident_memory_bytes")
    flood_all(count - count // 5, 8)
    assert server.figure("process_resident_memory_bytes") - before < GROWTH
    assert server.figure("tellapart_images_waiting") == 0
    assert server.process.poll() is None
    assert threading.active_count() < 50
    assert server.stop() == 0
    assert server.process.stderr is not None
    said = server.process.stderr.read()
    assert "Traceback" not in said, said[:3000]


def send(server: Server, request: bytes, whole: bool) -> None:
    """Send the bytes and take what comes. An answer is HTTP, and never the server's own failure.

    whole: as long as it says, so that an answer must come; else the end is told by closing this side.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), server.raw() as line:
        line.sendall(request)
        if not whole:
            try:
                line.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:  # it has answered what came and is gone already
                    raise
        answer = http.client.HTTPResponse(line)
        try:
            answer.begin()
        except (http.client.BadStatusLine, http.client.IncompleteRead):
            assert not whole, request[:500]
            return
        assert answer.status != 500, request[:500]
        answer.read()


def nonsense(rng: np.random.Generator, seeds: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Requests that are wrong in one way or another, without end, and whether each is whole."""
    makers = [cut, flipped, bomb, form, wrong_json, wrong_head, noise, wrong_length]
    while True:
        seed = seeds[rng.integers(len(seeds))]
        maker = makers[rng.integers(len(makers))]
        yield maker(rng, seed), maker in (cut, flipped, bomb, form, wrong_json)


def post(body: bytes, kind: bytes = b"image/png", head: bytes = b"", path: bytes = b"/v1/predict") -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
        % (path, kind, head, len(body))
    ) + body


def cut(rng: np.random.Generator, seed: bytes) -> bytes:
    return post(seed[: rng.integers(len(seed))])


def flipped(rng: np.random.Generator, seed: bytes) -> bytes:
    body = bytearray(seed)
    for place in rng.integers(0, len(body), rng.integers(1, 40)):
        body[place] = rng.integers(256)
    return post(bytes(body))


def bomb(rng: np.random.Generator, seed: bytes) -> bytes:  # noqa: ARG001
    """A PNG that claims up to 2^31 pixels a side, or unpacks to far more than it says."""
    side = int(rng.choice([1, 100, 1999, 20_000, 2**31 - 1]))
    header = struct.pack(">IIBBBBB", side, side, 8, int(rng.choice([0, 2, 3, 6])), 0, 0, 0)
    text = b"key\0\0" + zlib.compress(bytes(int(rng.integers(1, 2_000_000))))
    chunks = [(b"IHDR", header), (b"zTXt", text), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return post(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def form(rng: np.random.Generator, seed: bytes) -> bytes:
    boundary = bytes(rng.choice([b"x", b"-" * 70, b"\xff", b"b" * 300, b""]))
    part = b'--%b\r\nContent-Disposition: form-data; name="a"; filename="%b"\r\n\r\n' % (
        boundary,
        bytes(rng.choice([b"a", b"../x", b"\0", b"n" * 5000, b"\xff\xfe"])),
    )
    body = (part + seed[: rng.integers(len(seed))] + b"\r\n") * int(rng.integers(1, 50)) + b"--%b--\r\n" % boundary
    body = body[: rng.integers(len(body))] if rng.random() < 0.5 else body
    return post(body[:1_900_000], b"multipart/form-data; boundary=" + boundary)


def wrong_json(rng: np.random.Generator, seed: bytes) -> bytes:
    body = rng.choice(
        [
            "[" * 50_000,
            '{"images": ' * 1000,
            '{"images": [{"data": "' + "A" * int(rng.integers(1, 1000)) + '"}]}',
            '{"images": {"data": 1}}',
            '{"images": [' + '{"data": ""},' * 500 + '{"data": ""}]}',
            '{"images": [{"data": "\\ud800"}]}',
            "1" * 10_000,
            "null",
        ]
    )
    return post(str(body).encode("utf-8") + seed[: rng.integers(0, 20)], b"application/json")


def wrong_head(rng: np.random.Generator, seed: bytes) -> bytes:
    size = int(rng.integers(1, 100_000))
    heads = [
        b"x: " + b"y" * size + b"\r\n",
        b"".join(b"h%d: v\r\n" % n for n in range(size // 20)),
        b"transfer-encoding: chunked\r\n",
        b"content-encoding: gzip\r\n",
        b"expect: 100-continue\r\n",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"content-length: 5\r\n",
        b"\xff\xfe: \x80\r\n",
        b"range: bytes=0-5\r\n",
    ]
    kind = bytes(
        rng.choice([b"image/png", b"image/" + b"x" * 1000, b"", b"text/html", b"\xff", b"multipart/form-data"])
    )
    path = bytes(
        rng.choice([b"/v1/predict", b"/v1/predict?run=%ff%00", b"/v1/predict?" + b"a=b&" * 500, b"/%00", b"/\xff"])
    )
    return post(seed[:100], kind, heads[rng.integers(len(heads))], path)


def noise(rng: np.random.Generator, seed: bytes) -> bytes:  # noqa: ARG001
    return rng.bytes(int(rng.integers(1, 5000))) + b"\r\n\r\n"


def wrong_length(rng: np.random.Generator, seed: bytes) -> bytes:
    length = bytes(rng.choice([b"-1", b"99999999999999999999", b"1e3", b"", b"0x10", b"10, 20", b"3000000", b"100"]))
    return (
        b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: image/png\r\n"
        b"content-length: %b\r\n\r\n" % length
    ) + seed[:50]
