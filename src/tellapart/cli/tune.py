"""`tellapart tune DATA`: search for a better configuration within a time budget, and tell whether it helped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import short, show, show_json, table, typed
from tellapart.cli.live_table import live
from tellapart.words import percent

if TYPE_CHECKING:
    from rich.table import Table

    from tellapart.experiments.tune import Trial, TuneFolder
    from tellapart.experiments.tune_result import TuneResult

SHOWN = 10


def command(
    data: options.DataOrResume = None,
    budget: Annotated[str | None, typer.Option(help="Total time, such as 90s, 20m or 1h.", show_default="20m")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of trials, including the starting configuration.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Start from a recipe.")] = None,
    model: Annotated[str | None, typer.Option(help="Start from an architecture with its defaults.")] = None,
    weights: options.Weights = None,
    fine_tune: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="Also search the number of blocks to fine-tune, starting from this one."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Start from a config.toml, such as a run's.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Input size of the first trial, in pixels.")] = None,
    seed: options.Seed = None,
    out: Annotated[str | None, typer.Option(help="Search folder.", show_default="runs/tune-N")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="TUNE", help="Resume a search; --budget and --trials then include what was already done."),
    ] = None,
    settings: options.Settings = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    corrections: options.Corrections = None,
    group_by: options.GroupBy = None,
    cache_limit: options.CacheLimit = "20GB",
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Search for a better configuration than the given one, by its score on the validation images alone.

    The first trial is the starting configuration. At the end, it and the best trial are evaluated on the test images
    and compared; the best configuration is written to best.toml, for train --config.
    """
    from tellapart.api.tune import DEFAULT_BUDGET
    from tellapart.errors import ConfigError
    from tellapart.runs.versions import command_line

    limit = options.parse_bytes(cache_limit)
    seconds = None if budget is None else options.parse_duration(budget)
    if resume is not None:
        begun = (data, recipe, model, weights, fine_tune, config, image_size, seed, out, settings)
        found_by = (label_pattern, path_column, label_column, root, corrections, group_by)
        options.resume_alone("search", *begun, *found_by, besides="at most --budget and --trials")
        with live(progress_table) as (progress, watch):
            found = ta.resume_tune(
                resume, budget=seconds, trials=trials, cache_limit=limit, progress=progress, watch=watch
            )
    elif data is None:
        raise ConfigError("Give the images, such as: tellapart tune photos/   (or --resume TUNE)")
    else:
        made = ta.make_config(
            recipe=recipe,
            config=config,
            model=model,
            weights=weights,
            fine_tune=fine_tune,
            image_size=image_size,
            seed=seed,
            data=options.data_options(label_pattern, path_column, label_column, root, corrections, group_by),
            settings=settings or (),
        )
        with live(progress_table) as (progress, watch):
            found = ta.tune(
                data,
                budget=seconds or DEFAULT_BUDGET,
                trials=trials,
                out=out,
                config=made,
                command=command_line(),
                cache_limit=limit,
                progress=progress,
                watch=watch,
            )
    _show(found, format)


def _show(found: TuneResult, format: options.OutputFormat) -> None:
    from tellapart.experiments.comparison import points

    if format is options.OutputFormat.json:
        show_json(found.to_dict() | {"page": str(found.tune.page_file)})
        return
    show(trial_table(found, found.ranked[:SHOWN]))
    if found.importance:
        rows = table("setting", ">importance", "start", "best")
        for name, share in found.importance.items():
            start, value = found.start.values[name], found.best.values[name]
            rows.add_row(name, percent(share, 0), figure(start), "" if value == start else figure(value))
        show(rows)
    if found.gaps:
        rows = table("run", ">validation", ">test (95 % interval)", ">points from validation to test")
        for gap in found.gaps:
            name = f"{gap.name}, {'the start' if gap.name == found.start.name else 'the best'}"
            rows.add_row(
                name, str(gap.validation), str(gap.test), points(gap.change, min(gap.validation_n, gap.test_n))
            )
        show(rows)
    show(found.advice)
    for note in found.notes:
        show(f"note: {note}")
    show(f"page    {short(found.tune.page_file)}")
    show(f"next    tellapart train {typed(found.tune.record['data'])} --config {typed(found.tune.best_file)}")


def figure(value: str | float) -> str:
    """A setting's value in short form."""
    return value if isinstance(value, str) else f"{value:.3g}"


def trial_table(found: TuneResult, trials: Sequence[Trial]) -> Table:
    """The given trials with the searched settings."""
    names = [each.name for each in found.dimensions]
    rows = table(
        "trial",
        f">{found.monitor}",
        ">accuracy",
        *(f"?{name.partition('.')[2] or name}" for name in names),
        "?>epochs",
        "?>s",
    )
    for each in trials:
        told = {found.start.number: " (the start)", found.best.number: " (the best)"}.get(each.number, "")
        figures = (f"{each.value:.4f}", percent(each.accuracy or 0.0))
        spent = (f"{each.epochs}", f"{each.seconds:.0f}")
        rows.add_row(each.name + told, *figures, *(figure(each.values[name]) for name in names), *spent)
    return rows


def progress_table(tune: TuneFolder, trials: list[Trial]) -> Table:
    """The newest trials and the best so far."""
    from tellapart.experiments.tune import ranked

    monitor = tune.start.train.monitor
    best = next(iter(ranked(trials, monitor)), None)
    rows = table("trial", "status", f">{monitor}", ">accuracy", ">epochs", ">seconds")
    rows.title = f"{tune.record['spent_seconds']:,.0f} of {tune.record['budget_seconds']:,.0f} seconds"
    newest = [each for each in trials if each is not best][-SHOWN:]
    for each in ([best] if best else []) + newest:
        rows.add_row(
            each.name + (" (the best)" if each is best else ""),
            each.status,
            "" if each.value is None else f"{each.value:.4f}",
            "" if each.accuracy is None else percent(each.accuracy),
            str(each.epochs or ""),
            f"{each.seconds:,.0f}" if each.seconds else "",
        )
    return rows
