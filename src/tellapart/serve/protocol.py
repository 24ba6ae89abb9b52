"""uvicorn's HTTP/1.1 with the bounds that it lacks: the size of headers and of everything around a body, and patience.

Read by: server.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tellapart.serve.bounds import HEADER_BYTES, PATIENCE

# Headers, chunk sizes, trailers: so much for each byte of the body, and HEADER_BYTES. A chunk of one byte needs five.
_FRAMING = 8
_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection that sends headers without end, or none within PATIENCE seconds."""

    _received = 0
    _body = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        idle = self.cycle is None or self.cycle.response_complete
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._received - self._body > HEADER_BYTES + _FRAMING * self._body:
            self.transport.write(_REFUSAL)
            self.transport.close()
        elif idle and self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._be_patient()

    def on_headers_complete(self) -> None:
        self._calm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._received = self._body = 0
        super().on_message_complete()

    def _be_patient(self) -> None:
        self._patience = self.loop.call_later(PATIENCE, self._lose_patience)

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> Any:
        """Said to nobody: a log that any client can fill is no use."""
