"""Ctrl-C and the end of a time budget, deferred until training can stop; and why it stopped."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType, TracebackType


class StopReason(StrEnum):
    """Why training stopped, as run.json keeps it in `stop_reason`."""

    EPOCHS_DONE = "epochs-done"
    NO_BETTER = "no-better"
    CONVERGED = "converged"
    NOT_A_NUMBER = "not-a-number"
    WATCH = "watch"
    INTERRUPTED = "interrupted"
    TIME_UP = "time-up"

    @property
    def goes_on(self) -> bool:
        """Whether the run is not done, and can be resumed."""
        return self in (StopReason.INTERRUPTED, StopReason.TIME_UP)


@dataclass(frozen=True)
class Stop:
    """words: the same for people, with epochs and figures."""

    reason: StopReason
    words: str

    def to_dict(self) -> dict[str, str]:
        """Fields of run.json."""
        return {"stopped": self.words, "stop_reason": self.reason.value}


class TimeUp(KeyboardInterrupt):
    """The time of a training is up, which ends it as Ctrl-C does."""

    def __init__(self) -> None:
        super().__init__("its time was up")


class CtrlC:
    """Within it, Ctrl-C is remembered and `check` raises it; a second one raises at once.

    deadline: on the clock of time.monotonic; from then on `check` raises TimeUp. None: never.

    An interrupt raised anywhere may come inside a library's clean-up, which swallows it, or between two writes that
    belong together. Signals reach the main thread alone; in another thread nothing is changed.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline
        self._pressed = False
        self._before: object = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed or the time is up."""
        if self._pressed:
            raise KeyboardInterrupt
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeUp

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        if self._pressed:
            raise KeyboardInterrupt
        self._pressed = True
