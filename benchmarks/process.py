"""`python -m benchmarks.process BENCHMARK STEP...`: run `prepare` or solutions, by number; figures to a file.

A separate process isolates imports, threads, caches and memory of one solution from another. Started by measure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.benchmark import Benchmark, Figures, Setting

ROOT = Path(__file__).resolve().parent.parent
PREPARE = "prepare"


def run_fresh(benchmark: Benchmark, steps: list[str], setting: Setting) -> list[Figures]:
    """The figures of the steps, run one after the other in one fresh process. Raises RuntimeError with its output."""
    result = setting.work / "figures.json"
    result.unlink(missing_ok=True)
    order = {**asdict(setting), "folder": str(setting.folder), "work": str(setting.work), "result": str(result)}
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "TELLAPART_CACHE": str(setting.work / "default-cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.process", json.dumps(order), benchmark.name, *steps],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode or not result.exists():
        raise RuntimeError(f"{benchmark.name}, steps {steps}: exit code {done.returncode}.\n{done.stderr[-3000:]}")
    figures: list[Figures] = json.loads(result.read_text())
    return figures


def main(order: str, name: str, *steps: str) -> None:
    from benchmarks.table import BENCHMARKS

    values = json.loads(order)
    result = Path(values.pop("result"))
    setting = Setting(**{**values, "folder": Path(values["folder"]), "work": Path(values["work"])})
    benchmark = next(row for row in BENCHMARKS if row.name == name)
    figures: list[Figures] = []
    for step in steps:
        if step != PREPARE:
            figures.append(benchmark.ways[int(step)].run(setting))
        elif benchmark.prepare is not None:
            benchmark.prepare(setting)
    result.write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
