"""A live table of runs in training, above a line with the current step; both on standard error.

Plain lines if standard error is not a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tellapart.cli.console import display
from tellapart.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table


@contextmanager
def live(table: Callable[..., Table]) -> Iterator[tuple[Progress, Callable[..., None]]]:
    """Progress, and a function to call with the arguments of `table` whenever they change."""
    if not sys.stderr.isatty():
        with display() as progress:
            yield progress, lambda *_: None
        return
    from rich.console import Console
    from rich.live import Live

    # A separate handle: silencing libraries while they start does not silence the display.
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
