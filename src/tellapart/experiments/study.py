"""Several runs on the same images within one time budget: what a ladder and a search have in common.

A study is a folder: COMMAND.json with its state, a run for each trial, and a page. Its strategy decides which trial
comes next, with how much time, and what becomes of it: ladder.py goes through rungs, tune.py asks Optuna. A strategy is
a loop inside a Session, which counts the seconds of all sessions, saves the record to disk while a trial is trained,
and distinguishes how training ended. A killed study continues where it was.
"""

from __future__ import annotations

import os
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.errors import RunError, TellapartError
from tellapart.evaluation.compare import LEVEL
from tellapart.files import from_json, to_json
from tellapart.progress import Phase, Progress
from tellapart.runs.history import HistoryRow
from tellapart.runs.lock import one_writer
from tellapart.runs.new_folder import require_free, writing_into
from tellapart.runs.record import StopReason
from tellapart.runs.run import RunFolder
from tellapart.runs.safe_folder import Inside
from tellapart.training.epochs import Watch
from tellapart.words import duration

FORMAT = 1
FINISHING_SECONDS = 12.0
"""Estimate for saving, exporting, evaluating and the report after training, until a run has been measured."""
FEWEST_SECONDS = 1.0
"""With less time left, nothing is started."""
_KEPT_SECONDS = 2.0


@dataclass
class _Folder(Inside):
    path: Path


@dataclass
class Study(_Folder, ABC):
    """A study on disk. record: the content of COMMAND.json; all have data, budget_seconds, spent_seconds and command.

    noun: the name of such a folder in messages. by: the tellapart command that writes it. file: the name of its record.
    """

    record: dict[str, Any]
    noun: ClassVar[str]
    by: ClassVar[str]
    file: ClassVar[str]

    @classmethod
    @abstractmethod
    def of(cls, path: Path, record: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for an invalid record."""

    def to_dict(self) -> dict[str, Any]:
        """The whole record."""
        return self.record

    @property
    @abstractmethod
    def trial_names(self) -> Sequence[str]:
        """The run names of the trials; each of these runs has the shared catalog."""

    @classmethod
    def require_free(cls, folder: str | os.PathLike[str] | None) -> None:
        """Raises RunError if the path exists already; to be called before any image is read."""
        if folder:
            require_free(Path(folder), cls.noun, cls.by)

    def create(self) -> Self:
        """Write the first record. Raises RunError if the path exists already."""
        self.require_free(self.path)
        with writing_into(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with one_writer(self):
                self.require_free(self.path)  # of two that start at the same time, one comes first
                self.write()
        return self

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing study. Raises RunError for a missing, foreign or damaged folder."""
        file = path / cls.file
        try:
            folder = _Folder(path)
            record = from_json(folder.read_text(folder.place(file.name)))
            if record.pop(f"tellapart_{cls.by}") != FORMAT:
                raise RunError(f"{path} was written by another version of tellapart. Start a new {cls.noun}.")
            return cls.of(path, record)
        except FileNotFoundError:
            raise RunError(
                f"{path} is not a {cls.noun}: it has no {file.name}. "
                f"A {cls.noun} is a folder that `tellapart {cls.by}` wrote."
            ) from None
        except (NotADirectoryError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{file} is damaged or not from tellapart ({error!r}).") from None

    @classmethod
    @contextmanager
    def resumed(cls, path: str | os.PathLike[str], **changes: Any) -> Iterator[Self]:
        """Open a study to resume it, locked against other processes. changes: to its record; None: unchanged."""
        with one_writer(cls.open(Path(path))):
            found = cls.open(Path(path))  # read again, now that no other process writes it
            found.record |= {name: value for name, value in changes.items() if value is not None}
            yield found

    def write(self) -> None:
        text = to_json({f"tellapart_{self.by}": FORMAT, **self.to_dict()}, indent=1)
        self.write_text(self.place(self.file), text + "\n")

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.place(name))

    def begun(self, name: str) -> bool:
        return self.run(name).run_file.exists()

    @property
    def catalog(self) -> Catalog | None:
        """The catalog of all trials; None before one was started."""
        return next((self.run(name).catalog for name in self.trial_names if self.begun(name)), None)

    @property
    def page_file(self) -> Path:
        return self.place(f"{self.by}.html")

    @property
    def time_told(self) -> str:
        """How much of the budget is spent, in words."""
        return f"{duration(self.record['spent_seconds'])} of {duration(self.record['budget_seconds'])}"

    @property
    def resume_command(self) -> str:
        """The command that resumes it, as typed; --budget may follow."""
        return f"tellapart {self.by} --resume {shlex.quote(str(self.path))}"


class StudyResult(ABC):
    """The result of a study. advice: what to do, in two or three sentences. notes: its limits."""

    @property
    @abstractmethod
    def study(self) -> Study: ...

    @property
    @abstractmethod
    def advice(self) -> str: ...

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            self.study.by: str(self.study.path),
            "advice": self.advice,
            "budget_seconds": self.study.record["budget_seconds"],
            "spent_seconds": self.study.record["spent_seconds"],
            "level": LEVEL,
            "notes": list(self.notes),
        }


