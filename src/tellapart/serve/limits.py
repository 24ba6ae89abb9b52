"""Limits of the server: of a request, of everything in progress, and the response when exceeded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

from tellapart.errors import ConfigError, TellapartError
from tellapart.parallel import cores

HEADER_BYTES = 32_768
"""More than this of request line and headers is refused, as most servers do."""
CONNECTIONS = 512
"""More open connections than this are refused; below the usual limit of open files."""
PATIENCE = 10.0
"""Seconds that a connection may take to send the headers of a request, or to take an answer."""
STALLED = 15.0
"""Seconds without an answer to any image, while some wait, after which the server is not ready."""


@dataclass(frozen=True)
class Bounds:
    """body: bytes of a request. pixels: of an image, seen in its header. files: images of a request. queue: images
    that wait or are in progress, of all clients. seconds: for a request, from its headers to its response. threads:
    worker threads. per_client: connections of one address. image_seconds, image_memory: for decoding one image,
    in seconds and bytes.

    Raises ConfigError if one is not positive, or if a full request would not fit into the queue.
    """

    body: int = 32_000_000
    pixels: int = 50_000_000
    files: int = 32
    queue: int = 128
    seconds: float = 30.0
    threads: int = field(default_factory=cores)
    per_client: int = CONNECTIONS // 4
    image_seconds: float = 10.0
    image_memory: int = 1_000_000_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"The server's limit `{name}` must be more than 0; given {value}.")
        if self.files > self.queue:
            raise ConfigError(
                f"A request may hold {self.files} images but only {self.queue} may wait. "
                "Raise --queue or lower --max-files."
            )

    @property
    def memory(self) -> int:
        """The most bytes of bodies in memory at a time, of all clients: eight of the largest."""
        return 8 * self.body

    @property
    def large(self) -> int:
        """The most images in the queue of the slow lane; the rest of the queue is for the others."""
        return min(self.queue, max(self.files, self.queue // 2))


class RequestError(TellapartError):
    """A request that gets no predictions. status: of HTTP. retry_after: seconds, if the same request may be sent
    again."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class Ledger:
    """Counts the images and bytes in progress. Used only in the event loop's thread."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._seconds_each = 0.05
        self._moved = 0.0
        self.images = 0
        self.bytes = 0

    @contextmanager
    def hold(self, images: int) -> Iterator[None]:
        """Reserve `count` places while the block runs. Raises RequestError 503 if the queue has fewer left."""
        if self.images + images > self._bounds.queue:
            raise self.busy(f"{self.images} of at most {self._bounds.queue} images are waiting already")
        if not self.images:
            self._moved = time.monotonic()
        self.images += images
        try:
            yield
        finally:
            self.images -= images

    def check(self) -> None:
        """Raises RequestError 503 if the queue is full, before a body is read."""
        with self.hold(1):
            pass

    @contextmanager
    def body(self) -> Iterator[BodyCount]:
        """Counts the bytes of one body while the block runs."""
        count = BodyCount(self)
        try:
            yield count
        finally:
            self.bytes -= count.bytes

    def add(self, count: int) -> None:
        if self.bytes + count > self._bounds.memory:
            raise self.busy(f"{self.bytes:,} bytes of images are being received already")
        self.bytes += count

    @property
    def stalled(self) -> bool:
        """Whether images wait and none has been answered for a long time."""
        return self.images > 0 and time.monotonic() - self._moved > STALLED

    def answered(self) -> None:
        """Record that an image was answered."""
        self._moved = time.monotonic()

    def served(self, images: int, seconds: float) -> None:
        """Record how long a batch took, for Retry-After: a moving mean over some dozens of images."""
        self._seconds_each += 0.1 * (seconds / images - self._seconds_each)

    def busy(self, why: str) -> RequestError:
        """The error for a full server."""
        wait = max(1, ceil(self.images * self._seconds_each))
        return RequestError(503, f"The server is busy: {why}. Retry in {wait} s.", wait)


class BodyCount:
    """Bytes of one request's body, counted in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.bytes = 0

    def add(self, count: int) -> None:
        """Raises RequestError 503 if all bodies together would be too large."""
        self._ledger.add(count)
        self.bytes += count
