"""`tellapart runs [FOLDER]`: list the runs in a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import show, show_json, table, width_shown
from tellapart.words import between, duration, measured, percent

NARROW = 100
"""Terminal width in characters below which the data are shown under the run, and an interval under its value."""


def command(
    folder: Annotated[str, typer.Argument(help="The folder that holds the runs.")] = "runs",
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Filter such as status=done, name=cats-* or accuracy>0.9; if repeated, all must hold.",
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(help="created, name, accuracy (highest first), time (shortest first), epochs, model or status."),
    ] = "created",
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """List the runs of a folder, oldest first, with their results. `tellapart compare` tells which is better."""
    from tellapart.evaluation.intervals import Estimate
    from tellapart.files import terminal_safe
    from tellapart.runs.run import RunFolder

    rows = ta.summarize_runs(folder, where=where or (), sort=sort)
    if format is options.OutputFormat.json:
        show_json([row.to_dict() for row in rows])
        return
    if not rows:
        begin = "" if where else " Start one with: tellapart train photos/"
        show(f"No runs in {folder}" + (f" with {', '.join(where)}." if where else ".") + begin)
        return
    rest = ("?begun (UTC)", "?judged on", "?model", "?>epochs", "?status")
    narrow = width_shown() < NARROW
    if narrow:
        found = table("run\ndata", ">accuracy\ninterval", "verdict", ">time", *rest)
    else:
        found = table("run", "data", ">accuracy (interval)", "verdict", ">time", *rest)
    for row in rows:
        accuracy = Estimate.from_dict(row.accuracy) if row.accuracy else None
        if narrow:
            figure = f"{percent(accuracy.value)}\n{between(accuracy)}" if accuracy else "-"
            first: tuple[str, ...] = (f"{row.run}\n{row.source}", figure)
        else:
            first = (row.run, row.source, measured(accuracy) if accuracy else "-")
        found.add_row(
            *first,
            row.use or row.status,  # without a verdict: the status
            "-" if row.error else duration(row.time),
            row.created[:16].replace("T", " "),
            f"{row.images:,} {row.split}" if row.images else "-",
            row.model,
            f"{row.epochs:,}",
            row.status,
        )
    show(found)
    for row in rows:
        if told := row.error or RunFolder(Path(row.run)).missing_report:
            print(terminal_safe(f"tellapart: {told}"), file=sys.stderr)
