"""Display shared by `ladder` and `tune`: a live table while runs are trained, and the results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tellapart.cli import options
from tellapart.cli.console import display, short, show, show_json
from tellapart.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from tellapart.experiments.study import StudyResult


def show_study(found: StudyResult, tables: Iterable[Table], then: str, format: options.OutputFormat) -> None:
    """Print the tables, advice and notes, the location of the page, and the next command."""
    if format is options.OutputFormat.json:
        show_json(found.to_dict() | {"page": str(found.study.page_file)})
        return
    for each in tables:
        show(each)
    show(found.advice)
    for note in found.notes:
        show(f"note: {note}")
    show(f"page    {short(found.study.page_file)}")
    show(f"next    {then}")


@contextmanager
def live(table: Callable[..., Table]) -> Iterator[dict[str, Any]]:
    """`progress` and `watch` for a study: a live table made by `table` from the arguments of `watch`, above a line with
    the current step, on standard error. Plain lines if standard error is not a terminal."""
    if not sys.stderr.isatty():
        with display() as progress:
            yield {"progress": progress, "watch": lambda *_: None}
        return
    from rich.console import Console
    from rich.live import Live

    # A separate handle: silencing libraries while they start does not silence the display.
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal,
        Live(console=Console(file=terminal), transient=True, refresh_per_second=4) as shown,
    ):
        board = _Board(shown, table)
        yield {"progress": board, "watch": board.watch}


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
