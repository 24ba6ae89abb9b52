"""`tellapart ladder DATA`: train networks of rising cost within a time budget, and recommend one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import table, typed
from tellapart.cli.study import live, show_study
from tellapart.words import duration, measured, percent, size

if TYPE_CHECKING:
    from rich.table import Table

    from tellapart.experiments.ladder import LadderFolder
    from tellapart.experiments.ladder_result import LadderResult


def command(
    data: options.DataOrResume = None,
    budget: Annotated[str | None, typer.Option(help="Total time, such as 90s, 10m or 1h.", show_default="10m")] = None,
    rung: Annotated[
        list[str] | None, typer.Option(help="Train only this rung; may be repeated. By default, all.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Input size of the networks trained from scratch, in pixels.")
    ] = None,
    seed: options.Seed = None,
    out: Annotated[str | None, typer.Option(help="Ladder folder.", show_default="runs/ladder-N")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="LADDER", help="Resume a ladder; --budget then includes the time already spent."),
    ] = None,
    settings: options.Settings = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    group_by: options.GroupBy = None,
    cluster: options.Cluster = None,
    trial_cpus: options.TrialCpus = 2,
    trial_gpus: options.TrialGpus = 0.0,
    parallel: options.Parallel = None,
    cache_limit: options.CacheLimit = "20GB",
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Train a series of networks on the same images, from dense layers to a fine-tuned backbone, and recommend one.

    Each rung is a run, for report, compare and predict. One page shows the accuracy and cost of each rung, which steps
    made a significant difference, and the cheapest rung that is not significantly worse than the best.
    """
    from tellapart.api.study import LADDER_BUDGET, Cluster
    from tellapart.runs.versions import command_line

    limit = options.parse_bytes(cache_limit)
    seconds = None if budget is None else options.parse_duration(budget)
    found_by = (label_pattern, path_column, label_column, root, None, group_by)
    begun = (rung, image_size, seed, out, settings, *found_by)
    options.begin_or_resume("ladder", data, resume, *begun, noun="ladder", besides="at most --budget and --cluster")
    spread = None if cluster is None else Cluster(cluster, trial_cpus, trial_gpus, parallel)
    with live(progress_table) as shown:
        if resume is not None:
            found = ta.resume_ladder(resume, budget=seconds, cache_limit=limit, cluster=spread, **shown)
        else:
            found = ta.ladder(
                data,
                budget=seconds or LADDER_BUDGET,
                out=out,
                rungs=rung or (),
                config=ta.make_config(image_size=image_size, seed=seed, data=options.data_options(*found_by)),
                settings=settings or (),
                command=command_line(),
                cache_limit=limit,
                cluster=spread,
                **shown,
            )
    predict = f"tellapart predict {typed(found.ladder.run(found.choice.recommended).path)} IMAGES"
    show_study(found, _tables(found), predict, format)


def _tables(found: LadderResult) -> Iterator[Table]:
    from tellapart.experiments.comparison import p_text, points

    rows = table(
        "rung", f">accuracy on {found.n:,} {found.split} (95 % interval)", "", ">ms an image", "?>training",
        "?>file", "?>parameters", "?>processor",
    )  # fmt: skip
    for each in found.standings:
        state = each.state
        told = "take this" if each.name == found.choice.recommended else ""
        status = "" if state.status == "done" else state.status
        rows.add_row(
            each.name,
            measured(each.accuracy) if each.accuracy else "-",
            ", ".join(filter(None, (told, status))),
            f"{state.milliseconds:.3g}" if state.milliseconds else "-",
            duration(state.wall_seconds),
            size(state.file_bytes) if state.file_bytes else "-",
            f"{each.parameters:,}" if each.parameters else "-",
            duration(state.processor_seconds),
        )
    yield rows
    steps = table("step", ">points gained (95 % interval)", ">p", "difference")
    for step in found.steps:
        gained = points(step.comparison.difference, found.n)
        shown = "shown" if step.shown else "not shown"
        steps.add_row(f"{step.first} to {step.second}", gained, p_text(step.adjusted_p), shown)
    if found.steps:
        yield steps


def progress_table(ladder: LadderFolder) -> Table:
    """The progress of each rung."""
    from tellapart.experiments.ladder import best_so_far

    columns = ("rung", "status", ">epochs", ">best on validation", ">training", ">processor")
    rows = table(*columns, title=ladder.time_told)
    for rung in ladder.rungs:
        state = ladder.states[rung.name]
        begun = ladder.begun(rung.name)
        best = best_so_far(ladder.run(rung.name)) if begun else None
        epochs = len(ladder.run(rung.name).history) if begun else 0
        rows.add_row(
            rung.name,
            state.status,
            str(epochs or ""),
            percent(best.val_accuracy) if best else "",
            duration(state.wall_seconds) if state.wall_seconds else "",
            duration(state.processor_seconds) if state.processor_seconds else "",
        )
    return rows
