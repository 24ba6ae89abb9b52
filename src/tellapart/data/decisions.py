"""Decisions -> a corrections.csv that grows by a row each, at once on the disk, and can be undone to its beginning.

In: what a person decides of images, one after the other. Out: the file that `train --corrections` takes. A killed
process loses nothing that `append` or `undo` returned for; a row that was half written is cut off at the next opening.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from tellapart.data.corrections import COLUMNS, UNDO, Correction, effective, read_corrections
from tellapart.errors import ConfigError, TellapartError
from tellapart.files import as_cell, from_cell, replacing, write_csv

LOG_COLUMNS = (*COLUMNS, "decision", "doubt")
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class OutdatedError(TellapartError):
    """Something else was decided since; what is there now is to be looked at first."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided at one time. number: 1 and up, never used twice. doubt: the key of what was in doubt, or empty.
    rows: of the images."""

    number: int
    doubt: str
    rows: tuple[Correction, ...]


class Decisions:
    """The decisions in a file. Any thread may call its methods.

    version: grows with every decision and undo. Who decides says which version was before his eyes, so that two who
    decide at a time do not overwrite each other.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that is no table of corrections. It is made by the first decision."""
        self.path = path
        self._lock = threading.Lock()
        self._made: list[Decision] = []
        self._next, self._version, self._size, self._ours = 1, 0, 0, False
        self._load()

    @property
    def made(self) -> tuple[Decision, ...]:
        """Those that stand, in the order in which they were made."""
        return tuple(self._made)

    @property
    def version(self) -> int:
        return self._version

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What counts of them all."""
        return effective(row for decision in self._made for row in decision.rows)

    def append(self, decided: Sequence[tuple[str, Sequence[Correction]]], version: int) -> None:
        """Write what was decided together, and is undone together: of each doubt its rows. Returns once it is on the
        disk. Raises OutdatedError where `version` is not the newest, ConfigError where the file cannot be written."""
        with self._lock:
            self._require(version)
            number = self._next
            rows = [[*attrgetter(*COLUMNS)(row), number, doubt] for doubt, each in decided for row in each]
            if not rows:
                return
            self._write(rows)
            self._made += [Decision(number, doubt, tuple(each)) for doubt, each in decided]
            self._next += 1
            self._version += 1

    def undo(self, version: int) -> tuple[Decision, ...]:
        """Take back the last that stands, and give what it was; empty where none is left. Raises as `append`."""
        with self._lock:
            self._require(version)
            if not self._made:
                return ()
            number = self._made[-1].number
            undone = tuple(decision for decision in self._made if decision.number == number)
            self._write([[undone[0].rows[0].path, UNDO, "", "", "", number, ""]])
            self._made = [decision for decision in self._made if decision.number != number]
            self._version += 1
            return undone

    def _require(self, version: int) -> None:
        if self._there() != self._size:
            self._load()  # somebody edited the file, or another process decided
            self._version += 1
        if version != self._version:
            raise OutdatedError(
                "Something was decided elsewhere meanwhile. Look at what is there now, and decide again."
            )

    def _there(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _write(self, rows: list[list[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([[as_cell(str(cell)) for cell in row] for row in rows])
        try:
            if not self._ours:
                self._adopt()
            handle = os.open(self.path, _FLAGS, 0o666)
            try:
                content = text.getvalue().encode("utf-8", "surrogateescape")
                if os.write(handle, content) != len(content):
                    raise OSError(0, "the disk is full")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            self._load()
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}. Nothing was decided.") from None
        self._size = self._there()

    def _adopt(self) -> None:
        """A new file, or one of other columns as a log of ours: whole or not at all."""
        rows = ([*attrgetter(*COLUMNS)(row), each.number, each.doubt] for each in self._made for row in each.rows)
        with replacing(self.path) as neighbour:
            write_csv(neighbour, [LOG_COLUMNS, *rows])
        self._ours = True

    def _load(self) -> None:
        self._made, self._next, self._ours, self._size = [], 1, False, self._there()
        if not self._size:
            return
        _mend_end(self.path)
        self._size = self._there()
        found = read_corrections(self.path)  # says what is wrong with it
        text = self.path.read_bytes().decode("utf-8-sig", "surrogateescape")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        self._ours = bool(rows) and tuple(rows[0]) == LOG_COLUMNS
        if not self._ours:
            self._made = [Decision(number, "", (row,)) for number, row in enumerate(found, 1)]
            self._next = len(found) + 1
        else:
            self._replay([dict(zip(LOG_COLUMNS, map(from_cell, row), strict=False)) for row in rows[1:] if any(row)])
        self._version = max(self._version, len(rows) - 1)

    def _replay(self, rows: Sequence[dict[str, str]]) -> None:
        by: dict[tuple[int, str], list[Correction]] = {}
        for cells in rows:
            number = int(cells["decision"]) if cells.get("decision", "").isdecimal() else self._next
            self._next = max(self._next, number + 1)
            if cells["action"] == UNDO:
                by = {key: each for key, each in by.items() if key[0] != number}
            else:
                row = Correction(*(cells[name] for name in COLUMNS))  # type: ignore[arg-type]  # read_corrections looked
                by.setdefault((number, cells.get("doubt", "")), []).append(row)
        self._made = [Decision(number, doubt, tuple(each)) for (number, doubt), each in by.items()]


def _mend_end(path: Path) -> None:
    """A last line without its end was cut off by a crash, or a person's editor leaves it so: it is ended if it can be
    read, and else removed."""
    content = path.read_bytes()
    if content.endswith(b"\n"):
        return
    whole = content[: content.rfind(b"\n") + 1]
    last = content[len(whole) :]
    fields = next(csv.reader(io.StringIO(last.decode("utf-8", "surrogateescape"), newline="")), [])
    first = content.partition(b"\n")[0].decode("utf-8-sig", "surrogateescape")
    ended = bool(whole) and len(fields) < len(first.split(";" if ";" in first and "," not in first else ","))
    with path.open("r+b") as file:
        if ended:
            file.truncate(len(whole))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\r\n")
        file.flush()
        os.fsync(file.fileno())
