"""How long a command takes from the shell: a fresh process, from start to end."""

from __future__ import annotations

import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from benchmarks.benchmark import Figures, Setting

CALLS = 5


def ours(setting: Setting) -> Figures:
    return _median([*console_script(), "--help"], setting)


def bare(setting: Setting) -> Figures:
    return _median([sys.executable, "-c", "pass"], setting)


def console_script() -> list[str]:
    """The installed command `tellapart` of this environment."""
    return [str(Path(sysconfig.get_path("scripts")) / "tellapart")]


def seconds_of(command: list[str]) -> float:
    """Wall time of a command. Raises CalledProcessError, with its output, if it fails."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started


def _median(command: list[str], setting: Setting) -> Figures:
    return {"value": statistics.median(seconds_of(command) for _ in range(1 if setting.smoke else CALLS))}
