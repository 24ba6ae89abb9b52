"""`tellapart evaluate RUN [DATA]`: metrics with confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table
from tellapart.words import counted, measured, percent

if TYPE_CHECKING:
    from tellapart.evaluation.evaluate import Evaluation


def command(
    run: Annotated[str, typer.Argument(help="Run folder.", show_default=False)],
    data: Annotated[
        str | None, typer.Argument(help="Other labelled images; by default, the run's own.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test.", show_default="test; with DATA, all images")
    ] = None,
    moved: options.Moved = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Evaluate a run on its test split, another split, or other images. Every metric has a 95 % confidence interval."""
    from tellapart.data.catalog import SPLITS
    from tellapart.data.sources.folders import split_named
    from tellapart.errors import ConfigError, unknown
    from tellapart.evaluation.judge import meaning

    chosen = next((name for name in SPLITS if name == split), None)
    if split is not None and chosen is None:
        meant = split_named(split)
        raise ConfigError(unknown("split", split, SPLITS) + (f" Did you mean --split {meant}?" if meant else ""))
    given = options.data_options(label_pattern, path_column, label_column, root)
    found_by = {name: value for name, value in given.items() if value is not None}
    with display() as progress:
        if moved is not None:
            ta.open_run(run, data=moved, progress=progress)
        evaluation = ta.evaluate(run, data, split=chosen, progress=progress, **found_by)
    if format is options.OutputFormat.json:
        show_json({evaluation.split: evaluation.to_dict()})
        return
    show_figures(evaluation, data)
    figures = table("metric", ">value (95 % interval)")
    for name, estimate in evaluation.metrics.items():
        figures.add_row(
            "exact_match" if evaluation.several and name == "accuracy" else name,
            str(estimate) if name == "log_loss" else measured(estimate),
        )
    show(figures)
    for note in evaluation.notes:
        show(note)
    more = (">average precision",) if evaluation.several else ()
    classes = table("label" if more else "class", ">images", ">precision", ">recall", ">f1", *more)
    for row in evaluation.per_class:
        estimates = (row.precision, row.recall, row.f1, row.average_precision)[: 3 + len(more)]
        values = ("-" if value is None else measured(value) for value in estimates)
        classes.add_row(row.label, f"{row.support:,}", *values)
    show(classes)
    show(meaning(evaluation.calibration)[1])
    verdicts = table("verdict", ">images", ">share", ">right (95 % interval)")
    for name, found in evaluation.verdicts.items():
        share = percent(found.n / evaluation.n)
        verdicts.add_row(name, f"{found.n:,}", share, measured(found.accuracy) if found.accuracy else "-")
    if evaluation.verdicts:
        show(verdicts)
    for line in evaluation.verdict.lines if evaluation.verdict else ():
        show(line)


def show_figures(evaluation: Evaluation, data: str | None = None) -> None:
    """Print the accuracy, and on which images."""
    name = "exact match" if evaluation.several else "accuracy"
    show(
        f"{name} {measured(evaluation.accuracy)} on {counted(evaluation.n, 'image')} of "
        f"{data or f'the {evaluation.split} split'}, 95 % interval"
    )