class Train(Protocol):
    """Starts the run `out`, or resumes it, for at most `budget` seconds. Raises as training does."""

    def __call__(self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress) -> object: ...


class Learn(Protocol):
    """Like Train, but only up to the end of training, so no test image is used; watch may stop it earlier. Returns the
    best row of its history."""

    def __call__(
        self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch
    ) -> HistoryRow: ...


class Costs(Protocol):
    """The time of one trial over all its sessions, in seconds: by the clock, and CPU time of all cores, user and
    system, including child processes."""

    wall_seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class Outcome:
    """The result of a trial. reason: why training stopped, other than by Ctrl-C; None if it failed or, if error is
    empty too, no epoch ended in time. answer: what training returned."""

    reason: StopReason | None = None
    error: TellapartError | None = None
    answer: Any = None


def attempt(run: RunFolder, train: Callable[[], Any]) -> Outcome:
    """Train a run, or resume it. Raises KeyboardInterrupt for Ctrl-C."""
    try:
        answer = train()
    except TellapartError as error:
        timely = run.run_file.exists() and run.status == "interrupted"
        return Outcome(error=None if timely else error)
    reason = run.record.stop.reason
    if reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    return Outcome(reason, answer=answer)


class Session(Progress):
    """The work of one process on a study. It passes progress through, and meanwhile writes the record every few seconds
    and then calls watch. Ctrl-C ends it with everything kept, and a line that tells how to resume."""

    def __init__(self, study: Study, progress: Progress, watch: Callable[[], None]) -> None:
        self._study, self._progress, self._watch = study, progress, watch
        self._opened = self._kept = time.monotonic()
        self._spent_before = float(study.record["spent_seconds"])
        self._count: Callable[[], None] = lambda: None
        self.learned = self._opened
        """When a network was last trained: the time after that finishes its run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._progress.line(f"resume with: {self._study.resume_command}")
        self.keep()

    @property
    def left(self) -> float:
        """Seconds of the budget that no session has spent."""
        return float(self._study.record["budget_seconds"] - self._spent())

    @contextmanager
    def counting(self, costs: Costs) -> Iterator[None]:
        """Time within this context also counts for this trial."""
        wall, processor = costs.wall_seconds - time.monotonic(), costs.processor_seconds - _processor_seconds()

        def count() -> None:
            costs.wall_seconds = round(wall + time.monotonic(), 2)
            costs.processor_seconds = round(processor + _processor_seconds(), 2)

        self._count, self.learned = count, time.monotonic()
        try:
            yield
        finally:
            self.keep()
            self._count = lambda: None

    def attempt(self, name: str, train: Callable[[], Any]) -> Outcome:
        """Train the run of a trial, or resume it. Raises KeyboardInterrupt for Ctrl-C."""
        return attempt(self._study.run(name), train)

    def keep(self) -> None:
        """Update the counters and write the record."""
        self._kept = time.monotonic()
        self._study.record["spent_seconds"] = round(self._spent(), 2)
        self._count()
        self._study.write()
        self._watch()

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if Phase.of(stage).learns:
            self.learned = time.monotonic()
        if time.monotonic() - self._kept > _KEPT_SECONDS:
            self.keep()
        self._progress.update(stage, done, total, detail)

    def line(self, text: str) -> None:
        self.keep()
        self._progress.line(text)

    def _spent(self) -> float:
        return self._spent_before + time.monotonic() - self._opened


def _processor_seconds() -> float:
    return sum(os.times()[:4])
