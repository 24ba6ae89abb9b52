"""`tellapart tune DATA`: search for a better configuration within a time budget, and tell whether it helped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import table, typed
from tellapart.cli.study import live, show_study
from tellapart.words import duration, measured, percent

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
    cluster: options.Cluster = None,
    trial_cpus: options.TrialCpus = 2,
    trial_gpus: options.TrialGpus = 0.0,
    parallel: options.Parallel = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL|journal",
            help="Where Optuna keeps the trials.",
            rich_help_panel=options.TRIALS_PANEL,
            show_default="SQLite in the folder; with --cluster a journal file there",
        ),
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
    from tellapart.api.study import TUNE_BUDGET, Cluster
    from tellapart.runs.versions import command_line

    limit = options.parse_bytes(cache_limit)
    seconds = None if budget is None else options.parse_duration(budget)
    found_by = (label_pattern, path_column, label_column, root, corrections, group_by)
    begun = (recipe, model, weights, fine_tune, config, image_size, seed, out, settings, storage, *found_by)
    options.begin_or_resume(
        "tune", data, resume, *begun, noun="search", besides="at most --budget, --trials and --cluster"
    )
    spread = None if cluster is None else Cluster(cluster, trial_cpus, trial_gpus, parallel)
    with live(progress_table) as shown:
        if resume is not None:
            found = ta.resume_tune(resume, budget=seconds, trials=trials, cache_limit=limit, cluster=spread, **shown)
        else:
            made = ta.make_config(
                recipe=recipe,
                config=config,
                model=model,
                weights=weights,
                fine_tune=fine_tune,
                image_size=image_size,
                seed=seed,
                data=options.data_options(*found_by),
                settings=settings or (),
            )
            common: dict[str, Any] = {"command": command_line(), "cache_limit": limit, "cluster": spread, **shown}
            common["storage"] = storage or ""
            found = ta.tune(data, budget=seconds or TUNE_BUDGET, trials=trials, out=out, config=made, **common)
    if found.helped:
        then = f"tellapart train {typed(found.tune.record['data'])} --config {typed(found.tune.best_file)}"
    else:  # the run of the start is kept
        then = f"tellapart predict {typed(found.tune.trial(found.start.number).path)} IMAGES"
    show_study(found, _tables(found), then, format)


def _tables(found: TuneResult) -> Iterator[Table]:
    from tellapart.experiments.comparison import points
    from tellapart.experiments.space import figure

    searched = (f"?{each.short}" for each in found.dimensions)
    rows = table("trial", f">{found.monitor}", ">accuracy", *searched, "?>epochs", "?>time")
    for each in found.ranked[:SHOWN]:
        told = {found.start.number: " (the start)", found.best.number: " (the best)"}.get(each.number, "")
        figures = (f"{each.value:.4f}", percent(each.accuracy or 0.0))
        spent = (f"{each.epochs}", duration(each.seconds))
        settings = (figure(each.values[dimension.name]) for dimension in found.dimensions)
        rows.add_row(each.name + told, *figures, *settings, *spent)
    yield rows
    if found.importance:
        rows = table("setting", ">importance", "start", "best")
        for name, share in found.importance.items():
            start, value = found.start.values[name], found.best.values[name]
            rows.add_row(name, percent(share, 0), figure(start), "" if value == start else figure(value))
        yield rows
    if found.gaps:
        rows = table("run", ">validation", ">test (95 % interval)", ">points from validation to test")
        for gap in found.gaps:
            name = f"{gap.name}, {'the start' if gap.name == found.start.name else 'the best'}"
            rows.add_row(
                name,
                measured(gap.validation),
                measured(gap.test),
                points(gap.change, min(gap.validation_n, gap.test_n)),
            )
        yield rows


def progress_table(tune: TuneFolder, trials: list[Trial]) -> Table:
    """The newest trials and the best so far."""
    from tellapart.experiments.tune import ranked

    monitor = tune.start.train.monitor
    best = next(iter(ranked(trials, monitor)), None)
    rows = table("trial", "status", f">{monitor}", ">accuracy", ">epochs", ">time", title=tune.time_told)
    newest = [each for each in trials if each is not best][-SHOWN:]
    for each in ([best] if best else []) + newest:
        rows.add_row(
            each.name + (" (the best)" if each is best else ""),
            each.status,
            "" if each.value is None else f"{each.value:.4f}",
            "" if each.accuracy is None else percent(each.accuracy),
            str(each.epochs or ""),
            duration(each.seconds) if each.seconds else "",
        )
    return rows
