"""The URL of an image -> its bytes, with limits on size, redirects and time. Nothing is stored.

Only http and https, whatever the server redirects to: no other protocol, and no local file, is opened. Files to be kept
are downloaded by `download`.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from tellapart.errors import ImageError

REDIRECTS = 5
PATIENCE = 10.0
"""Longest time without data, in seconds."""
_CHUNK = 1 << 16


def fetch(url: str, max_bytes: int, seconds: float) -> bytes:
    """The bytes at a URL. Raises ImageError: `too many bytes`, `too slow`, `truncated`, `empty`, or `unreadable` with
    the error of the server or the network."""
    with _watched(seconds) as (opener, over):
        try:
            request = urllib.request.Request(_quoted(url), headers={"User-Agent": "tellapart"})
            with opener.open(request, timeout=PATIENCE) as answer:
                content = _received(answer, max_bytes)
        except (ImageError, OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
            if not over.is_set():
                raise _refusal(reason) from None
        # A connection that was shut down may look like the end of an answer, too.
        if over.is_set():
            raise ImageError("too slow", f"it did not come within {seconds:g} s")
    if not content:
        raise ImageError("empty", "the server sent no data")
    return content


def _refusal(reason: Any) -> ImageError:
    if isinstance(reason, ImageError):
        return reason
    if isinstance(reason, HTTPError):
        reason.close()
        return ImageError("unreadable", f"the server answered {reason.code}: {reason.reason}")
    if isinstance(reason, TimeoutError):
        return ImageError("too slow", f"no data came for {PATIENCE:g} s")
    said = (isinstance(reason, OSError) and reason.strerror) or reason
    return ImageError("unreadable", f"it cannot be fetched: {said}")


def _quoted(url: str) -> str:
    """With spaces and non-ASCII characters percent-encoded; existing escapes are kept."""
    parts = urlsplit(url)
    path, query = (quote(part, safe="%/:=&?~#+!$,;'@()*[]") for part in (parts.path, parts.query))
    return parts._replace(path=path, query=query).geturl()


def _received(answer: Any, most: int) -> bytes:
    announced = int(answer.headers.get("Content-Length") or 0)
    if announced > most:
        raise ImageError("too many bytes", f"{announced:,}; at most {most:,} are downloaded")
    content = bytearray()
    # Whatever has arrived, not the full amount: so a server that sends byte by byte is recognised as slow.
    while chunk := answer.read1(_CHUNK):
        content += chunk
        if len(content) > most:
            raise ImageError("too many bytes", f"at most {most:,} are downloaded")
    if len(content) < announced:
        raise ImageError("truncated", f"the connection closed after {len(content):,} of {announced:,} bytes")
    return bytes(content)


@contextmanager
def _watched(seconds: float) -> Iterator[tuple[urllib.request.OpenerDirector, threading.Event]]:
    """An opener of URLs whose connections are shut down after so many seconds; the event is then set."""
    connections: list[socket.socket] = []
    over = threading.Event()

    def end() -> None:
        over.set()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def connect(*arguments: Any, **options: Any) -> socket.socket:
        made = socket.create_connection(*arguments, **options)
        connections.append(made.dup())  # TLS takes over the socket itself
        if over.is_set():
            end()
        return made

    # Only these handlers: the default opener also opens files and ftp.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Web(connect),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield opener, over
    finally:
        timer.cancel()
        for connection in connections:
            connection.close()


class _Web(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Both schemes, with connections made by `connect`."""

    def __init__(self, connect: Any) -> None:
        super().__init__()
        self._connect = connect

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_connection, HTTPConnection, self._connect), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_connection, HTTPSConnection, self._connect), request)


def _connection(kind: type[HTTPConnection], connect: Any, host: str, **options: Any) -> HTTPConnection:
    made = kind(host, **options)
    made._create_connection = connect  # type: ignore[attr-defined]
    return made


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS
