"""`tellapart predict RUN PICTURES...`: what the model says of each picture. Imports no TensorFlow."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from tellapart.cli.console import NEEDS_PERSON, printable

if TYPE_CHECKING:
    from tellapart.inference.predictor import Prediction


class Output(StrEnum):
    """How predictions are printed."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"


def command(
    run: Annotated[str, typer.Argument(help="A run's folder, or a model.onnx.", show_default=False)],
    pictures: Annotated[
        list[str],
        typer.Argument(help="Files, folders, zips, patterns, or - for paths on standard input.", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, help="So many likeliest classes in the table.")] = 1,
    format: Annotated[Output, typer.Option("--format", help="How the answer is printed.")] = Output.table,
    out: Annotated[str | None, typer.Option(help="Write the answer to this file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 32,
) -> None:
    """Predict pictures, in the order given. A picture that cannot be read is a row with its error.

    Exit code 1: some picture could not be read.
    """
    from pathlib import Path

    from tellapart.files import replacing
    from tellapart.inference.pictures import find_pictures
    from tellapart.inference.predictor import Predictor
    from tellapart.runs.run import open_run

    path = Path(run)
    if path.is_file():
        predictor = Predictor(path)
    else:
        folder = open_run(path)
        predictor = Predictor(folder.require(folder.onnx_file, "exported network"))
    predictions = predictor.predict_named(find_pictures(pictures, sys.stdin), batch_size=batch_size)
    classes = predictor.task.classes
    if out is None:
        errors = _write(sys.stdout, predictions, classes, format, top)
    else:
        with (
            replacing(Path(out)) as neighbour,
            neighbour.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            errors = _write(file, predictions, classes, format, top)
    if errors:
        print(f"tellapart: {errors} pictures could not be read; their rows say why", file=sys.stderr)
        raise typer.Exit(NEEDS_PERSON)


def _write(file: TextIO, predictions: Iterable[Prediction], classes: tuple[str, ...], output: Output, top: int) -> int:
    """Print each prediction as it comes, so that memory stays bounded; returns how many had an error."""
    errors = 0

    def counted() -> Iterator[Prediction]:
        nonlocal errors
        for prediction in predictions:
            errors += bool(prediction.error)
            yield prediction

    if output is Output.table:
        _write_table(file, counted(), classes, top)
    elif output is Output.csv:
        _write_csv(file, counted(), classes)
    else:
        _write_json(file, counted(), lines=output is Output.jsonl)
    file.flush()
    return errors


def _write_table(file: TextIO, predictions: Iterator[Prediction], classes: tuple[str, ...], top: int) -> None:
    width = max(map(len, classes))
    for p in predictions:
        if p.error:
            answer = f"error: {p.error}"
        else:
            answer = "   ".join(f"{label:{width}}  {100 * value:5.1f} %" for label, value in p.top(top))
            answer += f"   {p.verdict:6}" if p.verdict else ""
        file.write(f"{answer:{width + 9}}   {printable(p.path)}\n")


def _write_csv(file: TextIO, predictions: Iterator[Prediction], classes: tuple[str, ...]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "label", "probability", "verdict", "distance", *classes, "error"])
    for p in predictions:
        values = [""] * len(classes) if p.error else map(_figure, p.probabilities.values())
        said = [p.label, _figure(p.probability), p.verdict, _figure(p.distance)]
        writer.writerow([printable(p.path), *said, *values, p.error])


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _write_json(file: TextIO, predictions: Iterator[Prediction], *, lines: bool) -> None:
    """One array, or with `lines` one object a line."""
    before = "" if lines else "["
    for p in predictions:
        text = json.dumps(_plain(p), ensure_ascii=False)
        file.write(f"{text}\n" if lines else f"{before}\n  {text}")
        before = ","
    if not lines:
        file.write("\n]\n" if before == "," else "[]\n")


def _plain(p: Prediction) -> dict[str, Any]:
    if p.error:
        return {"path": printable(p.path), "error": p.error}
    values = {label: round(value, 6) for label, value in p.probabilities.items()}
    return {
        "path": printable(p.path),
        "label": p.label,
        "probability": round(p.probability, 6),
        "probabilities": values,
        "verdict": p.verdict or None,
        "distance": None if math.isnan(p.distance) else round(p.distance, 6),
    }
