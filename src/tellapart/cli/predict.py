"""`tellapart predict RUN IMAGES...`: class, probability and verdict of each image. Does not import TensorFlow."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display
from tellapart.cli.exit_codes import NEEDS_PERSON
from tellapart.cli.predict_output import Output
from tellapart.progress import Phase
from tellapart.words import counted

if TYPE_CHECKING:
    from tellapart.data.findings import Finding
    from tellapart.inference.inputs import Held
    from tellapart.inference.prediction import Prediction
    from tellapart.inference.predictor import Predictor
    from tellapart.inference.shift_watch import ShiftWatch
    from tellapart.inference.sorting import Sorting
    from tellapart.progress import Progress
    from tellapart.task import Task


class SortBy(StrEnum):
    """What the folders are named for."""

    label = "label"
    verdict = "verdict"


class SortHow(StrEnum):
    """What is put into them."""

    link = "link"
    copy = "copy"
    plan = "plan"


def command(
    run: Annotated[str, typer.Argument(help="Run folder, or a model.onnx.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, zips, glob patterns, URLs, tables of paths, or - for paths on standard input.",
            show_default=False,
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of top classes in the table.")] = 1,
    format: Annotated[
        Output | None,
        typer.Option("--format", help="Output format.", show_default="from the suffix of --out, else table"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Write the predictions to this file, once complete; with --cluster, to this folder or URL."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="Write to this .csv or .jsonl row by row; if interrupted, the same command continues."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Batch size of each core.", show_default="4; on a GPU 32"),
    ] = None,
    sort_into: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Sort the images into folders here. Nothing is moved or overwritten."),
    ] = None,
    by: Annotated[SortBy, typer.Option(help="With --sort-into: folders by label or by verdict.")] = SortBy.label,
    how: Annotated[
        SortHow, typer.Option(help="With --sort-into: hard links, copies, or only the list sorted.csv.")
    ] = SortHow.link,
    keywords: Annotated[
        bool, typer.Option("--keywords", help="With --sort-into: label and verdict as keywords, in XMP sidecars.")
    ] = False,
    path_column: options.PathColumn = None,
    root: options.Root = None,
    device: options.DeviceOption = options.Device.auto,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS", help="Predict on a Ray cluster (HOST:PORT, ray://HOST:PORT), as parquet files."
        ),
    ] = None,
    part_size: Annotated[
        int | None, typer.Option(min=1, help="Images of each file that --cluster writes.", show_default="2000")
    ] = None,
    exact: options.Exact = False,
) -> None:
    """Predict images, in the given order. An unreadable image gives a row with its error."""
    from tellapart.cli.predict_output import format_by_suffix, tell_errors, write
    from tellapart.cli.predict_resume import format_of, resumed
    from tellapart.data.sources.listing import kind_of
    from tellapart.errors import ConfigError
    from tellapart.files import replacing
    from tellapart.inference.inputs import find_images, require_table

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a path is bytes, whatever the terminal's encoding
    if cluster is not None:
        from tellapart.cli.predict_cluster import Asked, predict_on_cluster

        asked = Asked(cluster, out, device, batch_size, part_size, path_column, root)
        # Here only what its file says is needed.
        here = open_predictor(Path(run), options.Device.cpu)
        alone = resume is None and format is None and top == 1 and sort_into is None and not (keywords or exact)
        predict_on_cluster(here, images, asked, alone=alone)
        return
    if part_size is not None:
        raise ConfigError("--part-size applies to --cluster. Omit it.")
    if resume is not None and out is not None:
        raise ConfigError("--resume and --out both name the output file. Give one of them.")
    require_table(images, path_column, root)
    output = format or format_by_suffix(out) if resume is None else format_of(Path(resume), format)
    one = len(images) == 1 and kind_of(images[0]) == "image" and Path(images[0]).is_file()
    predictor, watch = _open(Path(run), device, one=one, exact=exact)
    sorting = _sorting(sort_into, (by.value, how.value), predictor.task, keywords, images)
    take = _taking(partial(predictor.predict_named, batch_size=batch_size, watch=watch), sorting)
    # Rows printed on the terminal show the progress themselves.
    shown = out is None and resume is None and sys.stdout.isatty()
    left_out: list[Finding] = []
    given = find_images(images, sys.stdin, path_column=path_column, root=root, told=left_out.append)
    classes = predictor.task.classes
    if resume is not None:
        with resumed(Path(resume), predictor, output) as earlier:
            if earlier.rows:
                print(f"tellapart: continuing after {earlier.rows} rows of {resume}", file=sys.stderr)
            with _counted(take(earlier.left(given)), shown) as predictions:
                errors = earlier.errors + write(earlier.file, predictions, classes, output, header=False)
    elif out is not None:
        with (
            replacing(Path(out)) as neighbour,
            neighbour.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
            _counted(take(given), shown) as predictions,
        ):
            errors = write(file, predictions, classes, output, top=top)
        _withhold(watch, Path(out), output)
    else:
        with _counted(take(given), shown) as predictions:
            errors = write(sys.stdout, predictions, classes, output, top=top)
    if written := resume or out:
        print(f"tellapart: written as {output.value} to {written}", file=sys.stderr)
    if sorting:
        _tell_sorted(sorting)
    _tell_shift(watch)
    if tell_errors(errors, left_out):
        raise typer.Exit(NEEDS_PERSON)


def _tell_shift(watch: ShiftWatch | None) -> None:
    shift = watch and watch.shift()
    for sentence in shift.sentences if shift and shift.found else ():
        print(f"tellapart: {sentence}", file=sys.stderr)


def _withhold(watch: ShiftWatch | None, file: Path, output: Output) -> None:
    """In the rows of a file that is written, where what is sure is not to be trusted."""
    shift = watch and watch.shift()
    if not (shift and shift.withheld):
        return
    from tellapart.cli.predict_output import withhold
    from tellapart.files import replacing

    opened = partial(open, encoding="utf-8", errors="surrogateescape", newline="")
    with opened(file) as written, replacing(file) as neighbour, opened(neighbour, "w") as changed:
        withhold(written, changed, output)


def _sorting(
    into: str | None, choice: tuple[str, str], task: Task, keywords: bool, images: list[str]
) -> Sorting | None:
    from tellapart.errors import ConfigError

    if into is None:
        if keywords or choice != (SortBy.label, SortHow.link):
            raise ConfigError("--by, --how and --keywords need --sort-into DIR, which names the folder to sort into.")
        return None
    from tellapart.inference.sorting import Sorting  # not where nothing is sorted: it takes 13 ms
    from tellapart.task import require_one_label

    if choice[0] == SortBy.label:
        instead = "Use --by verdict; with --keywords, all labels of an image are written beside it."
        require_one_label(task.several, "--sort-into by label", instead)
    made = Sorting(Path(into), choice[0], choice[1], task.classes, keywords)  # type: ignore[arg-type]  # enums' words
    made.refuse_among(images)
    return made


def _taking(
    predict: Callable[[Iterable[tuple[str, Held]]], Iterator[Prediction]], sorting: Sorting | None
) -> Callable[[Iterable[tuple[str, Held]]], Iterator[Prediction]]:
    """The same, with each image put in its place as its prediction comes."""
    if sorting is None:
        return predict
    return lambda images: sorting.sorted(predict(sorting.watched(images)))


def _tell_sorted(sorting: Sorting) -> None:
    from tellapart.inference.sorting import LIST

    verb = {"link": "linked", "copy": "copied", "plan": "planned"}[sorting.how]
    left = f"; {counted(len(sorting.left), 'image')} left in place" if sorting.left else ""
    print(
        f"tellapart: {counted(sorting.placed, 'image')} {verb}{left}; listed in {sorting.folder / LIST}",
        file=sys.stderr,
    )


@contextmanager
def _counted(predictions: Iterator[Prediction], shown: bool) -> Iterator[Iterator[Prediction]]:
    """The same predictions, counted on standard error as they come, unless they are shown themselves."""
    if shown:
        yield predictions
        return

    def told(progress: Progress) -> Iterator[Prediction]:
        for number, prediction in enumerate(predictions, start=1):
            yield prediction
            progress.update(Phase.PREDICTING, number, 0)

    with display() as progress:
        yield told(progress)


def _open(path: Path, device: options.Device, *, one: bool, exact: bool) -> tuple[Predictor, ShiftWatch | None]:
    """And who tells whether the images differ from those it was validated on; of `one` image nobody can."""
    if path.is_file():
        return open_predictor(path, device), None
    run = ta.open_run(path)
    predictor = _predictor_of(run, device, exact)
    if one:
        return predictor, None
    from tellapart.evaluation.shift import Reference
    from tellapart.inference.shift_watch import ShiftWatch

    reference = Reference.of_run(run)
    return predictor, ShiftWatch(reference) if reference else None


def open_predictor(path: Path, device: options.Device) -> Predictor:
    """Of a run, or of a model.onnx. Raises ConfigError for any other file."""
    from tellapart.errors import ConfigError
    from tellapart.inference.predictor import Predictor

    if path.is_file():
        if path.suffix.lower() != ".onnx":
            raise ConfigError(f"{path} is neither a run nor an .onnx file. Name the run first, then the images.")
        return Predictor(path, device=device.value)
    return _predictor_of(ta.open_run(path), device, exact=False)


def _predictor_of(run: ta.Run, device: options.Device, exact: bool) -> Predictor:
    from tellapart.files import terminal_safe

    if run.missing_report:
        print(terminal_safe(f"tellapart: {run.missing_report}"), file=sys.stderr)
    predictor = run.predictor(device=device.value, exact=exact)
    if predictor.arithmetic != "float32":
        from tellapart.inference.fast import told

        print(f"tellapart: {told(predictor)}", file=sys.stderr)
    return predictor
