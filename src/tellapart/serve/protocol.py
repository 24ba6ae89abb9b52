"""uvicorn's HTTP/1.1 protocol with additional limits: input, unread output, connections, timeouts."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tellapart.serve.limits import CONNECTIONS, HEADER_BYTES, PATIENCE

# Headers, chunk sizes and trailers, for each byte of the body, besides HEADER_BYTES. A chunk of one byte needs five.
_FRAMING = 8
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def bounded_protocol(per_client: int) -> type[BoundedProtocol]:
    """For one server. per_client: connections of one address at a time."""

    class Protocol(BoundedProtocol):
        most = per_client
        clients: Counter[str] = Counter()  # noqa: RUF012 - of all connections

    return Protocol


class BoundedProtocol(HttpToolsProtocol):
    """A connection has one request at a time, and PATIENCE seconds to send its headers and to read each response."""

    most: int
    clients: Counter[str]

    _client = ""
    _received = 0
    _body = 0
    _patience: asyncio.TimerHandle | None = None
    _unsent: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Output that the system's buffer does not take makes asyncio call pause_writing at once.
        transport.set_write_buffer_limits(0)
        self._client = _network(self.client[0] if self.client else "")
        self.clients[self._client] += 1
        if len(self.connections) > CONNECTIONS or self.clients[self._client] > self.most:
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._patience = self.loop.call_later(PATIENCE, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self.clients[self._client] -= 1
        if not self.clients[self._client]:
            del self.clients[self._client]
        self._patience = _cancelled(self._patience)
        self._unsent = _cancelled(self._unsent)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._received += len(data)
        super().data_received(data)
        if not self.transport.is_closing() and self._received - self._body > HEADER_BYTES + _FRAMING * self._body:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # Pipelined requests could be sent without end: the first is answered, and the connection closed. No usual
            # client sends them.
            raise OverlappingRequestError
        super().on_message_begin()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is None or self.cycle.response_complete:
            super().send_400_response(msg)
        else:
            self.cycle.keep_alive = False
            # The client is told as well; older versions of uvicorn do not.
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]
            self.transport.pause_reading()

    def on_headers_complete(self) -> None:
        self._patience = _cancelled(self._patience)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._received = self._body = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._patience = self.loop.call_later(PATIENCE, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unsent is None:
            self._unsent = self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        self._unsent = _cancelled(self._unsent)
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> Any:
        """Not logged: a client must not be able to fill the log."""


class OverlappingRequestError(Exception):
    """A request arrived before the response to the one before."""


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """The timer's replacement after it was cancelled."""
    if timer is not None:
        timer.cancel()
    return None


def _network(address: str) -> str:
    """What connections are counted by: an address; of IPv6 the 64 bits of a customer.

    >>> _network("192.0.2.7"), _network("2001:db8:1:2:3::4")
    ('192.0.2.7', '2001:db8:1:2::')
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(IPv6Address(int(found) >> 64 << 64)) if isinstance(found, IPv6Address) else str(found)
