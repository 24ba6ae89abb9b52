"""Ctrl-C and the end of a time budget, deferred until training can stop."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType, TracebackType


class TimeUp(KeyboardInterrupt):
    """The time budget of a training is used up; it ends as by Ctrl-C."""

    def __init__(self) -> None:
        super().__init__("its time was up")


class CtrlC:
    """Within this context, Ctrl-C is deferred until `check` raises it; a second one raises at once.

    deadline: on the clock of time.monotonic; from then on `check` raises TimeUp. None: never.

    An interrupt raised anywhere may hit a library's cleanup, which swallows it, or come between two writes that belong
    together. Signals reach only the main thread; in another thread nothing changes.
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

    @property
    def left(self) -> float:
        """Seconds until `check` raises: 0 after Ctrl-C, infinity without a deadline."""
        if self._pressed:
            return 0.0
        return math.inf if self._deadline is None else max(0.0, self._deadline - time.monotonic())

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
