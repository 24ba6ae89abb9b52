"""An ASGI application -> a server on a socket, with limits on connections, signals and an orderly shutdown.

Shared by the server of predictions and the studio.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from math import ceil
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from tellapart.errors import ConfigError
from tellapart.serve.protocol import bounded_protocol

FORCE = 1.5
"""Seconds after the time for what is begun, which the end itself may take."""
FORCED = 1
"""Exit code where something that was begun had to be given up."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any free one. Raises ConfigError if the address is not available."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # On other systems than Unix, reuse would let two servers share the port.
        found = socket.create_server(address[:2], family=family, backlog=2048, reuse_port=False)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number is not None and number in errno.errorcode else error
        raise ConfigError(
            f"Cannot listen on {host}, port {port}: {reason}. Give another --host or --port (0: any free one)."
        ) from None
    # asyncio does not set it on such a socket: parts of a response would arrive 40 ms apart. Connections inherit it.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setblocking(False)
    return found


def answer(
    application: ASGIApp,
    place: socket.socket,
    *,
    per_client: int,
    seconds: float,
    started: Callable[[str], None],
    ending: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT; then accept nothing more, finish what has begun, and return.

    per_client: connections of one address. seconds: to finish what has begun. started: called with the address once
    requests are answered; ending: once no more are accepted. A second SIGINT drops what has begun.
    """
    config = uvicorn.Config(
        application,
        http=bounded_protocol(per_client),
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        # A forwarding header must not change who the client is.
        proxy_headers=False,
        timeout_graceful_shutdown=ceil(seconds),
    )
    _Server(config, started, ending).run(sockets=[place])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[str], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for place in sockets or ():
            host, port = place.getsockname()[:2]
            self._tell(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Ends in order and with exit code 0; uvicorn would raise the signal once more afterwards."""
        self._ending()
        self.force_exit = self.should_exit
        self.should_exit = True
        grace = 0 if self.force_exit else self.config.timeout_graceful_shutdown or 0
        # A stuck thread would keep this process alive; decoding processes end with it.
        last = threading.Timer(grace + FORCE, os._exit, (FORCED,))
        last.daemon = True
        last.start()
