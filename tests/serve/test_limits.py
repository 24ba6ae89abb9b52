"""What the server refuses, with which status and words, and what it holds to under load."""

from __future__ import annotations

import io
import json
import select
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.errors import ConfigError
from tellapart.serve.http_server import listen
from tellapart.serve.limits import HEADER_BYTES, Bounds, Ledger, RequestError

if TYPE_CHECKING:
    from tests.serve.conftest import Server

JPEG = {"content-type": "image/jpeg"}
LIMIT = 1_000_000


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]


def closes(line: socket.socket, data: bytes) -> bool:
    """Whether the server ends the connection before it has taken 20 MB of this."""
    try:
        for _ in range(20_000_000 // len(data)):
            line.sendall(data)
            if select.select([line], [], [], 0)[0]:
                return line.recv(12) == b"HTTP/1.1 431"
    except OSError:
        return True
    return False


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    with server.raw() as line:
        line.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\n"
            b"content-length: 1000001\r\n\r\n"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_grows_too_large_is_refused_as_it_comes(client: httpx.Client) -> None:
    def chunks() -> object:
        for _ in range(20):
            yield bytes(100_000)

    refused(client.post("/v1/predict", content=chunks(), headers=JPEG), 413, "1,000,000 bytes")


def test_a_body_of_the_largest_size_is_taken(client: httpx.Client, photographs: list[Path]) -> None:
    data = photographs[0].read_bytes()
    answer = client.post("/v1/predict", content=data + bytes(LIMIT - len(data)), headers=JPEG)
    assert answer.status_code == 200


def test_more_images_than_a_request_may_hold_are_refused(client: httpx.Client, photographs: list[Path]) -> None:
    data = photographs[0].read_bytes()
    four = [("p", (str(n), data)) for n in range(4)]
    assert len(client.post("/v1/predict", files=four).json()["predictions"]) == 4
    refused(client.post("/v1/predict", files=[*four, ("p", ("5", data))]), 413, "at most 4 images")
    body = json.dumps({"images": [{"data": ""}] * 5})
    refused(
        client.post("/v1/predict", content=body, headers={"content-type": "application/json"}),
        413,
        "at most 4 images",
    )
    fields = {f"field{n}": "x" for n in range(5)}
    refused(client.post("/v1/predict", files=four[:1], data=fields), 413, "at most 4")


def test_an_image_of_too_many_pixels_is_not_decoded(client: httpx.Client, encoded: Callable[..., bytes]) -> None:
    for kind in ("PNG", "TIFF", "WEBP"):
        bomb = encoded(Image.new("1", (1001, 1000)), kind)
        answer = client.post("/v1/predict", content=bomb, headers={"content-type": "image/png"})
        assert answer.status_code == 422
        assert answer.json()["predictions"][0]["error"].startswith("too many pixels")


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("text/html", b"<html>", 415, "supported are"),
        ("", b"x", 415, "supported are"),
        ("multipart/form-data", b"--x--", 400, "damaged"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400, "no image"),
        ("multipart/form-data; boundary=x", b"--y\r\n", 400, "damaged"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nabc',
            400,
            "truncated",
        ),
        ("application/json", b"", 400, "JSON"),
        ("application/json", b"[" * 100_000, 400, "JSON"),
        ("application/json", b'{"images": []}', 400, "no image"),
        ("application/json", b'{"images": [{"data": "%%%"}]}', 400, "images.0.data"),
        ("application/json", b'{"images": [{"path": "/etc/passwd"}]}', 400, "images.0"),
        ("application/json", b'{"images": [{"data": "", "url": "http://127.0.0.1/"}]}', 400, "images.0.url"),
        ("application/json", b'{"images": [{"data": "", "name": "' + b"n" * 300 + b'"}]}', 400, "images.0.name"),
        ("application/octet-stream", b"\x80\x04\x95\x10cos\nsystem\n", 422, ""),
    ],
)
def test_what_is_no_request_is_refused_in_words(
    client: httpx.Client, kind: str, body: bytes, status: int, words: str
) -> None:
    answer = client.post("/v1/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert words in answer.text


def test_wrong_paths_methods_and_queries_are_refused_in_words(client: httpx.Client) -> None:
    refused(client.get("/v1/predict"), 405, "Method Not Allowed")
    refused(client.get("/page/../../etc/passwd"), 404, "Not Found")
    refused(client.get("/page/%2e%2e/app.py"), 404, "Not Found")


def test_headers_that_are_too_large_are_refused(client: httpx.Client, server: Server) -> None:
    refused(client.get("/healthz", headers={"x-large": "x" * HEADER_BYTES}), 431, "bytes")
    with server.raw() as line:
        line.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
        assert closes(line, b"x" * 10_000)
    assert client.get("/healthz").status_code == 200


def test_trailers_without_end_are_refused(client: httpx.Client, server: Server) -> None:
    with server.raw() as line:
        line.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        )
        assert closes(line, b"x: " + b"y" * 10_000 + b"\r\n")
    assert client.get("/healthz").status_code == 200


