"""`tellapart serve RUN...`: an HTTP API and a page. Imports no TensorFlow."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli import options
from tellapart.errors import ConfigError, require_extra

BOUNDS_PANEL = "Bounds"
LIBRARIES = ("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn")
"""Of the extra `serve`: told at once where one is missing, not when it is imported."""


def command(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs' folders or model.onnx files; NAME=PATH gives a name.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    token_file: Annotated[
        str | None, typer.Option(help="File with the token that clients must send.", show_default=False)
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Web origin that may call, or that a proxy serves here.", show_default=False),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor cores that work at a time.", show_default="all")
    ] = None,
    device: options.DeviceOption = options.Device.auto,
    max_body: Annotated[str, typer.Option(help="Size of a request.", rich_help_panel=BOUNDS_PANEL)] = "32MB",
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Pixels of an image.", rich_help_panel=BOUNDS_PANEL)
    ] = 50_000_000,
    max_files: Annotated[int, typer.Option(min=1, help="Images of a request.", rich_help_panel=BOUNDS_PANEL)] = 32,
    queue: Annotated[
        int, typer.Option(min=1, help="Images that may wait, of all clients.", rich_help_panel=BOUNDS_PANEL)
    ] = 128,
    timeout: Annotated[float, typer.Option(help="Seconds for a request.", rich_help_panel=BOUNDS_PANEL)] = 30.0,
    image_timeout: Annotated[
        float, typer.Option(help="Seconds for decoding an image.", rich_help_panel=BOUNDS_PANEL)
    ] = 10.0,
    per_client: Annotated[
        int, typer.Option(min=1, help="Connections of one address.", rich_help_panel=BOUNDS_PANEL)
    ] = 128,
) -> None:
    """Serve runs to browsers and programs until Ctrl-C or SIGTERM; what is begun is finished first.

    Several runs: `?run=NAME` chooses; the first answers otherwise.
    """
    import sys
    from pathlib import Path

    require_extra("tellapart serve", "serve", *LIBRARIES)
    from tellapart.parallel import cores
    from tellapart.serve.limits import Bounds
    from tellapart.serve.middleware import Access
    from tellapart.serve.server import listen, open_predictors, serve

    bounds = Bounds(
        options.parse_bytes(max_body, "--max-body"),
        max_pixels,
        max_files,
        queue,
        timeout,
        threads or cores(),
        per_client,
        image_timeout,
    )
    try:
        token = None if token_file is None else Path(token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise ConfigError(f"The token cannot be read from {token_file}: {reason}.") from None
    access = Access(host, token, tuple(origin or ()))
    place = listen(host, port)
    predictors = open_predictors(runs, device.value)

    def started(address: str) -> None:
        print(f"Serving {', '.join(predictors)} on {address}  (Ctrl-C ends)", file=sys.stderr, flush=True)

    serve(predictors, place, bounds=bounds, access=access, started=started)
