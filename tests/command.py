"""The command line in a process of its own, as a shell starts it."""

from __future__ import annotations

import sys

RUN = "from tellapart.cli.main import run; run()"
COMMAND = [sys.executable, "-c", RUN]
STRICT = [sys.executable, "-W", "error", "-c", RUN]
"""With every warning an error."""
