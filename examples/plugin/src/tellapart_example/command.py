"""A command: how many images each class has."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

import tellapart as ta
from tellapart.plugins import command


@command("labels")
def labels(data: Annotated[str, typer.Argument(help="Whatever `tellapart check` reads.", show_default=False)]) -> None:
    """Count the images of each class."""
    counts = Counter(image.label for image in ta.read(data).images)
    for label, count in counts.most_common():
        print(f"{label} {count}")
