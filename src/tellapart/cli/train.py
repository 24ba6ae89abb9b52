"""`tellapart train DATA`: a finished run from labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, short, show, show_json, typed
from tellapart.cli.evaluate import show_figures
from tellapart.cli.exit_codes import NEEDS_PERSON, STOPPED
from tellapart.training.trackers import TRACKERS
from tellapart.words import counted, measured

if TYPE_CHECKING:
    from tellapart.api.runs import Run


def command(
    data: options.DataOrResume = None,
    recipe: Annotated[str | None, typer.Option(help="A ready experiment; `tellapart recipes` lists them.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="An architecture; `tellapart models` lists them. Or your own: package.module:function."),
    ] = None,
    weights: options.Weights = None,
    fine_tune: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="Blocks of a pretrained backbone that learn after its head, from the top."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="A config.toml, such as a run's.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the image the network sees, in pixels.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, light, medium or strong.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many passes over the training images.")] = None,
    seed: options.Seed = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(TRACKERS), help="Also tell this tracker of the run; may be given twice. Extra `track`."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="The run's folder.", show_default="runs/NAME-N")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
    moved: options.Moved = None,
    trust_code: options.TrustCode = False,
    settings: options.Settings = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    corrections: options.Corrections = None,
    group_by: options.GroupBy = None,
    cache_limit: options.CacheLimit = "20GB",
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 where findings or the verdict need a person.")
    ] = False,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Train a classifier, evaluate it on the test split, and write the run with its report."""
    from tellapart.errors import ConfigError
    from tellapart.runs.versions import command_line

    limit = options.parse_bytes(cache_limit)
    if resume is not None:
        begun = (data, recipe, model, weights, fine_tune, config, image_size, augment, epochs, seed, track, out)
        found_by = (label_pattern, path_column, label_column, root, corrections, group_by)
        options.resume_alone("run", *begun, settings, *found_by)
        with display() as progress:
            run = ta.resume(resume, data=moved, cache_limit=limit, trust_code=trust_code, progress=progress)
    elif moved is not None:
        raise ConfigError("--data says where the images of --resume RUN are now; name new images without it.")
    elif data is None:
        raise ConfigError("Give the images to train on, such as: tellapart train photos/   (or --resume RUN)")
    else:
        made = ta.make_config(
            recipe=recipe,
            config=config,
            model=model,
            weights=weights,
            fine_tune=fine_tune,
            image_size=image_size,
            augment=augment,
            epochs=epochs,
            seed=seed,
            track=track or (),
            data=options.data_options(label_pattern, path_column, label_column, root, corrections, group_by),
            settings=settings or (),
        )
        with display() as progress:
            run = ta.train(
                data, config=made, out=out, name=recipe, command=command_line(), cache_limit=limit, progress=progress
            )
    show_run(run, format)
    end_with(run, strict)


def show_run(run: Run, format: options.OutputFormat) -> None:
    """What a run reached, what to read and what to do next."""
    from tellapart.evaluation.evidence import evaluations_of
    from tellapart.evaluation.judge import verdict_of
    from tellapart.evaluation.overfitting import kept

    record, metrics = run.record, run.metrics
    if format is options.OutputFormat.json:
        show_json({"run": str(run.path), **record.to_dict(), "metrics": metrics})
        return
    for finding in record.findings:
        if finding.needs_person:
            show(f"{finding.severity}: {finding.meaning} {finding.done}".rstrip())
    for text in record.decided:
        show(f"{text[0].upper()}{text[1:]}.")
    show(kept(run.history, record.best_epoch, record.stop))
    if metrics:
        evaluation, clean = evaluations_of(run)
        show_figures(evaluation)
        if clean is not None:
            show(f"Without copies of training images: {measured(clean.accuracy)} of {counted(clean.n, 'image')}.")
        for line in verdict_of(run).lines:
            show(line)
    show(f"run     {short(run.path)}")
    show(f"report  {short(run.report_file)}")
    if record.status == "interrupted":
        show(f"go on   tellapart train --resume {typed(run.path)}")
    show(f"next    tellapart predict {typed(run.path)} IMAGES")


def end_with(run: Run, strict: bool) -> None:
    """The exit code of a run that was made: of Ctrl-C, or with `strict` of what needs a person."""
    from tellapart.evaluation.judge import verdict_of

    if run.status == "interrupted":
        raise typer.Exit(STOPPED)
    if strict and (any(finding.needs_person for finding in run.catalog.findings) or verdict_of(run).mark == "stop"):
        raise typer.Exit(NEEDS_PERSON)
