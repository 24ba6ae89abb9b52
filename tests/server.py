"""A local web server that behaves and misbehaves as configured: ranges, broken connections, redirects, refusals."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Files:
    """What is served, and which errors it makes. asked: (path, Range header) of every request so far."""

    content: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    refusals: list[int] = field(default_factory=list)  # status codes of the next answers
    ranges: bool = True
    announces_length: bool = True
    content_type: str = "application/octet-stream"
    etag: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(files: Files) -> Iterator[Files]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            files.asked.append((self.path, asked))
            if files.refusals:
                self.send_error(files.refusals.pop(0))
            elif self.path in files.redirects:
                self.send_response(302)
                self.send_header("Location", files.redirects[self.path])
                self.end_headers()
            elif self.path not in files.content:
                self.send_error(404)
            else:
                self.answer(files.content[self.path], asked)

        def answer(self, content: bytes, asked: str) -> None:
            tag = f'"{hashlib.md5(content).hexdigest()}"' if files.etag else ""
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and files.ranges else 0
            if start and self.headers.get("If-Range", tag) != tag:
                start = 0
            if start >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if files.announces_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Type", files.content_type)
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()
            rest = content[start:]
            self.wfile.write(rest[: files.breaks.pop(0)] if files.breaks else rest)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
