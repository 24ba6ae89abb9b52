"""`tellapart evaluate RUN [DATA]`: figures with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table

if TYPE_CHECKING:
    from tellapart.evaluation.evaluate import Evaluation


def command(
    run: Annotated[str, typer.Argument(help="A run's folder.", show_default=False)],
    data: Annotated[
        str | None, typer.Argument(help="Other labelled pictures; without it, the run's own.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    format: options.FormatOption = options.Format.table,
) -> None:
    """Evaluate a run on its test split, another split, or other pictures, each figure with its 95 % interval."""
    from tellapart.data.catalog import SPLITS
    from tellapart.errors import ConfigError, unknown

    chosen = next((name for name in SPLITS if name == split), None)
    if chosen is None:
        raise ConfigError(unknown("split", split, SPLITS))
    with display() as progress:
        evaluation = ta.evaluate(run, data, split=chosen, progress=progress)
    if format is options.Format.json:
        show_json({split: evaluation.to_dict()})
        return
    show(f"{evaluation.n:,} pictures of {data or 'the ' + split + ' split'}; value (95 % interval)")
    figures = table("metric", ">value (interval)")
    for name, estimate in evaluation.metrics.items():
        figures.add_row(name, str(estimate))
    show(figures)
    for note in evaluation.notes:
        show(note)
    classes = table("class", ">pictures", ">precision", ">recall", ">f1")
    for row in evaluation.per_class:
        values = ("-" if value is None else str(value) for value in (row.precision, row.recall, row.f1))
        classes.add_row(row.label, str(row.support), *values)
    show(classes)
    calibration = evaluation.calibration
    show(
        f"expected calibration error {calibration.error:.3f}; probabilities that are exactly right stay below "
        f"{calibration.by_chance:.3f} on so many pictures"
    )
    for line in verdict_lines(evaluation):
        show(line)


def verdict_lines(evaluation: Evaluation) -> list[str]:
    """How many pictures have each verdict, and how many of them are right."""
    lines = [
        f"{name}: {found.n:,} of {evaluation.n:,} pictures"
        + (f", {found.accuracy} of them right" if found.accuracy else "")
        for name, found in evaluation.verdicts.items()
    ]
    if "sure" in evaluation.verdicts and not evaluation.verdicts["sure"].n:
        lines.append(
            "None is sure: the validation split shows of no probability that it is right often enough "
            "(train.sure_accuracy). More pictures help most."
        )
    return lines
