"""`tellapart studio [RUN|DATA]`: look at what is doubtful, decide, train again. Does not import TensorFlow."""

from __future__ import annotations

import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellapart.cli import options
from tellapart.errors import ConfigError, require_extra

if TYPE_CHECKING:
    from starlette.types import ASGIApp

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
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="A,B", help="Label the images of DATA, which have none, as these classes."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="FILE", help="CSV that labels are appended to.", show_default="NAME.labels.csv"
        ),
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(
            "--feedback",
            metavar="FOLDER",
            help="Settle what visitors of `serve --feedback FOLDER` said.",
            show_default=False,
        ),
    ] = None,
    camera: Annotated[
        bool, typer.Option("--camera", help="Collect frames of a camera in the folder DATA, train, and look live.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8010,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    group_by: options.GroupBy = None,
) -> None:
    """Review doubtful images, correct their labels and train again, in a page on this machine. No image is changed.

    Each decision is written at once to a CSV that `tellapart train --corrections` takes. A folder without labels, or
    --classes: label its images, in a CSV that `tellapart train` takes. --camera: make the images.
    """
    require_extra("tellapart studio", "serve", *LIBRARIES)
    from tellapart.api.labels import labels_file, without_labels
    from tellapart.api.options import make_config
    from tellapart.data.decisions import Decisions
    from tellapart.serve.middleware import LOOPBACK, Access
    from tellapart.studio.app import application
    from tellapart.studio.camera import CameraSession, camera_application
    from tellapart.studio.label import LabelSession, label_application
    from tellapart.studio.session import Session
    from tellapart.training.labelling import Labels
    from tellapart.training.unlabelled import Pool

    named = [name for name in (classes or "").split(",") if name.strip()]
    if camera:
        if data is None or labels or file or feedback:
            raise ConfigError("Name the folder to collect frames in, such as: tellapart studio frames/ --camera")
        seen = CameraSession(Path(data), tuple(named))
        _serve(camera_application(seen, Access(LOOPBACK[0])), f"Studio of {data}", port, browser, seen.trainer.stop)
        return
    chosen = data or _newest()
    found_by = options.data_options(label_pattern, path_column, label_column, root, None, group_by)
    typed = [part for name, value in found_by.items() if value for part in (f"--{name.replace('_', '-')}", value)]
    is_run = (Path(chosen) / "run.json").is_file()
    if is_run and typed:
        raise ConfigError(f"A run knows how its images were read. Omit {typed[0]}, or name the images instead.")
    config = make_config(data=found_by)
    host = LOOPBACK[0]
    served: Session | LabelSession
    if classes is not None or labels is not None or (not is_run and not typed and without_labels(chosen, config)):
        if is_run or typed or file or feedback:
            wrong = "a run" if is_run else typed[0] if typed else "--corrections" if file else "--feedback"
            raise ConfigError(f"Images are labelled in a folder without labels: --classes does not go with {wrong}.")
        found = Labels(Pool(chosen, config), Decisions(labels_file(chosen, labels)), named)
        served = LabelSession(chosen, found)
        page = label_application(served, Access(host))
    else:
        said = None if feedback is None else Path(feedback)
        served = Session(chosen, Path(file) if file else _beside(chosen, is_run), config, typed, said)
        page = application(served, Access(host))
    _serve(page, f"Studio of {chosen}", port, browser, served.looking.stop)


def _serve(page: ASGIApp, said: str, port: int, browser: bool, ending: Callable[[], None]) -> None:
    """Answer on this machine until it is ended. said: printed with the address."""
    from tellapart.serve.http_server import answer, listen
    from tellapart.serve.limits import Bounds
    from tellapart.serve.middleware import LOOPBACK
    from tellapart.studio.door import Door

    place = listen(LOOPBACK[0], port)
    door = Door(page)

    def started(address: str) -> None:
        print(f"{said} on {door.address(address)}  (Ctrl-C to stop)", file=sys.stderr, flush=True)
        if browser:
            # In a thread: a browser of the terminal returns when it is left.
            threading.Thread(target=webbrowser.open, args=(door.address_once(address),), daemon=True).start()

    answer(door, place, per_client=Bounds().per_client, seconds=5.0, started=started, ending=ending)


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
