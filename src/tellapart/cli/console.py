"""What all commands share: progress on standard error, tables, text and JSON on standard output."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tellapart.files import terminal_safe, to_json
from tellapart.progress import Lines, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@contextmanager
def display() -> Iterator[Progress]:
    """A live display on a terminal, plain lines elsewhere; both on standard error."""
    if not sys.stderr.isatty():
        with _own_stderr() as stream:
            yield Lines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with (
        _own_stderr() as terminal,
        Bar(*columns, console=Console(file=terminal), transient=True) as bar,
    ):
        yield _LiveProgress(bar)


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """A separate handle: silencing libraries while they start does not silence the display."""
    try:
        handle = os.dup(sys.stderr.fileno())
    except OSError:  # not a file but a stream of a host program, which silencing does not affect
        yield sys.stderr
        return
    with os.fdopen(handle, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors) as stream:
        yield stream


class _LiveProgress(Progress):
    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._stage = ""
        self._task: Any = None

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if stage != self._stage:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._stage = stage
            self._task = self._bar.add_task(stage, total=total or None, detail=detail)
        self._bar.update(self._task, completed=done, total=total or None, detail=detail)

    def line(self, text: str) -> None:
        self._bar.console.print(terminal_safe(text), markup=False, highlight=False)


NAME_WIDTH = 36
"""Characters of the first column that are kept on one line: a wrapped name cannot be copied or searched for."""


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table, whose cells are shown `terminal_safe`. A column whose name starts with `>` is right-aligned; one
    whose name starts with `?` is dropped by `show` if the terminal is too narrow, the last of them first."""
    from rich import box
    from rich.table import Table

    class Harmless(Table):
        optional: list[str]

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(terminal_safe(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    made = Harmless(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    made.optional = []
    for column in columns:
        plain = column.removeprefix("?")
        name = terminal_safe(plain.removeprefix(">"))
        made.add_column(name, justify="right" if plain.startswith(">") else "left", overflow="fold")
        if column.startswith("?"):
            made.optional.append(name)
    return made


def show(value: Any) -> None:
    """Print a table or text to standard output, as wide as the terminal, or as wide as needed if it is not one."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=width_shown(), markup=False, highlight=False, emoji=False)
    if isinstance(value, str):
        for line in value.split("\n"):
            _show_line(terminal_safe(line), console)
        return
    if isinstance(value, Table):
        left_out = _fit(value, console)
        console.print(value)
        if left_out:
            console.print(
                f"Not shown for lack of width: {', '.join(left_out)}. A wider terminal or --format json shows all."
            )
        return
    console.print(value)


_LABELLED = re.compile(r" +|(?:error|warning|note):? +|[a-z]+ {2,}")
_SEVERITIES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def _show_line(line: str, console: Console) -> None:
    """A line of text; where it is too long, it goes on below its begin: indented as it is, or behind its label."""
    from rich.cells import cell_len
    from rich.text import Text

    label = found[0] if (found := _LABELLED.match(line)) else ""
    severity = line[: len(line) - len(line.lstrip("abcdefghijklmnopqrstuvwxyz"))]
    style = _SEVERITIES.get(severity, "") if line[len(severity) :].startswith((":", " ")) else ""
    indent = cell_len(label)
    rest = Text(line[len(label) :])
    bound = sys.stdout.isatty() or "COLUMNS" in os.environ  # elsewhere a line is as long as it is
    if bound and 2 * indent < console.width:
        parts = list(rest.wrap(console, console.width - indent, overflow="fold"))
    else:
        parts = [rest]
    for number, part in enumerate(parts):
        part.rstrip()
        whole = Text(label if number == 0 else " " * indent).append_text(part)
        if number == 0 and style:
            whole.stylize(style, 0, len(severity))
        console.print(whole, soft_wrap=True)


def width_shown() -> int:
    """Characters in a line of standard output: the terminal's width, or as many as needed if it is not one."""
    return int(os.environ.get("COLUMNS", "0")) or (shutil.get_terminal_size().columns if sys.stdout.isatty() else 160)


def _fit(made: Table, console: Console) -> list[str]:
    """Drop optional columns until the table fits the terminal; return their names."""
    if made.columns:
        lines = (line for cell in made.columns[0].cells for line in str(cell).splitlines())
        made.columns[0].no_wrap = all(len(line) <= NAME_WIDTH for line in lines)
    left_out: list[str] = []
    unbound = console.options.update(max_width=1000)
    optional = list(getattr(made, "optional", ()))
    while optional and made.__rich_measure__(console, unbound).maximum > console.width:
        left_out.insert(0, optional.pop())
        made.columns = [column for column in made.columns if column.header != left_out[0]]
        for index, column in enumerate(made.columns):
            column._index = index
    return left_out


def typed(path: str | os.PathLike[str]) -> str:
    """A path as typed in the current folder: relative if it lies below, quoted if the shell needs it.

    >>> typed(Path.cwd() / "my runs" / "cats-1")
    "'my runs/cats-1'"
    """
    return shlex.quote(terminal_safe(short(path)))


def short(path: str | os.PathLike[str]) -> str:
    """A path, relative to the current folder if it lies below it."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def show_json(value: Any) -> None:
    print(json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in plain Unicode; if it holds anything that is not `terminal_safe`, all in ASCII."""
    text = to_json(value, indent=indent)
    return text if terminal_safe(text) == text else to_json(value, indent=indent, ascii=True)
