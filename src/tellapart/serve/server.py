"""Runs -> a running server: the socket, signals, and an orderly shutdown.

Imports no training library.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from types import FrameType

import uvicorn

from tellapart.errors import ConfigError
from tellapart.inference.predictor import Predictor
from tellapart.models.runtime import Device
from tellapart.runs.run import open_run
from tellapart.serve.app import Application
from tellapart.serve.limits import Bounds
from tellapart.serve.middleware import Access
from tellapart.serve.protocol import bounded_protocol

FORCE = 1.5
"""Seconds after the time for what is begun, which the end itself may take."""
FORCED = 1
"""Exit code where something that was begun had to be given up."""


def open_predictors(runs: Sequence[str], device: Device = "auto") -> dict[str, Predictor]:
    """The runs by name, in order, for one thread: the server's threads each run the network for themselves. Each is a
    run's folder or a model.onnx, or NAME=PATH; without a name, the folder's.

    Raises ConfigError for two of one name and for a device that cannot be had, RunError or ExportError for one that
    cannot be served.
    """
    found: dict[str, Predictor] = {}
    for given in runs:
        name, path = _named(given)
        if name in found:
            raise ConfigError(f"Two runs are called {name!r}. Give them names: tellapart serve first={path} second=...")
        if path.is_file():
            found[name] = Predictor(path, threads=1, device=device)
        else:
            folder = open_run(path)
            found[name] = Predictor(folder.require(folder.onnx_file, "exported network"), threads=1, device=device)
    return found


def _named(given: str) -> tuple[str, Path]:
    before, equals, after = given.partition("=")
    if equals and not Path(given).exists():
        return before, Path(after)
    path = Path(given)
    folder = path.absolute().parent if path.is_file() else path.absolute()
    return folder.name, path


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any that is free. Raises ConfigError where the address cannot be had."""
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
    # asyncio leaves it off on a socket made so: the parts of an answer would lie 40 ms apart. Connections inherit it.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setblocking(False)
    return found


def serve(
    predictors: Mapping[str, Predictor],
    place: socket.socket,
    *,
    bounds: Bounds,
    access: Access,
    started: Callable[[str], None],
) -> None:
    """Answer until SIGTERM or SIGINT; then take no more, finish what is begun, and return.

    started: called with the address once requests are answered. A second SIGINT gives up what is begun.
    """
    application = Application(predictors, bounds, access)
    config = uvicorn.Config(
        application.asgi,
        http=bounded_protocol(bounds.per_client),
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        # Who the client is, is no question here; a header cannot say otherwise.
        proxy_headers=False,
        timeout_graceful_shutdown=ceil(bounds.seconds),
    )
    _Server(config, application, started).run(sockets=[place])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, application: Application, started: Callable[[str], None]) -> None:
        super().__init__(config)
        self._application = application
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for place in sockets or ():
            host, port = place.getsockname()[:2]
            self._tell(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Ends in order and with exit code 0; uvicorn would raise the signal once more afterwards."""
        self._application.service.ending = True
        self.force_exit = self.should_exit
        self.should_exit = True
        grace = 0 if self.force_exit else self.config.timeout_graceful_shutdown or 0
        # A thread that is stuck would keep this process alive; those that decode end with it.
        last = threading.Timer(grace + FORCE, os._exit, (FORCED,))
        last.daemon = True
        last.start()
