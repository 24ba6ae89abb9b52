"""`tellapart runs [FOLDER]`: the runs in a folder."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli import options
from tellapart.cli.console import show, show_json, table


def command(
    folder: Annotated[str, typer.Argument(help="The folder that holds the runs.")] = "runs",
    format: options.FormatOption = options.Format.table,
) -> None:
    """List the runs of a folder, oldest first, with what each reached."""
    from tellapart.api import list_runs

    rows = []
    for run in list_runs(folder):
        record = run.record
        rows.append(
            {
                "run": str(run.path),
                "status": record["status"],
                "created": record["created"],
                "model": run.config.model.name,
                "epochs": len(run.history),
                "accuracy": run.metrics.get("test", {}).get("accuracy"),
            }
        )
    if format is options.Format.json:
        show_json(rows)
        return
    found = table("run", "status", "created", "model", ">epochs", ">test accuracy (95 % interval)")
    for row in rows:
        accuracy = row["accuracy"]
        words = f"{accuracy['value']:.3f} ({accuracy['low']:.3f}-{accuracy['high']:.3f})" if accuracy else "-"
        found.add_row(row["run"], row["status"], row["created"], row["model"], str(row["epochs"]), words)
    show(found if rows else f"No runs in {folder}.")
