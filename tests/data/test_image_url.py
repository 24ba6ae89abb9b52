"""An address is fetched within bounds: of bytes, of time, of redirects, and to nothing but web servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tellapart.data import image_url
from tellapart.data.address import Address
from tellapart.errors import ImageError
from tests.server import Files, serving


def refusal(url: str, **bounds: float) -> str:
    with pytest.raises(ImageError) as refused:
        Address(url).read(**bounds)  # type: ignore[arg-type]
    return str(refused.value)


@contextmanager
def dripping(*parts: bytes, pause: float = 0.05) -> Iterator[str]:
    """A server that sends the parts, then a byte at a time without an end."""
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            try:
                for part in parts:
                    connection.sendall(part)
                while not over.wait(pause):
                    connection.sendall(b"x")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.jpg"
        over.set()
        thread.join(10)


@pytest.mark.parametrize("announces", [True, False])
def test_more_bytes_than_the_bound_are_not_taken(announces: bool) -> None:
    with serving(Files({"/a": bytes(2000)}, announces_length=announces)) as files:
        assert Address(f"{files.address}/a").read(max_bytes=2000) == bytes(2000)
        assert refusal(f"{files.address}/a", max_bytes=1999).startswith("too many bytes: ")


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="before the status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", id="in the headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n", id="in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="in a body without an end"),
    ],
)
def test_a_server_that_drips_is_left_when_the_time_is_over(begun: bytes) -> None:
    with dripping(begun) as url:
        started = time.monotonic()
        assert refusal(url, seconds=0.4) == "too slow: it did not come within 0.4 s"
        assert time.monotonic() - started < 10


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_url, "PATIENCE", 0.2)
    with dripping(pause=60) as url:
        assert refusal(url) == "too slow: no data came for 0.2 s"


def test_redirects_are_followed_to_web_servers_alone_and_not_without_end(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    turns = {"/1": "/2", "/2": "/a", "/round": "/round", "/file": secret.as_uri(), "/ftp": "ftp://127.0.0.1/a"}
    turns |= {f"/far{number}": f"/far{number + 1}" for number in range(9)}
    with serving(Files({"/a": b"bytes", "/far9": b"bytes"}, redirects=turns)) as files:
        assert Address(f"{files.address}/1").read() == b"bytes"
        assert refusal(f"{files.address}/round").startswith("unreadable: the server answered 302")
        assert "is not allowed" in refusal(f"{files.address}/file")
        assert "unknown url type: ftp" in refusal(f"{files.address}/ftp")
        asked = len(files.asked)
        assert "302" in refusal(f"{files.address}/far0")
        assert len(files.asked) - asked == image_url.REDIRECTS + 1


def test_what_the_server_or_the_network_says_is_told() -> None:
    with serving(Files({"/a": bytes(1000), "/empty": b""}, breaks=[300])) as files:
        assert refusal(f"{files.address}/a") == "truncated: the connection closed after 300 of 1,000 bytes"
        assert refusal(f"{files.address}/nowhere").startswith("unreadable: the server answered 404")
        assert refusal(f"{files.address}/empty") == "empty: the server sent no data"
        gone = files.address
    assert refusal(f"{gone}/a").startswith("unreadable: it cannot be fetched: ")
    assert refusal("http://[::1/a.jpg").startswith("unreadable: it cannot be fetched: ")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:image/png;base64,AAAA"])
def test_no_other_protocol_is_opened(url: str) -> None:
    assert "unknown url type" in refusal(url)
