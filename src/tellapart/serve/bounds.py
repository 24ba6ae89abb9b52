"""What the server takes on: the bounds of a request, what is in the house now, and the answer where that is too much.

Read by: bodies, engine, guard, app.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

from tellapart.errors import ConfigError, TellapartError
from tellapart.parallel import cores

HEADER_BYTES = 32_768
"""More than this of request line and headers is refused, as most servers do."""
CONNECTIONS = 512
"""More open connections than this are answered 503; below the usual limit of open files."""
PATIENCE = 10.0
"""Seconds that a connection may take to send the headers of a request."""


@dataclass(frozen=True)
class Bounds:
    """body: bytes of a request. pixels: of a picture, seen in its header. files: pictures of a request. queue: pictures
    that wait or are worked on, of all clients. seconds: for a request, from its headers to its answer. threads:
    processor cores that work at a time.

    Raises ConfigError where one is not positive, or where a full request would not fit into the queue.
    """

    body: int = 32_000_000
    pixels: int = 50_000_000
    files: int = 32
    queue: int = 128
    seconds: float = 30.0
    threads: int = field(default_factory=cores)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"The server's bound `{name}` is more than 0; given {value}.")
        if self.files > self.queue:
            raise ConfigError(
                f"A request may hold {self.files} pictures and only {self.queue} may wait. "
                "Raise --queue or lower --max-files."
            )

    @property
    def memory(self) -> int:
        """Bytes of bodies that are in memory at one time, of all clients: eight of the largest."""
        return 8 * self.body


class RequestError(TellapartError):
    """A request that is not answered with predictions. status: of HTTP. retry_after: seconds, where it may be sent
    again as it is."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class Ledger:
    """Pictures and bytes that are in the house. Used from the event loop's thread alone."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._seconds_each = 0.05
        self.pictures = 0
        self.bytes = 0

    @contextmanager
    def hold(self, pictures: int) -> Iterator[None]:
        """Keep so many places while the block runs. Raises RequestError 503 where the queue has not as many left."""
        if self.pictures + pictures > self._bounds.queue:
            raise self._busy(f"{self.pictures} pictures wait already, of {self._bounds.queue} that may")
        self.pictures += pictures
        try:
            yield
        finally:
            self.pictures -= pictures

    def check(self) -> None:
        """Raises RequestError 503 where no picture more could be taken, before its body is read."""
        with self.hold(1):
            pass

    @contextmanager
    def body(self) -> Iterator[BodyCount]:
        """Counts the bytes of one body for as long as the block runs."""
        count = BodyCount(self)
        try:
            yield count
        finally:
            self.bytes -= count.bytes

    def add(self, count: int) -> None:
        if self.bytes + count > self._bounds.memory:
            raise self._busy(f"{self.bytes:,} bytes of pictures are being received already")
        self.bytes += count

    def served(self, pictures: int, seconds: float) -> None:
        """Tell how long a batch took, for Retry-After: a moving mean over the last dozens of pictures."""
        self._seconds_each += 0.1 * (seconds / pictures - self._seconds_each)

    def _busy(self, why: str) -> RequestError:
        wait = max(1, ceil(self.pictures * self._seconds_each))
        return RequestError(503, f"The server is busy: {why}. Send it again in {wait} s.", wait)


class BodyCount:
    """Bytes of one request's body, counted in the ledger of all."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.bytes = 0

    def add(self, count: int) -> None:
        """Raises RequestError 503 where all bodies together would be too many."""
        self._ledger.add(count)
        self.bytes += count
