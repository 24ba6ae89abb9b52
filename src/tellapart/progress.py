"""Progress: how long work tells what it has done. The rooms report; the command line draws; else nothing shows."""

from __future__ import annotations


class Progress:
    """Takes reports and drops them. A display overrides the two methods."""

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of a stage are finished; done == total ends the stage. total 0: nobody knows yet."""

    def line(self, text: str) -> None:
        """One finished thing worth a line of its own, such as an epoch."""


SILENT = Progress()
