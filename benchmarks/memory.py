"""Peak resident memory of a training in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import train
from benchmarks.benchmark import Figures, Setting
from benchmarks.start import console_script

_KIBIBYTES = 1 if sys.platform != "darwin" else 1 / 1024  # the unit of ru_maxrss


def ours(setting: Setting) -> Figures:
    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        command = [*console_script(), "train", str(setting.folder / "split"), "--recipe", "cats-dogs-64"]
        out = ["--out", str(Path(folder) / "run"), "--epochs", str(setting.epochs)]
        done = subprocess.run([*command, *out], capture_output=True, text=True, check=False)
        if done.returncode or not (Path(folder) / "run" / "report.html").exists():
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}.\n{done.stderr[-2000:]}")
    return {"value": _peak(resource.RUSAGE_CHILDREN)}


def tutorial(setting: Setting) -> Figures:
    train.tutorial(setting)
    return {"value": _peak(resource.RUSAGE_SELF)}


def layers_in_map(setting: Setting) -> Figures:
    train.layers_in_map(setting)
    return {"value": _peak(resource.RUSAGE_SELF)}


def _peak(who: int) -> float:
    """In MB (10^6 bytes)."""
    return resource.getrusage(who).ru_maxrss * _KIBIBYTES * 1024 / 1e6
