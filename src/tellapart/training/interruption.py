"""Ctrl-C and the end of a time budget, deferred until training can stop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

AGREED_EVERY = 16
"""Checks between two questions to the other processes, each of which waits for all."""


class TimeUp(KeyboardInterrupt):
    """The time budget of a training is used up; it ends as by Ctrl-C."""

    def __init__(self) -> None:
        super().__init__("its time was up")


class CtrlC:
    """Within this context, Ctrl-C is deferred until `check` raises it; a second one raises at once.

    deadline: on the clock of time.monotonic; from then on `check` raises TimeUp. None: never. agree: whether any of
    several processes that train together is to stop, so that all do so at the same check.

    An interrupt raised anywhere may hit a library's cleanup, which swallows it, or come between two writes that belong
    together. Signals reach only the main thread; in another thread nothing changes.
    """

    def __init__(self, deadline: float | None = None, agree: Callable[[bool], bool] | None = None) -> None:
        self._deadline, self._agree = deadline, agree
        self._checks = 0
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
        late = self._deadline is not None and time.monotonic() >= self._deadline
        stop = self._pressed or late
        if self._agree is not None:
            self._checks += 1
            stop = self._checks % AGREED_EVERY == 0 and self._agree(stop)
        if stop:
            raise TimeUp if late and not self._pressed else KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        if self._pressed and self._agree is not None:
            # The others wait for what this process would compute: only its end tells them.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        if self._pressed:
            raise KeyboardInterrupt
        self._pressed = True
