"""A process killed at a moment marked by a file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path


def kill_once_there(process: subprocess.Popen[str], file: Path) -> None:
    """kill -9 as soon as the file exists."""
    until = time.monotonic() + 240
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
