"""Predictions -> output rows: a table, csv (also as Excel opens it), JSON or JSON Lines, each written as it comes."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, TextIO

from tellapart.cli.console import json_text
from tellapart.errors import ConfigError, some
from tellapart.files import as_cell, printable, terminal_safe
from tellapart.words import probability

if TYPE_CHECKING:
    from tellapart.data.findings import Finding
    from tellapart.inference.prediction import Prediction


class Output(StrEnum):
    """How predictions are printed."""

    table = "table"
    csv = "csv"
    excel = "excel"
    json = "json"
    jsonl = "jsonl"


NONE = "none"
"""Of the labels, of which an image may have several: in a table for people; in files the label is empty."""

BY_SUFFIX = {
    ".csv": Output.csv,
    ".json": Output.json,
    ".jsonl": Output.jsonl,
    ".txt": Output.table,
    ".log": Output.table,
    ".md": Output.table,
    "": Output.table,
}


def format_by_suffix(path: str | None) -> Output:
    """The format for a file name's suffix; a table for text, and if there is no file. Raises ConfigError for any other
    suffix, as the content would contradict the name."""
    suffix = PurePath(path or "").suffix.lower()
    if suffix not in BY_SUFFIX:
        excel = " Excel opens a .csv." if suffix in (".xlsx", ".xls", ".ods") else ""
        raise ConfigError(
            f"Predictions cannot be written as {suffix}. Use a name that ends in .csv, .json, .jsonl or .txt.{excel} "
            "--format sets the format whatever the name."
        )
    return BY_SUFFIX[suffix]


def write(
    file: TextIO,
    predictions: Iterable[Prediction],
    classes: tuple[str, ...],
    output: Output,
    *,
    top: int = 1,
    header: bool = True,
) -> int:
    """Print each prediction as it comes, so that memory stays bounded; returns how many had an error.

    top: number of classes in the table. header: whether csv gets one.
    """
    errors = 0

    def counted() -> Iterator[Prediction]:
        nonlocal errors
        for prediction in predictions:
            errors += bool(prediction.error)
            yield prediction

    if output is Output.table:
        _write_table(file, counted(), classes, top)
    elif output in (Output.csv, Output.excel):
        if output is Output.excel:
            file.write("\ufeff")  # by which it recognises UTF-8
        _write_csv(file, counted(), classes, header, "\r\n" if output is Output.excel else "\n")
    else:
        _write_json(file, counted(), lines=output is Output.jsonl)
    file.flush()
    return errors


def withhold(written: TextIO, file: TextIO, output: Output) -> None:
    """Copy what `write` wrote, with no verdict sure: those are unsure."""
    if output in (Output.csv, Output.excel):
        if output is Output.excel:
            file.write(written.read(1))  # the mark that `write` begins with is no part of the first cell
        place = columns(()).index("verdict")
        for cells in csv.reader(written):
            cells[place] = "unsure" if cells[place] == "sure" else cells[place]
            write_row(file, cells, "\r\n" if output is Output.excel else "\n")
        return
    # In JSON, quotes inside a name are escaped, so that no name looks like a verdict; in a table the verdict is first.
    if output is Output.table:
        sure, unsure = "sure     ", "unsure   "
    else:
        sure, unsure = '"verdict": "sure"', '"verdict": "unsure"'
    for line in written:
        here = output is not Output.table or line.startswith(sure)
        file.write(line.replace(sure, unsure, 1) if here else line)


def tell_errors(errors: int, left_out: Sequence[Finding]) -> bool:
    """On standard error: how many rows are errors, and which files of a folder were left out; returns whether a person
    should look."""
    if errors:
        count = (
            "1 image could not be read; its row says"
            if errors == 1
            else f"{errors:,} images could not be read; their rows say"
        )
        print(f"tellapart: {count} why", file=sys.stderr)
    for finding in left_out:
        words = f"{finding.meaning} {finding.done} ({some(finding.paths, 3)})"
        print(f"tellapart: {terminal_safe(words)}", file=sys.stderr)
    return bool(errors) or any(finding.needs_person for finding in left_out)


def columns(classes: tuple[str, ...]) -> list[str]:
    """The header of csv. Names in it, as in all cells, are written as files.as_cell does."""
    return ["path", "label", "probability", "verdict", "distance", *map(as_cell, classes), "warning", "error"]


def write_row(file: TextIO, cells: Sequence[str], end: str = "\n") -> None:
    """A line of csv. Python before 3.13 leaves a carriage return unquoted, and readers then end the row there."""
    quoted = any("\r" in cell for cell in cells)
    writer = (
        csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL) if quoted else csv.writer(file, lineterminator=end)
    )
    writer.writerow(cells)


def _write_table(file: TextIO, predictions: Iterator[Prediction], classes: tuple[str, ...], top: int) -> None:
    width = max(len(terminal_safe(name)) for name in classes)
    for p in predictions:
        if p.error:
            answer = f"error: {_on_a_line(p.error)}"
        else:
            said = p.told(top) or [(NONE, p.probability)]
            named = (f"{_on_a_line(label):{width}}  {probability(value):>8}" for label, value in said)
            # The verdict comes first: for an image that is unlike, the class says little.
            answer = "   ".join([f"{p.verdict:6}"] * bool(p.verdict) + list(named))
        damage = f"   damaged: {_on_a_line(p.warning)}" if p.warning else ""
        file.write(f"{answer:{width + 9}}   {_on_a_line(p.path)}{damage}\n")


def _on_a_line(text: str) -> str:
    """A name with a line break must not start another row."""
    return terminal_safe(text).replace("\n", "\\n")


def _write_csv(
    file: TextIO, predictions: Iterator[Prediction], classes: tuple[str, ...], header: bool, end: str
) -> None:
    text = terminal_safe if file.isatty() else printable
    if header:
        write_row(file, [text(name) for name in columns(classes)], end)
    for p in predictions:
        values = [""] * len(classes) if p.error else map(_figure, p.probabilities.values())
        said = [as_cell(text(p.label)), _figure(p.probability), p.verdict, _figure(p.distance)]
        write_row(file, [as_cell(text(p.path)), *said, *values, as_cell(text(p.warning)), as_cell(text(p.error))], end)


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _write_json(file: TextIO, predictions: Iterator[Prediction], *, lines: bool) -> None:
    """One array, or with `lines` one object a line."""
    before = "" if lines else "["
    for p in predictions:
        text = json_text(p.to_dict())
        file.write(f"{text}\n" if lines else f"{before}\n  {text}")
        before = ","
    if not lines:
        file.write("\n]\n" if before == "," else "[]\n")
