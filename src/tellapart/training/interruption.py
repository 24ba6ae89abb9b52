"""Ctrl-C, kept until training is at a point where it can stop. Read by: fit."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class CtrlC:
    """Within it, Ctrl-C is remembered and `check` raises it; a second one raises at once.

    An interrupt raised anywhere may come inside a library's clean-up, which swallows it, or between two writes that
    belong together. Signals reach the main thread alone; in another thread nothing is changed.
    """

    def __init__(self) -> None:
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
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._pressed:
            raise KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        if self._pressed:
            raise KeyboardInterrupt
        self._pressed = True
