"""`tellapart studio [RUN|DATA]`: look at what is doubtful, decide, train again. Does not import TensorFlow."""

from __future__ import annotations

import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli import options
from tellapart.errors import ConfigError, require_extra

LIBRARIES = ("httptools", "starlette", "uvicorn")
"""Libraries of the extra `serve`: a missing one is reported at once, not when it is imported."""


def command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|DATA]",
            help="A run folder; or images: a folder, zip, csv or builtin:pets.",
            show_default="the newest run in runs/",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--corrections", metavar="FILE", help="CSV that decisions are appended to.", show_default="beside the run"
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8010,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    group_by: options.GroupBy = None,
) -> None:
    """Review doubtful images, correct their labels and train again, in a page on this machine. No image is changed.

    Each decision is written at once to a CSV that `tellapart train --corrections` takes.
    """
    require_extra("tellapart studio", "serve", *LIBRARIES)
    from tellapart.api.options import make_config
    from tellapart.serve.http_server import answer, listen
    from tellapart.serve.limits import Bounds
    from tellapart.serve.middleware import LOOPBACK, Access
    from tellapart.studio.app import application
    from tellapart.studio.session import Session

    chosen = data or _newest()
    found_by = options.data_options(label_pattern, path_column, label_column, root, None, group_by)
    typed = [part for name, value in found_by.items() if value for part in (f"--{name.replace('_', '-')}", value)]
    is_run = (Path(chosen) / "run.json").is_file()
    if is_run and typed:
        raise ConfigError(f"A run knows how its images were read. Omit {typed[0]}, or name the images instead.")
    session = Session(chosen, Path(file) if file else _beside(chosen, is_run), make_config(data=found_by), typed)
    host = LOOPBACK[0]
    place = listen(host, port)

    def started(address: str) -> None:
        print(f"Studio of {chosen} on {address}  (Ctrl-C to stop)", file=sys.stderr, flush=True)
        if browser:
            # In a thread: a browser of the terminal returns when it is left.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    bounds = Bounds()
    answer(
        application(session, Access(host)),
        place,
        per_client=bounds.per_client,
        seconds=5.0,
        started=started,
        ending=session.looking.stop,
    )


def _newest() -> str:
    from tellapart.errors import RunError
    from tellapart.runs.run import list_runs

    try:
        found = list(list_runs(Path("runs")))
    except RunError:
        found = []
    if not found:
        raise ConfigError("There is no run in runs/. Name a run or images, such as: tellapart studio photos/")
    return str(found[-1].path)


def _beside(data: str, is_run: bool) -> Path:
    """RUN.corrections.csv next to a run's folder; of images NAME.corrections.csv in the current folder."""
    if is_run:
        folder = Path(data).absolute()
        return folder.with_name(f"{folder.name}.corrections.csv")
    return Path(f"{Path(data.removeprefix('builtin:')).absolute().stem}.corrections.csv")
