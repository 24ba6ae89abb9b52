"""The folder of `serve --feedback` -> what visitors said, one after the other, to be settled by the owner of the run.

What the owner accepts is added to the training images of the next run; nothing else is: strangers are not believed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.data.corrections import Correction
from tellapart.data.decisions import Decisions
from tellapart.data.doubts import MOST, Doubt
from tellapart.data.feedback import LABELS, ROWS, Feedback, read_feedback
from tellapart.errors import ConfigError
from tellapart.studio.browse import Index
from tellapart.studio.review import Review
from tellapart.words import counted, probability

if TYPE_CHECKING:
    from tellapart.studio.session import Session

NONE = "none of the classes"
"""Shown in place of a class."""


class FeedbackSession(Review):
    """What was said of the answers of a run, or of another with the same classes."""

    words: Mapping[str, str] = {
        "other": "Said to be another class",
        "none": "Said to be none of the classes",
        "right": "Said to be right",
    }

    def __init__(self, folder: Path, main: Session) -> None:
        """Raises ConfigError for a folder without feedback, or where `main` is not a run."""
        if main.run is None:
            raise ConfigError("--feedback is about the answers of a run. Name it: tellapart studio RUN --feedback ...")
        if not (folder / ROWS).is_file():
            raise ConfigError(f"{folder} holds no feedback yet. It is made by: tellapart serve RUN --feedback FOLDER")
        super().__init__(str(folder), Decisions(folder / LABELS), main.trainer, main.run)
        self.feedback = self
        self.looking.over = True
        self._folder, self._main, self._classes = folder, main, main.run.task.classes
        self._lock = threading.Lock()
        self._seen = -1
        self.refresh()

    @property
    def file(self) -> Path:
        return self._main.file

    def counts(self) -> dict[str, Any]:
        return self._main.counts()

    def refresh(self) -> None:
        """Read again what a server appended."""
        with self._lock:
            size = (self._folder / ROWS).stat().st_size
            if size == self._seen:
                return
            rows = read_feedback(self._folder)
            fitting = [row for row in rows if set(row.probabilities) == set(self._classes)]
            others = len(rows) - len(fitting)
            self.looking.problem = (
                f"{counted(others, 'image')} left out: answered by a run with other classes." if others else ""
            )
            images = tuple(
                ImageRecord(row.path, row.label or NONE, digest=row.digest, width=row.width, height=row.height)
                for row in fitting
            )
            assert self.run is not None
            self.index = Index(Catalog(self._folder, self.run.task, images), None)
            doubts = sorted(map(_doubt, fitting), key=lambda doubt: list(self.words).index(doubt.kind))
            self._by_key = {doubt.key: doubt for doubt in doubts}
            self._seen = size

    def rows_of(self, doubt: Doubt, action: str, label: str, paths: Sequence[str]) -> list[Correction]:  # noqa: ARG002
        """Accepted is what was said: the class, or, of none of the classes, that the image is not used."""
        (path,) = doubt.paths
        if action in ("keep", "proposal"):
            return list(doubt.proposed)
        if action == "relabel":
            return [Correction(path, "relabel", label=label, reason=doubt.reason)]
        if action == "drop":
            return [Correction(path, "drop", reason=doubt.reason)]
        raise ConfigError("What visitors said is accepted, given another class, or dropped.")

    def settled(self) -> dict[str, str]:
        """By image: what is said of it later opens it no more."""
        fates = {row.path: row for row in self.decisions.corrections}
        return {
            key: f"used as {fates[path].label}" if fates[path].label else "not used"
            for key, doubt in self._by_key.items()
            if (path := doubt.paths[0]) in fates
        }

    def accepted(self) -> tuple[Path, dict[str, str]]:
        """The folder, and of the images to train on the class of each by its path."""
        places = {} if self.index is None else self.index.places
        rows = (row for row in self.decisions.corrections if row.action == "relabel" and row.path in places)
        return self._folder, {row.path: row.label for row in rows}


def _doubt(row: Feedback) -> Doubt:
    likely = sorted(row.probabilities.items(), key=lambda item: -item[1])[:MOST]
    sure = f" ({row.verdict})" if row.verdict else ""
    said = {"right": "The visitor agrees.", "none": "The visitor says: none of the classes."}
    claim = said.get(row.said, f"The visitor says {row.label}.")
    share = probability(row.probabilities[row.answer])
    reason = f"{row.run} answered {row.answer}, {share}{sure}, on {row.time[:10]}. {claim}"
    wanted = Correction(row.path, "relabel" if row.label else "drop", label=row.label, reason=reason)
    return Doubt(row.said, (row.path,), reason, tuple(likely), (wanted,))
