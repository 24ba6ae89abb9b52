"""The origin of a run: the command, and the software versions that determine its numbers."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path


def versions() -> dict[str, str]:
    """The versions that a run depends on: tellapart, Python, the machine and the libraries that determine its
    numbers."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in ("tellapart", "tensorflow", "jax", "keras", "numpy", "pillow", "opencv-python-headless", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command line of this process, as typed in a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
