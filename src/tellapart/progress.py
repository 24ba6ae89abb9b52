"""Progress: how long-running work reports its state. Libraries report; the command line draws; otherwise silent."""

from __future__ import annotations

import shutil
import sys
import time
from enum import StrEnum
from html import escape
from typing import Any, TextIO

from tellapart.files import terminal_safe


class Phase(StrEnum):
    """The kind of work of a stage. It is itself a stage; `named` makes one with more details, such as which epoch.

    >>> stage = Phase.EPOCH.named("epoch 3/10")
    >>> stage, Phase.of(stage), Phase.of("anything else")
    ('epoch 3/10', <Phase.EPOCH: 'epoch'>, <Phase.OTHER: 'other'>)
    """

    FETCHING = "fetching"
    READING = "reading images"
    INSPECTING = "reading the images"
    COMPARING = "comparing"
    STARTING = "starting Keras"
    BUILDING = "building the network"
    PREPARING = "preparing the backbone"
    FEATURES = "features"
    HEAD = "fitting the head"
    EPOCH = "epoch"
    CALIBRATING = "calibrating"
    SAVING = "saving"
    EVALUATING = "evaluating"
    REPORTING = "writing the report"
    PREDICTING = "predicting"
    EXPLAINING = "occlusion"
    EXPORTING = "exporting"
    OTHER = "other"

    @classmethod
    def of(cls, stage: str) -> Phase:
        """The kind of the stage that a Progress was given."""
        return stage.phase if isinstance(stage, _Stage) else stage if isinstance(stage, Phase) else cls.OTHER

    def named(self, words: str) -> str:
        """A stage of this kind with its own text."""
        return _Stage(self, words)

    @property
    def learns(self) -> bool:
        """Whether it is one of the consecutive stages of training; after the last of them the run is only finished."""
        return self in (Phase.FEATURES, Phase.HEAD, Phase.EPOCH)


class _Stage(str):
    """Text that knows its kind of work."""

    phase: Phase

    def __new__(cls, phase: Phase, words: str) -> _Stage:
        made = super().__new__(cls, words)
        made.phase = phase
        return made


class Progress:
    """Receives reports of progress, and ignores them. Your own display overrides the two methods and is passed as
    `progress=`; by default a bar is shown in a notebook and on a terminal, and nothing elsewhere.

    >>> class Told(Progress):
    ...     def line(self, text: str) -> None:
    ...         print(text.partition(":")[0])
    >>> Told().line("6 images of 2 classes: cats, dogs")
    6 images of 2 classes
    """

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of a stage are finished; done == total ends the stage. total 0: unknown. stage: its
        text; Phase.of gives its kind."""

    def line(self, text: str) -> None:
        """A result worth a line of its own, such as an epoch."""


class Lines(Progress):
    """A line when a stage ends, and every ten seconds of a long one, for a log. stream: default standard error.

    >>> Lines(sys.stdout).update("reading images", 6, 6)
    reading images: 6 of 6
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._last = time.monotonic()
        self._ended = ("", 0)

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """A line if the stage ended, or the last line was written ten seconds ago."""
        now = time.monotonic()
        ended = 0 < total <= done and Phase.of(stage) is not Phase.EPOCH
        if (ended and self._ended != (stage, done)) or now - self._last > 10:
            self._last, self._ended = now, (stage, done) if ended else ("", 0)
            self.line(_in_words(stage, done, total, detail))

    def line(self, text: str) -> None:
        """The text, immediately."""
        print(terminal_safe(text), file=self._stream or sys.stderr, flush=True)


class Rewritten(Progress):
    """One line of a terminal, rewritten as work proceeds; finished stages stay. stream: default standard error.

    No thread and nothing to close, unlike a live display, as a Progress is not told when the work ends.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._shown = 0.0

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        ended, now = 0 < total <= done, time.monotonic()
        if ended or now - self._shown > 0.1:
            self._shown = now
            self._write(_in_words(stage, done, total, detail), last=ended and Phase.of(stage) is not Phase.EPOCH)

    def line(self, text: str) -> None:
        self._write(text, last=True)

    def _write(self, text: str, *, last: bool) -> None:
        stream = self._stream or sys.stderr
        room = shutil.get_terminal_size().columns - 1
        text = terminal_safe(text).replace("\n", " ") if not last else terminal_safe(text)
        stream.write(f"\r\x1b[K{text}\n" if last else f"\r\x1b[K{text[:room]}")
        stream.flush()


class Notebook(Progress):
    """A bar in the output of a notebook's cell, with the finished lines above it; by IPython alone, as the bars of rich
    and tqdm need ipywidgets there."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = 0.0

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        ended, now = 0 < total <= done, time.monotonic()
        if not ended and now - self._shown < 0.2:
            return
        self._shown = now
        place = f' value="{done}" max="{total}"' if total else ""
        self._show(f"<progress{place}></progress> {escape(_in_words(stage, done, total, detail))}")

    def line(self, text: str) -> None:
        print(text)

    def _show(self, html: str) -> None:
        from IPython.display import HTML, display

        if self._bar is None:
            self._bar = display(HTML(html), display_id=True)
        else:
            self._bar.update(HTML(html))


def _in_words(stage: str, done: int, total: int, detail: str) -> str:
    count = f"{done:,} of {total:,}" if total else f"{done:,}"
    return "  ".join(part for part in (f"{stage}: {count}", detail) if part)


class _ByHand(Progress):
    """Shown if a person is watching: in a notebook, on a terminal, in an interactive session; otherwise nothing."""

    def __init__(self) -> None:
        self._showing: tuple[str, Progress] = ("", SILENT)

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        self._chosen().update(stage, done, total, detail)

    def line(self, text: str) -> None:
        self._chosen().line(text)

    def _chosen(self) -> Progress:
        """Chosen each time: a program may redirect its output, and each cell of a notebook has its own bar."""
        where, kind = "", Progress
        if shell := _notebook():
            where, kind = f"cell {shell.execution_count}", Notebook
        elif sys.stderr.isatty():
            where, kind = "terminal", Rewritten
        elif hasattr(sys, "ps1"):
            where, kind = "session", Lines
        if where != self._showing[0]:
            self._showing = (where, kind())
        return self._showing[1]

    def __repr__(self) -> str:
        return "BY_HAND"


def _notebook() -> Any:
    """IPython's shell if it is a notebook's, else None; IPython is not imported for this."""
    module = sys.modules.get("IPython")
    # Another thread may import it at this moment.
    asked = getattr(module, "get_ipython", None)
    shell = None if asked is None else asked()
    return shell if shell is not None and hasattr(shell, "kernel") else None


SILENT = Progress()
BY_HAND = _ByHand()
"""The default of the package's functions: a bar if a person is watching, nothing in a program."""
