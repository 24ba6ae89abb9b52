"""`tellapart predict RUN IMAGES...`: class, probability and verdict of each image. Does not import TensorFlow."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

if TYPE_CHECKING:
    from tellapart.data.findings import Finding
    from tellapart.inference.prediction import Prediction
    from tellapart.inference.predictor import Predictor
    from tellapart.inference.shift_watch import ShiftWatch
    from tellapart.progress import Progress


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
    out: Annotated[str | None, typer.Option(help="Write the predictions to this file, once they are complete.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="Write to this .csv or .jsonl row by row; if interrupted, the same command continues."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Batch size of each core.", show_default="4; on a GPU 32"),
    ] = None,
    path_column: options.PathColumn = None,
    root: options.Root = None,
    device: options.DeviceOption = options.Device.auto,
    exact: options.Exact = False,
) -> None:
    """Predict images, in the given order. An unreadable image gives a row with its error."""
    from tellapart.cli.predict_output import format_by_suffix, write
    from tellapart.cli.predict_resume import format_of, resumed
    from tellapart.data.image_formats import SUFFIXES
    from tellapart.errors import ConfigError, some
    from tellapart.files import harmless, replacing
    from tellapart.inference.inputs import find_images, require_table

    if resume is not None and out is not None:
        raise ConfigError("--resume and --out both name the output file. Give one of them.")
    require_table(images, path_column, root)
    output = format or format_by_suffix(out) if resume is None else format_of(Path(resume), format)
    one = len(images) == 1 and Path(images[0]).suffix.lower() in SUFFIXES
    predictor, watch = _open(Path(run), device, one=one, exact=exact)
    take = partial(predictor.predict_named, batch_size=batch_size, watch=watch)
    # Rows printed on the terminal show the progress themselves.
    shown = out is None and resume is None and sys.stdout.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a path is bytes, whatever the terminal's encoding
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
    else:
        with _counted(take(given), shown) as predictions:
            errors = write(sys.stdout, predictions, classes, output, top=top)
    if written := resume or out:
        print(f"tellapart: written as {output.value} to {written}", file=sys.stderr)
    shift = watch and watch.shift()
    for sentence in shift.sentences if shift and shift.found else ():
        print(f"tellapart: {sentence}", file=sys.stderr)
    if errors:
        count = (
            "1 image could not be read; its row says"
            if errors == 1
            else f"{errors:,} images could not be read; their rows say"
        )
        print(f"tellapart: {count} why", file=sys.stderr)
    for finding in left_out:
        words = f"{finding.meaning} {finding.done} ({some(finding.paths, 3)})"
        print(f"tellapart: {harmless(words)}", file=sys.stderr)
    if errors or any(finding.needs_person for finding in left_out):
        raise typer.Exit(NEEDS_PERSON)


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
    from tellapart.errors import ConfigError
    from tellapart.files import harmless
    from tellapart.inference.predictor import Predictor

    if path.is_file():
        if path.suffix.lower() != ".onnx":
            raise ConfigError(f"{path} is neither a run nor an .onnx file. Name the run first, then the images.")
        return Predictor(path, device=device.value), None
    run = ta.open_run(path)
    if run.missing_report:
        print(harmless(f"tellapart: {run.missing_report}"), file=sys.stderr)
    predictor = run.predictor(device=device.value, exact=exact)
    if predictor.arithmetic != "float32":
        from tellapart.inference.fast import told

        print(f"tellapart: {told(predictor)}", file=sys.stderr)
    if one:
        return predictor, None
    from tellapart.evaluation.shift import Reference
    from tellapart.inference.shift_watch import ShiftWatch

    reference = Reference.of_run(run)
    return predictor, ShiftWatch(reference) if reference else None
