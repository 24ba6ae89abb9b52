"""`tellapart serve RUN...`: an HTTP API and a web page. Does not import TensorFlow."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli import options
from tellapart.errors import ConfigError, require_extra

BOUNDS_PANEL = "Limits"
LIBRARIES = ("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn")
"""Libraries of the extra `serve`: a missing one is reported at once, not when it is imported."""


def command(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run folders or model.onnx files; NAME=PATH sets a name.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8000,
    token_file: Annotated[
        str | None, typer.Option(help="File with the token that clients must send.", show_default=False)
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Web origin that may call the API, or under which a proxy serves it.", show_default=False),
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Keep images here of which visitors say what they are.", show_default=False
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of processor cores to use.", show_default="all")
    ] = None,
    device: options.DeviceOption = options.Device.auto,
    exact: options.Exact = False,
    max_body: Annotated[str, typer.Option(help="Size of a request body.", rich_help_panel=BOUNDS_PANEL)] = "32MB",
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Pixels per image.", rich_help_panel=BOUNDS_PANEL)
    ] = 50_000_000,
    max_files: Annotated[int, typer.Option(min=1, help="Images per request.", rich_help_panel=BOUNDS_PANEL)] = 32,
    queue: Annotated[
        int, typer.Option(min=1, help="Images waiting in the queue, over all clients.", rich_help_panel=BOUNDS_PANEL)
    ] = 128,
    timeout: Annotated[float, typer.Option(help="Seconds per request.", rich_help_panel=BOUNDS_PANEL)] = 30.0,
    image_timeout: Annotated[
        float, typer.Option(help="Seconds to decode an image.", rich_help_panel=BOUNDS_PANEL)
    ] = 10.0,
    per_client: Annotated[
        int, typer.Option(min=1, help="Connections per client address.", rich_help_panel=BOUNDS_PANEL)
    ] = 128,
    max_feedback: Annotated[
        int, typer.Option(min=1, help="Images kept in --feedback.", rich_help_panel=BOUNDS_PANEL)
    ] = 10_000,
    feedback_size: Annotated[str, typer.Option(help="Bytes kept in --feedback.", rich_help_panel=BOUNDS_PANEL)] = "2GB",
) -> None:
    """Serve runs over HTTP, with a web page, until Ctrl-C or SIGTERM. Open requests are finished first.

    With several runs, `?run=NAME` selects one; the default is the first.
    """
    import sys
    from pathlib import Path

    require_extra("tellapart serve", "serve", *LIBRARIES)
    from tellapart.data.feedback import FeedbackFolder
    from tellapart.inference.fast import told
    from tellapart.parallel import cores
    from tellapart.serve.http_server import listen
    from tellapart.serve.limits import Bounds
    from tellapart.serve.middleware import Access
    from tellapart.serve.server import open_predictors, serve

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
        raise ConfigError(f"Cannot read the token from {token_file}: {reason}.") from None
    access = Access(host, token, tuple(origin or ()))
    room = options.parse_bytes(feedback_size, "--feedback-size")
    kept = None if feedback is None else FeedbackFolder(Path(feedback), max_feedback, room)
    place = listen(host, port)
    predictors = open_predictors(runs, device.value, exact=exact)

    for name, predictor in predictors.items():
        if words := told(predictor):
            print(f"tellapart: {name} is {words}", file=sys.stderr)

    def started(address: str) -> None:
        print(f"Serving {', '.join(predictors)} on {address}  (Ctrl-C to stop)", file=sys.stderr, flush=True)

    serve(predictors, place, bounds=bounds, access=access, started=started, feedback=kept)
