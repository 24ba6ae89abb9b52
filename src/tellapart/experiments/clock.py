"""A time budget shared by several runs: the seconds spent, saved to disk while work goes on.

Progress passes through, and so drives it.
"""

from __future__ import annotations

import time
from typing import Any

from tellapart.progress import Progress

FINISHING_SECONDS = 12.0
"""What saving, exporting, evaluating and the report take after training, before any run has told it better."""
FEWEST_SECONDS = 1.0
"""With less than that left, nothing is begun."""
_KEPT_SECONDS = 2.0


class Clock(Progress):
    """Counts the seconds of all sessions in `record["spent_seconds"]`; `write` puts that on the disk."""

    def __init__(self, record: dict[str, Any], progress: Progress) -> None:
        self._record, self._progress = record, progress
        self._opened = self._kept = time.monotonic()
        self._spent_before = float(record["spent_seconds"])

    def write(self) -> None:
        """Keep the record on the disk, and tell who watches."""
        raise NotImplementedError

    def spent(self) -> float:
        """Seconds of the whole, earlier sessions included."""
        return self._spent_before + time.monotonic() - self._opened

    def keep(self) -> None:
        """Count and write."""
        self._kept = time.monotonic()
        self._record["spent_seconds"] = round(self.spent(), 2)
        self.write()

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if time.monotonic() - self._kept > _KEPT_SECONDS:
            self.keep()
        self._progress.update(stage, done, total, detail)

    def line(self, text: str) -> None:
        self.keep()
        self._progress.line(text)
