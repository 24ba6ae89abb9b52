"""What `ladder` and `tune` share: how they begin or go on, the table that changes meanwhile, and how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from tellapart.cli import options
from tellapart.cli.console import display, short, show, show_json, table
from tellapart.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from tellapart.experiments.ladder_result import LadderResult
    from tellapart.experiments.study import Study
    from tellapart.experiments.tune_result import TuneResult

Found = TypeVar("Found", "LadderResult", "TuneResult")


def begin_or_resume(
    command: str,
    data: str | None,
    resume: str | None,
    settled: Iterable[object],
    *,
    noun: str,
    besides: str,
    progress_table: Callable[..., Table],
    begin: Callable[..., Found],
    go_on: Callable[..., Found],
) -> Found:
    """Whichever of `begin` and `go_on` is asked for, called with progress and watch, under a live table.

    settled: what is decided when it begins, None where it is not given. noun: what the command writes. besides: what
    --resume takes beside it.
    """
    from tellapart.errors import ConfigError

    if resume is not None:
        options.resume_alone(noun, data, *settled, besides=besides)
    elif data is None:
        raise ConfigError(f"Give the images, such as: tellapart {command} photos/   (or --resume {command.upper()})")
    with _live(progress_table) as (progress, watch):
        return (begin if resume is None else go_on)(progress=progress, watch=watch)


def spent_table(study: Study, *columns: str) -> Table:
    """An empty one, under how much of the budget is spent."""
    made = table(*columns)
    made.title = f"{study.record['spent_seconds']:,.0f} of {study.record['budget_seconds']:,.0f} seconds"
    return made


def show_study(
    found: LadderResult | TuneResult, study: Study, tables: Iterable[Table], then: str, format: options.OutputFormat
) -> None:
    """Its tables, advice and notes, where its page is, and the command to go on with."""
    if format is options.OutputFormat.json:
        show_json(found.to_dict() | {"page": str(study.page_file)})
        return
    for each in tables:
        show(each)
    show(found.advice)
    for note in found.notes:
        show(f"note: {note}")
    show(f"page    {short(study.page_file)}")
    show(f"next    {then}")


@contextmanager
def _live(table: Callable[..., Table]) -> Iterator[tuple[Progress, Callable[..., None]]]:
    """Progress, and what is to be called with the arguments of `table` whenever they change: a table over a line of
    what is going on, on standard error; plain lines where that is no terminal."""
    if not sys.stderr.isatty():
        with display() as progress:
            yield progress, lambda *_: None
        return
    from rich.console import Console
    from rich.live import Live

    # A handle of its own: libraries that are silenced while they start do not silence the display.
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal,
        Live(console=Console(file=terminal), transient=True, refresh_per_second=4) as shown,
    ):
        board = _Board(shown, table)
        yield board, board.watch


class _Board(Progress):
    def __init__(self, shown: Any, table: Callable[..., Table]) -> None:
        self._shown, self._make = shown, table
        self._table: Table | str = ""
        self._stage = ""

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        self._stage = "  ".join(part for part in (f"{stage}: {done} of {total}", detail) if part)
        self._draw()

    def line(self, text: str) -> None:
        self._stage = text
        self._draw()

    def watch(self, *values: Any) -> None:
        self._table = self._make(*values)
        self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        self._shown.update(Group(self._table, Text(self._stage, overflow="ellipsis", no_wrap=True)))
