"""`tellapart optimize RUN`: predict faster, in another arithmetic, as far as the labels stay the same."""

from __future__ import annotations

from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table, typed


def command(
    run: Annotated[str, typer.Argument(help="Run folder.", show_default=False)],
    keep: Annotated[
        float, typer.Option(min=0.9, max=1, help="Share of the validation images whose label must stay the same.")
    ] = 0.998,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the fast file; predict as trained again.")] = False,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Choose the fastest arithmetic that keeps the labels: float32, int8, or bfloat16 in OpenVINO.

    `predict` and `serve` use it from then on, with probabilities and thresholds calibrated for it. The network as
    trained is kept: --exact.
    """
    from tellapart.inference.fast import cost_in_words

    with display() as progress:
        found = ta.optimize(run, keep=keep, undo=undo, progress=progress)
    if found is None:
        show(f"predicts as trained again: {typed(run)}")
        return
    if format is options.OutputFormat.json:
        show_json(found.to_dict())
        return
    rows = table("arithmetic", "ms", "same label", "right", "sure", "")
    for trial in found.trials:
        chosen = "chosen" if trial.arithmetic == found.arithmetic else trial.refused
        cells = (f"{trial.milliseconds:.2f}", f"{trial.kept} of {found.images}", str(trial.right), str(trial.sure))
        rows.add_row(trial.arithmetic, *cells, chosen)
    show(rows)
    show(f"ms: processor time an image; right and sure: of {found.rest} validation images that chose nothing")
    show(cost_in_words(found.to_dict()))
