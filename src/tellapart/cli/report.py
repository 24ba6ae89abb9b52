"""`tellapart report RUN`: regenerate a run's report; or write a page that lists the reports of a folder."""

from __future__ import annotations

from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show


def command(
    run: Annotated[str | None, typer.Argument(help="Run folder.", show_default=False)] = None,
    all_of: Annotated[
        str | None,
        typer.Option(
            "--all", metavar="FOLDER", help="Write index.html there: a list of its runs with links to their reports."
        ),
    ] = None,
    moved: options.Moved = None,
) -> None:
    """Regenerate the report and figures of a run from its folder.

    With --all: write a page that lists the runs of a folder. Finished runs without a report get one.
    """
    from tellapart.errors import ConfigError

    if (run is None) == (all_of is None):
        raise ConfigError("Give a run, such as: tellapart report runs/demo-1   or a folder of runs: --all runs")
    with display() as progress:
        if run is not None:
            if moved is not None:
                ta.open_run(run, data=moved, progress=progress)
            show(str(ta.write_report(run, progress=progress)))
        elif all_of is not None:
            show(str(ta.write_index(all_of, progress=progress)))
