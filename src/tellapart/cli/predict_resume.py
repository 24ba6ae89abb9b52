"""`predict --resume`: a csv or jsonl of predictions, written row by row and continued after an interruption.

In: the images in order; out: those without a row yet, and the file, open for the rest. No row is lost or written
twice. FILE.json next to it records which network its rows are from. A row counts once its line ends.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from tellapart.cli.predict_output import Output, columns, write_row
from tellapart.errors import ConfigError
from tellapart.files import from_cell, from_json, printable, read_text, to_json, write_text
from tellapart.runs.lock import take

if TYPE_CHECKING:
    from tellapart.inference.inputs import Held
    from tellapart.inference.predictor import Predictor

FORMATS = {".csv": Output.csv, ".jsonl": Output.jsonl}


@dataclass(frozen=True)
class Resumed:
    """file: for the remaining rows; each is safe once written. rows: how many exist; errors: how many of them have an
    error instead of a prediction. done: how many rows each image has, by the digest of its name."""

    file: TextIO
    rows: int
    errors: int
    done: Counter[bytes]

    def left(self, images: Iterable[tuple[str, Held]]) -> Iterator[tuple[str, Held]]:
        """The images, in order, except those that have a row; one named twice has two rows."""
        for name, source in images:
            key = _key(printable(name))
            if self.done[key]:
                self.done[key] -= 1
            else:
                yield name, source


def format_of(path: Path, given: Output | None) -> Output:
    """By the suffix. Raises ConfigError for another than .csv or .jsonl, or another format beside it."""
    found = FORMATS.get(path.suffix.lower())
    if found is None or given not in (None, found):
        wanted = " or ".join(FORMATS)
        asked = "" if given is None else f" with --format {given}"
        raise ConfigError(f"--resume needs a file that ends in {wanted}, which sets its format; given {path}{asked}.")
    return found


@contextmanager
def resumed(path: Path, predictor: Predictor, output: Output) -> Iterator[Resumed]:
    """The file at `path`, created if missing; an unfinished last row is cut off.

    Raises ConfigError, and changes nothing, for a file with rows of another network or another origin, or a file that
    another process is writing.
    """
    beside = path.with_name(f"{path.name}.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        binary = path.open("a+b")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
    with binary:
        _lock(binary, path)
        record = {"model": _digest(predictor.path), "classes": list(predictor.task.classes)}
        end, errors, done = _read(binary, path, predictor.task.classes, output)
        if end:
            _require_same(path, beside, record)
        else:
            write_text(beside, to_json(record, indent=2) + "\n")
        binary.truncate(end)
        with path.open("a", encoding="utf-8", newline="", buffering=1) as file:
            if output is Output.csv and not end:
                write_row(file, columns(predictor.task.classes))
            yield Resumed(file, done.total(), errors, done)


def _read(binary: BinaryIO, path: Path, classes: tuple[str, ...], output: Output) -> tuple[int, int, Counter[bytes]]:
    """Where the last complete row ends, how many rows are errors, and how many rows each image has."""
    binary.seek(0)
    end, errors, done = 0, 0, Counter[bytes]()
    header = columns(classes) if output is Output.csv else None
    for number, (until, text) in enumerate(_records(binary, quoted=header is not None), start=1):
        end = until
        if header and number == 1 and _cells(text) == header:
            continue
        row = _csv_row(text, header, number) if header else _json_row(text, classes)
        if row is None:
            what = f"the columns {','.join(header)}" if header else f"objects with the classes {', '.join(classes)}"
            raise ConfigError(
                f"Line {number} of {path} was not written by this run; expected {what}. "
                "Name the run that wrote these predictions, or another file."
            )
        name, error = row
        done[_key(name)] += 1
        errors += bool(error)
    return end, errors, done


def _records(binary: BinaryIO, *, quoted: bool) -> Iterator[tuple[int, str]]:
    """(end, text) of each complete record. quoted: a line may end inside quotes, which csv puts around a file name with
    a line break."""
    held, end = b"", 0
    for line in binary:
        held += line
        if held.endswith(b"\n") and not (quoted and held.count(b'"') % 2):
            end += len(held)
            yield end, held.decode("utf-8", "replace")
            held = b""


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error:
        return []


def _csv_row(text: str, header: list[str], number: int) -> tuple[str, str] | None:
    """Path and error; None if this is not a row, as on the first line."""
    cells = _cells(text)
    return (from_cell(cells[0]), cells[-1]) if number > 1 and len(cells) == len(header) else None


def _json_row(text: str, classes: tuple[str, ...]) -> tuple[str, str] | None:
    try:
        row = from_json(text)
        name, error = row["path"], row.get("error", "")
        fits = bool(error) or list(row["probabilities"]) == list(classes)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return (str(name), str(error)) if fits else None


def _require_same(path: Path, beside: Path, record: dict[str, Any]) -> None:
    try:
        found = from_json(read_text(beside))
    except (OSError, ValueError):
        raise ConfigError(
            f"{path} has rows, but {beside.name}, which records the network they are from, is missing or incomplete. "
            "Only a file that --resume started can be continued. Name another file."
        ) from None
    if found != record:
        raise ConfigError(
            f"According to {beside.name}, the rows of {path} are from another network than this run's. "
            "Name the run that wrote them, or another file."
        )


def _lock(binary: BinaryIO, path: Path) -> None:
    """Until the file is closed."""
    if not take(binary.fileno()):
        raise ConfigError(f"Another process is writing {path}. Wait for it, or name another file.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _key(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()
