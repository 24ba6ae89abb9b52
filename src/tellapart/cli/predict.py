"""`tellapart predict RUN PICTURES...`: what the model says of each picture. Imports no TensorFlow."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellapart.cli.console import NEEDS_PERSON
from tellapart.cli.rows import Output

if TYPE_CHECKING:
    from tellapart.inference.predictor import Predictor


def command(
    run: Annotated[str, typer.Argument(help="A run's folder, or a model.onnx.", show_default=False)],
    pictures: Annotated[
        list[str],
        typer.Argument(help="Files, folders, zips, patterns, or - for paths on standard input.", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, help="So many likeliest classes in the table.")] = 1,
    format: Annotated[
        Output | None, typer.Option("--format", help="How the answer is printed.", show_default="table")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Write the answer to this file, once it is whole.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="Write to this .csv or .jsonl row by row; after a kill, the same command goes on."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that each core takes at a time.")] = 4,
) -> None:
    """Predict pictures, in the order given. A picture that cannot be read is a row with its error.

    Exit code 1: some picture could not be read.
    """
    from tellapart.cli.resume import format_of, resumed
    from tellapart.cli.rows import write
    from tellapart.errors import ConfigError
    from tellapart.files import replacing
    from tellapart.inference.pictures import find_pictures

    if resume is not None and out is not None:
        raise ConfigError("--resume and --out each name the file of the answer; give one of them.")
    output = format or Output.table if resume is None else format_of(Path(resume), format)
    predictor = _open(Path(run))
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a path is bytes, whatever the terminal's encoding
    given = find_pictures(pictures, sys.stdin)
    classes = predictor.task.classes
    if resume is not None:
        with resumed(Path(resume), predictor, output) as earlier:
            if earlier.rows:
                print(f"tellapart: going on behind {earlier.rows} rows of {resume}", file=sys.stderr)
            predictions = predictor.predict_named(earlier.left(given), batch_size=batch_size)
            errors = earlier.errors + write(earlier.file, predictions, classes, output, header=False)
    elif out is not None:
        with (
            replacing(Path(out)) as neighbour,
            neighbour.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            errors = write(file, predictor.predict_named(given, batch_size=batch_size), classes, output, top=top)
    else:
        errors = write(sys.stdout, predictor.predict_named(given, batch_size=batch_size), classes, output, top=top)
    if errors:
        print(f"tellapart: {errors} pictures could not be read; their rows say why", file=sys.stderr)
        raise typer.Exit(NEEDS_PERSON)


def _open(path: Path) -> Predictor:
    from tellapart.inference.predictor import Predictor
    from tellapart.runs.run import open_run

    if path.is_file():
        return Predictor(path)
    folder = open_run(path)
    return Predictor(folder.require(folder.onnx_file, "exported network"))
