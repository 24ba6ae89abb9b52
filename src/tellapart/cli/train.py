"""`tellapart train DATA`: train on labelled images and write a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, short, show, show_json, typed
from tellapart.cli.evaluate import show_figures
from tellapart.cli.exit_codes import NEEDS_PERSON, STOPPED
from tellapart.cli.train_devices import DevicesOption, Given, team_of
from tellapart.training.trackers import TRACKERS
from tellapart.words import counted, measured, size

if TYPE_CHECKING:
    from tellapart.api.runs import Run
    from tellapart.config import Config

CLUSTER_PANEL = "Features on a cluster"


def command(
    data: options.DataOrResume = None,
    recipe: Annotated[str | None, typer.Option(help="A ready-made experiment; `tellapart recipes` lists them.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="An architecture; `tellapart models` lists them. Or your own: package.module:function."),
    ] = None,
    weights: options.Weights = None,
    fine_tune: Annotated[
        str | None,
        typer.Option(
            metavar="N|all", help="Top blocks of a pretrained backbone to fine-tune after the head is trained."
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(help="A config.toml, such as a run's.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Input size of the network, in pixels.")] = None,
    augment: Annotated[str | None, typer.Option(help="Augmentation: none, light, medium or strong.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Maximum number of epochs.")] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Find the best classifier in this time, such as 90s, 10m or 1h; with --resume, in all."),
    ] = None,
    devices: DevicesOption = None,
    seed: options.Seed = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(TRACKERS), help="Also log the run to this tracker; may be repeated. Extra `track`."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Run folder.", show_default="runs/NAME-N")] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Train so many networks, each tested on another part, and average them: for few images."),
    ] = None,
    earlier: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="RUN", help="Add the images to those of this run; its test images stay the test images."
        ),
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Resume an interrupted run.")] = None,
    moved: options.Moved = None,
    trust_code: options.TrustCode = False,
    settings: options.Settings = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    kind: options.Kind = None,
    crop_boxes: options.CropBoxes = False,
    corrections: options.Corrections = None,
    group_by: options.GroupBy = None,
    cache_limit: options.CacheLimit = "20GB",
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS",
            help="A Ray cluster. With --feature-store, it computes the features of the backbone; without, its machines "
            "train a network from scratch, as --devices.",
            rich_help_panel=CLUSTER_PANEL,
        ),
    ] = None,
    feature_store: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            help="Where its machines keep the features, for this run and later ones.",
            rich_help_panel=CLUSTER_PANEL,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with code 1 if a finding needs a person's decision or the verdict is marked stop."
        ),
    ] = False,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Train a classifier, evaluate it on the test split, and write the run with its report."""
    from tellapart.errors import ConfigError
    from tellapart.runs.versions import command_line

    limit = options.parse_bytes(cache_limit)
    seconds = None if time is None else options.parse_duration(time, "--time")
    spread = {"cluster": cluster if feature_store else None, "feature_store": feature_store}
    shared: dict[str, Any] = {"cache_limit": limit, "time": seconds, **spread}
    if resume is not None:
        begun = (data, recipe, model, weights, fine_tune, config, image_size, augment, epochs, seed, track, out)
        found_by = (label_pattern, path_column, label_column, root, corrections, group_by, crop_boxes or None, kind)
        options.resume_alone("run", *begun, earlier, folds, settings, *found_by)
        given = Given(None if feature_store else cluster, moved, trust_code, limit)
        with display() as progress, team_of(devices, given, progress) as team:
            run = ta.resume(resume, data=moved, trust_code=trust_code, devices=team, progress=progress, **shared)
    elif moved is not None:
        raise ConfigError("--data gives the new place of the images of --resume RUN. Name new images without --data.")
    elif data is None:
        raise ConfigError("Give the images to train on, such as: tellapart train photos/   (or --resume RUN)")
    else:
        made = ta.make_config(
            recipe=recipe,
            config=config if earlier is None or recipe or config else _settings_of(earlier),
            model=model,
            weights=weights,
            fine_tune=fine_tune,
            image_size=image_size,
            augment=augment,
            epochs=epochs,
            seed=seed,
            track=track or (),
            data=options.data_options(
                label_pattern, path_column, label_column, root, corrections, group_by, crop_boxes, kind
            ),
            settings=settings or (),
        )
        if folds is not None:
            if earlier is not None or seconds is not None or devices is not None or cluster:
                raise ConfigError("--folds trains one configuration, here: omit --from, --time, --devices, --cluster.")
            show_folds(data, folds, made, out)
            return
        given = Given(None if feature_store else cluster, data, trust_code or model is not None, limit)
        with display() as progress, team_of(devices, given, progress) as team:
            run = ta.train(
                data,
                config=made,
                out=out,
                name=recipe,
                command=command_line(),
                earlier=earlier,
                devices=team,
                progress=progress,
                **shared,
            )
    show_run(run, format)
    if format is not options.OutputFormat.json:
        show_outlook(run)
        if earlier is not None and run.status == "done":
            show_comparison(earlier, run)
    end_with(run, strict)


def show_run(run: Run, format: options.OutputFormat) -> None:
    """Print a run's results, what to read and what to do next."""
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
            show(f"Excluding copies of training images: {measured(clean.accuracy)} of {counted(clean.n, 'image')}.")
        for line in verdict_of(run).lines:
            show(line)
    show(f"run     {short(run.path)}")
    show(f"report  {short(run.report_file)}")
    if record.status == "interrupted":
        show(f"resume  tellapart train --resume {typed(run.path)}")
    show(f"next    tellapart predict {typed(run.path)} IMAGES")


def show_outlook(run: Run) -> None:
    """Print what more time would be spent on, and what is at stake."""
    from tellapart.experiments.outlook import outlook

    told = outlook(run)
    for number, sentence in enumerate(told.sentences if told else ()):
        show(f"{'' if number else 'more':8}{sentence}")


def _settings_of(earlier: str) -> Config:
    from tellapart.api.additions import settings_of

    return settings_of(ta.open_run(earlier))


def show_folds(data: str, folds: int, config: Config, out: str | None) -> None:
    """Train the folds and print the figure of all images."""
    with display() as progress:
        done = ta.train_folds(data, folds=folds, config=config, out=out, progress=progress)
    show_figures(done.evaluation)
    show(f"Every image was tested once, by a network that was not trained on it. The average of {folds} networks:")
    show(f"model   {short(done.model)}  {size(done.model.stat().st_size)}")
    show(f"report  {short(done.report)}")
    show(f"next    tellapart predict {typed(done.model)} IMAGES")


def show_comparison(earlier: str, run: Run) -> None:
    """Print whether it is better than the run that it continues, on the test images of both."""
    found = ta.compare(earlier, run.path)
    show(f"compare {found.verdict}")
    for name, accuracy in zip(found.names, found.accuracies, strict=True):
        show(f"        {name}: {measured(accuracy)} on {counted(found.n, 'test image')}")


def end_with(run: Run, strict: bool) -> None:
    """Exit with the code for the run: after Ctrl-C, or with `strict` if something needs a person's decision."""
    from tellapart.evaluation.judge import verdict_of

    if run.status == "interrupted":
        raise typer.Exit(STOPPED)
    if strict and (any(finding.needs_person for finding in run.catalog.findings) or verdict_of(run).mark == "stop"):
        raise typer.Exit(NEEDS_PERSON)
