"""What features of several depths cost beside the averages of the last map alone: to train, and to predict."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from pathlib import Path

from benchmarks import predict_backbone
from benchmarks.benchmark import Figures, Setting
from benchmarks.start import console_script

TOP = ["--set", "model.features=top"]


def chosen(setting: Setting) -> Figures:
    return _cost(setting)


def top_alone(setting: Setting) -> Figures:
    return _cost(setting, *TOP)


def _cost(setting: Setting, *options: str) -> Figures:
    """Processor time, which other work on the machine changes less than the clock, of a training from the shell with
    nothing prepared; beside it that of a prediction."""
    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        run = Path(folder) / "run"
        before = _spent()
        done = subprocess.run(
            [*console_script(), "train", str(setting.folder / "split"), "--out", str(run), *options],
            env={**os.environ, "TELLAPART_CACHE": str(Path(folder) / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"tellapart train: exit code {done.returncode}.\n{done.stderr[-2000:]}")
        spent = _spent() - before
        predicted = predict_backbone.of_file(setting, run / "model.onnx")
    return {"value": spent, "prediction, processor ms an image": predicted["processor ms"]}


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
