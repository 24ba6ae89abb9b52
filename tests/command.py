"""The command line in a process of its own, as started by a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = "from tellapart.cli.main import run; run()"
COMMAND = [sys.executable, "-c", RUN]
STRICT = [sys.executable, "-W", "error", "-c", RUN]
"""With every warning as an error."""

PATIENCE = 300
"""Seconds for what must come, on a machine that is slow or busy with other things."""

# As errors, except the one that pyproject.toml names.
WARNINGS = "error,ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def call(*arguments: str | Path, stdin: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": WARNINGS},
        check=False,
    )
