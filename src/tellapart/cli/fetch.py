"""`tellapart fetch [NAME]`: download labelled images, once, complete and verified."""

from __future__ import annotations

from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table, typed
from tellapart.files import expanded


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A collection, a URL, hf://USER/NAME, kaggle:OWNER/DATASET, kaggle:COMPETITION or tfds:NAME.",
            show_default=False,
        ),
    ] = None,
    sha256: Annotated[str | None, typer.Option(metavar="DIGITS", help="Expected SHA-256 of the file at a URL.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Output file or folder.", show_default="in the user's cache folder")
    ] = None,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Download labelled images and print where they are; without a name, list the collections.

    An interrupted download resumes when the command is run again. What is already there is not downloaded again.
    """
    from tellapart.data.public_datasets import COLLECTIONS

    if name is None:
        _show_collections(format)
        return
    with display() as progress:
        path = ta.fetch(name, sha256=sha256, out=expanded(out) if out else None, progress=progress)
    if format is options.OutputFormat.json:
        show_json({"name": name, "path": str(path)})
        return
    row = COLLECTIONS.get(name)
    show(f"fetched  {path}")
    show(f"next     tellapart train {typed(path)}" + (f" --recipe {row.recipe}" if row and row.recipe else ""))
    if row:
        show(f"licence  {row.licence}")


def _show_collections(format: options.OutputFormat) -> None:
    from tellapart.data.public_datasets import COLLECTIONS

    if format is options.OutputFormat.json:
        show_json(
            [
                {
                    "name": row.name,
                    "summary": row.summary,
                    "bytes": row.size,
                    "source": row.source,
                    "licence": row.licence,
                    "recipe": row.recipe,
                    "files": [{"url": part.url, "bytes": part.size, "sha256": part.sha256} for part in row.parts],
                }
                for row in COLLECTIONS.values()
            ]
        )
        return
    rows = table("collection", ">MB", "what it is", "?from", "?licence")
    for row in COLLECTIONS.values():
        rows.add_row(row.name, f"{row.size / 1e6:,.0f}" if row.size else "-", row.summary, row.source, row.licence)
    show(rows)
    show(
        "tellapart fetch NAME downloads one, as do hf://USER/NAME, kaggle:OWNER/DATASET, tfds:NAME and URLs; "
        "builtin:pets works offline."
    )
