"""`tellapart report RUN`: write a run's report again."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli.console import display, show


def command(run: Annotated[str, typer.Argument(help="A run's folder.", show_default=False)]) -> None:
    """Write the report and the figures of a run again, from what its folder holds."""
    from tellapart import api

    with display() as progress:
        show(str(api.write_report(run, progress=progress)))
