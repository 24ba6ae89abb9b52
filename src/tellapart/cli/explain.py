"""`tellapart explain RUN IMAGE`: why the network predicts this class."""

from __future__ import annotations

from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, short, show, show_json


def command(
    run: Annotated[str, typer.Argument(help="Run folder.", show_default=False)],
    image: Annotated[str, typer.Argument(help="An image.", show_default=False)],
    label: Annotated[
        str | None, typer.Option("--class", help="Class to explain; by default, the predicted one.", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder for the figures; by default, explain/IMAGE in the run folder.", show_default=False),
    ] = None,
    trust_code: options.TrustCode = False,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Show which regions of an image support a class, verified by occlusion; feature maps and filters; and the training
    images that look most like it. All of it is on one page."""

    with display() as progress:
        explanation = ta.open_run(run).explain(image, label=label, out=out, trust_code=trust_code, progress=progress)
    if format is options.OutputFormat.json:
        show_json(explanation.to_dict())
        return
    for sentence in explanation.words:
        show(sentence)
    *figures, page = explanation.files
    for path in figures:
        show(f"figure  {short(path)}")
    show(f"page    {short(page)}")
