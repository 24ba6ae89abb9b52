"""`tellapart features DATA --out FILE`: embeddings of images, in a file for other tools."""

from __future__ import annotations

from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show
from tellapart.words import counted, size


def command(
    data: options.Data,
    out: Annotated[str, typer.Option(metavar="FILE", help="File to write: .npz, or .parquet.", show_default=False)],
    labelled: Annotated[
        bool, typer.Option("--labelled/--no-labels", help="Read labels and splits, or take any images as predict does.")
    ] = True,
    neighbours: Annotated[
        int, typer.Option(metavar="N", min=0, max=20, help="Also the N most similar other images of each.")
    ] = 0,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
) -> None:
    """Write embeddings of images: 1,280 numbers for each, in which similar images are near each other."""
    from pathlib import Path

    from tellapart.api.features import require_suffix

    require_suffix(Path(out))
    given = options.data_options(label_pattern, path_column, label_column, root, None, None)
    with display() as progress:
        if labelled:
            found = ta.features(data, config=ta.make_config(data=given), progress=progress)
        else:
            found = ta.features(data, labelled=False, progress=progress)
        place = found.save(out, neighbours=neighbours)
    for path, reason in found.errors[:5]:
        show(f"left out  {path}: {reason}")
    if len(found.errors) > 5:
        show(f"and {counted(len(found.errors) - 5, 'more image')} that cannot be read")
    show(
        f"{place}  {counted(len(found), 'image')}, {found.values.shape[1]:,} numbers each, {size(place.stat().st_size)}"
    )
