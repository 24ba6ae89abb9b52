"""`tellapart demo`: train, evaluate and predict on the built-in images, offline."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show
from tellapart.cli.train import end_with, show_run
from tellapart.words import probability


def command(
    fast: Annotated[
        bool, typer.Option("--fast", help="Use small images: a quick check that everything works.")
    ] = False,
    out: Annotated[str | None, typer.Option(help="Run folder.", show_default="runs/demo-N")] = None,
    open_report: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the report.", show_default="if there is a display"),
    ] = None,
) -> None:
    """Train on the built-in images, evaluate, predict a few, and open the report. Works offline."""
    from tellapart.runs.versions import command_line

    settings = ["image.height=64", "image.width=64"] if fast else []
    with display() as progress:
        run = ta.train(
            "builtin:pets",
            config=ta.make_config(settings=settings),
            name="demo",
            out=out,
            command=command_line(),
            progress=progress,
        )
    root = Path(run.record.data)
    some = run.catalog.split("test").images[::10][:5]
    width = max(map(len, run.catalog.task.classes))
    show("A few images of the test split:")
    for image, prediction in zip(some, run.predict([root / p.path for p in some]), strict=True):
        named = f"{prediction.verdict:8}{prediction.label:{width}}{probability(prediction.probability):>8}"
        show(f"  {named}   is {image.label:{width}}   {Path(image.path).name}")
    show("")
    show_run(run, options.OutputFormat.table)
    screen = sys.stdout.isatty() and (os.name == "nt" or sys.platform == "darwin" or "DISPLAY" in os.environ)
    if screen if open_report is None else open_report:
        webbrowser.open(run.report_file.absolute().as_uri())
    end_with(run, strict=False)
