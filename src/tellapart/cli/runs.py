"""`tellapart runs [FOLDER]`: the runs in a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import show, show_json, table
from tellapart.words import measured


def command(
    folder: Annotated[str, typer.Argument(help="The folder that holds the runs.")] = "runs",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Only such as status=done, name=cats-*, accuracy>0.9; all must hold."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(help="created, name, accuracy (highest first), time (shortest first), epochs, model or status."),
    ] = "created",
    format: options.FormatOption = options.Format.table,
) -> None:
    """List the runs of a folder, oldest first, with what each reached. `tellapart compare` tells which is better."""
    from tellapart.evaluation.intervals import Estimate
    from tellapart.files import harmless
    from tellapart.runs.run import RunFolder

    rows = ta.summarize_runs(folder, where=where or (), sort=sort)
    if format is options.Format.json:
        show_json([row.to_dict() for row in rows])
        return
    if not rows:
        begin = "" if where else " Begin one with: tellapart train photos/"
        show(f"No runs in {folder}" + (f" with {', '.join(where)}." if where else ".") + begin)
        return
    found = table(
        "run", "?status", "?created", "?model", "?>epochs", "?>time", "?judged on", ">accuracy (95 % interval)", "use"
    )
    for row in rows:
        accuracy = row.accuracy
        words = measured(Estimate.from_dict(accuracy)) if accuracy else "-"
        judged = f"{row.pictures:,} {row.split}" if row.pictures else "-"
        created = row.created[:16].replace("T", " ")
        time, use = f"{row.time:,.0f} s", row.use or "-"
        found.add_row(row.run, row.status, created, row.model, str(row.epochs), time, judged, words, use)
    show(found)
    for row in rows:
        if missing := RunFolder(Path(row.run)).missing_report:
            print(harmless(f"tellapart: {missing}"), file=sys.stderr)
