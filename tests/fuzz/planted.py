"""Targets with a fault each, for the tests of the search itself: what it does not find here it would find nowhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.target import Promise, Target


def _where(act: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """What happens where an input begins with the letter that no seed begins with."""
    return lambda data, folder: act(folder) if data[:1] == b"b" else None


def _hang(_: Path) -> None:
    time.sleep(600)


def _grow(_: Path) -> int:
    return len([bytearray(1 << 20) for _ in range(4000)])


def _target(name: str, act: Callable[[Path], object], seconds: int = 60) -> Target:
    return Target(name, lambda _: {"a": b"a"}, _where(act), promised=Promise(seconds=seconds, megabytes=700))


TARGETS = (
    _target("raises", lambda _: {}["no such key"]),
    _target("writes", lambda folder: (folder.parent / "outside").write_bytes(b"x")),
    _target("starts", lambda _: os.system("true")),
    _target("hangs", _hang, seconds=2),
    _target("grows", _grow),
    _target("crashes", lambda _: os.abort()),
)
