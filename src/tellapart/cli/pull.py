"""`tellapart pull hf://USER/NAME`: a network and its model card from the Hugging Face hub."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli.console import show
from tellapart.words import listed


def command(
    source: Annotated[str, typer.Argument(metavar="hf://USER/NAME", help="Repository on the hub.", show_default=False)],
    out: Annotated[str | None, typer.Option(help="New folder.", show_default="NAME")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="the newest")] = None,
) -> None:
    """Fetch a network of tellapart from the Hugging Face hub. Nothing in the repository is run."""
    predictor = ta.pull(source, out=out, revision=revision)
    show(f"{predictor.path}  tells apart {listed(predictor.task.classes, 8)}")
    show(f"next    tellapart predict {shlex.quote(str(predictor.path))} IMAGES")
