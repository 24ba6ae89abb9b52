"""Progress: how long work tells what it has done. The rooms report; the command line draws; else nothing shows."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tellapart.files import harmless


class Progress:
    """Takes reports and drops them. A display overrides the two methods."""

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of a stage are finished; done == total ends the stage. total 0: nobody knows yet."""

    def line(self, text: str) -> None:
        """One finished thing worth a line of its own, such as an epoch."""


class Lines(Progress):
    """A line when a stage ends, once, and every ten seconds of a long one. stream: standard error if none is given."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._last = time.monotonic()
        self._ended = ("", 0)

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        ended = 0 < total <= done and not stage.startswith("epoch ")
        if (ended and self._ended != (stage, done)) or now - self._last > 10:
            self._last, self._ended = now, (stage, done) if ended else ("", 0)
            count = f"{done:,} of {total:,}" if total else f"{done:,}"
            self.line("  ".join(part for part in (f"{stage}: {count}", detail) if part))

    def line(self, text: str) -> None:
        print(harmless(text), file=self._stream or sys.stderr, flush=True)


class _ByHand(Progress):
    """Lines where Python is used by hand, in a terminal or a notebook; else nothing."""

    def __init__(self) -> None:
        self._lines = Lines()

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if hasattr(sys, "ps1"):
            self._lines.update(stage, done, total, detail)

    def line(self, text: str) -> None:
        if hasattr(sys, "ps1"):
            self._lines.line(text)

    def __repr__(self) -> str:
        return "BY_HAND"


SILENT = Progress()
BY_HAND = _ByHand()
"""What the functions of the package take where none is given: shown to a person, silent in a program."""