def test_a_request_that_takes_too_long_is_ended(serve: Callable[..., Server], run: ta.Run) -> None:
    found = serve(run.path, "--timeout", "0.5")
    with found.raw() as line:
        line.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\n"
            b"content-length: 1000\r\n\r\nabc"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_full_queue_is_503_with_retry_after_and_every_answer_is_right(
    serve: Callable[..., Server], run: ta.Run, encoded: Callable[..., bytes], tmp_path: Path
) -> None:
    found = serve(run.path, "--queue", "2", "--max-files", "2")
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8)
    image = encoded(noise, "PNG")
    (tmp_path / "noise.png").write_bytes(image)
    (expected,) = run.predict(tmp_path / "noise.png")
    gate = threading.Barrier(16)

    def ask(_number: int) -> httpx.Response:
        with found.client() as client:
            gate.wait()
            return client.post("/v1/predict", content=image, headers={"content-type": "image/png"})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert "Retry in" in answer.json()["error"]
        else:
            assert answer.json()["predictions"][0]["probability"] == pytest.approx(expected.probability, abs=2e-4)
    assert found.figure("tellapart_images_waiting") == 0


def test_a_slow_image_does_not_stall_the_others(
    serve: Callable[..., Server], run: ta.Run, photographs: list[Path]
) -> None:
    found = serve(run.path)
    slow = _slow_png(6000)

    def ask(data: bytes) -> int:
        with found.client() as client:
            return client.post("/v1/predict", content=data, headers={"content-type": "image/png"}).status_code

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, slow) for _ in range(16)]
        found.wait_for_images(16)
        before = found.figure("tellapart_images_total")
        assert ask(photographs[0].read_bytes()) == 200
        passed = found.figure("tellapart_images_total") - before - 1
        assert [one.result() for one in asked] == [200] * 16
    assert passed < 4, "it waited for slow ones that came before"


def _slow_png(side: int) -> bytes:
    """Many pixels in few bytes: 36 million of them decode in some tenths of a second."""
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    assert len(file.getvalue()) < 1_000_000
    return file.getvalue()


def test_no_part_of_an_answer_waits_for_the_one_before_to_be_acknowledged() -> None:
    with listen("127.0.0.1", 0) as place, socket.create_connection(place.getsockname()):
        place.setblocking(True)
        connection, _ = place.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="`queue` must be more than 0"):
        Bounds(queue=0)
    with pytest.raises(ConfigError, match="Raise --queue"):
        Bounds(files=10, queue=5)


def test_the_ledger_gives_back_what_it_held_when_a_request_fails() -> None:
    ledger = Ledger(Bounds(body=10, files=1, queue=2))

    def fail() -> None:
        with ledger.hold(2), ledger.body() as count:
            count.add(80)
            with pytest.raises(RequestError, match="2 of at most"):
                ledger.check()
            with ledger.body() as second, pytest.raises(RequestError, match="80 bytes"):
                second.add(1)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert (ledger.images, ledger.bytes) == (0, 0)
    ledger.check()
