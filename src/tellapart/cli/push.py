"""`tellapart push RUN hf://USER/NAME`: a run's network and model card to the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli.console import show
from tellapart.words import size


def command(
    run: Annotated[str, typer.Argument(help="Run folder.", show_default=False)],
    to: Annotated[str, typer.Argument(metavar="hf://USER/NAME", help="Repository on the hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Create it so that only its owner sees it.")] = False,
    export: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Also a file of RUN/exports.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; show what would be sent.")] = False,
) -> None:
    """Send a run's model card and model.onnx to the Hugging Face hub. No image and no path is sent."""
    done = ta.push(run, to, private=private, dry_run=dry_run, exports=export or ())
    for name, count in done.files:
        show(f"{name}  {size(count)}")
    show(f"would be sent to {done.address}" if dry_run else f"sent to {done.address}")
