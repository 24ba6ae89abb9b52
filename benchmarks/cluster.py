"""`python -m benchmarks.cluster [--rows N]`: `predict --cluster` on two Ray nodes of this machine beside one process of
the same cores, in images a second, on the built-in images repeated.

The first part of each node is left out of the time, as it waits for Python and the network to start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.process import ROOT
from tellapart.inference.predictor import Predictor

PART = 250
NODES, CORES = 2, 3
"""Cores that each node is told it has; Ray Data needs three to start."""


def alone(model: Path, images: list[str], rows: int) -> float:
    """Images a second of one process, after the first part."""
    predictor = Predictor(model, threads=NODES * CORES)
    given = ((path, Path(path)) for path in islice(cycle(images), rows))
    started = 0.0
    for number, _ in enumerate(predictor.predict_named(given), start=1):
        if number == PART:
            started = time.perf_counter()
    return (rows - PART) / (time.perf_counter() - started)


def spread(model: Path, images: list[str], rows: int, folder: Path) -> float:
    """Images a second of two nodes, after the first part of each."""
    out = folder / "answers"
    script = ROOT / "tests" / "cluster" / "two_nodes.py"
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nodes:
        assert nodes.stdout is not None
        address = json.loads(next(line for line in nodes.stdout if line.startswith("{")))["address"]
        words = [sys.executable, "-m", "tellapart", "predict", str(model), "-", "--out", str(out)]
        words += ["--cluster", address, "--part-size", str(PART)]
        lines = "".join(f"{path}\n" for path in islice(cycle(images), rows))
        done = subprocess.run(words, input=lines, stderr=subprocess.PIPE, text=True, check=False)
        nodes.communicate()
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    ended = sorted(path.stat().st_mtime for path in out.glob("part-*"))
    return PART * (len(ended) - NODES) / (ended[-1] - ended[NODES - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    given = parser.parse_args()
    images = sorted(map(str, (ROOT / "src/tellapart/data/builtin/pets").rglob("*.jpg")))
    with tempfile.TemporaryDirectory(prefix="tellapart-benchmarks-") as temporary:
        folder = Path(temporary)
        train = [sys.executable, "-m", "tellapart", "train", "builtin:pets", "--out", str(folder / "run")]
        subprocess.run(train, check=True, capture_output=True)
        model = folder / "run" / "model.onnx"
        one = alone(model, images, given.rows)
        two = spread(model, images, given.rows, folder)
    print(f"one process {one:.0f} images/s, two nodes {two:.0f} images/s: {two / one:.0%}")


if __name__ == "__main__":
    main()
