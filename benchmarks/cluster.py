"""`python -m benchmarks.cluster [FOLDER] [--rows N]`: `predict --cluster` on two Ray nodes of this machine beside one
process with the same threads, on the images of a folder (the built-in ones by default) repeated.

Told are images a second by the clock and by the seconds of processors, after the first part of each node, which waits
for Python and the network to start; and what that start took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.process import ROOT

PART = 250
NODES, CORES = 2, 3
"""Cores that each node is told it has; Ray Data needs three to start."""

_ALONE = """
import json, sys, time
from pathlib import Path
from tellapart.inference.predictor import Predictor
model, threads, skipped = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
predictor = Predictor(Path(model), threads=threads)
for number, _ in enumerate(predictor.predict_named((p, Path(p)) for p in sys.stdin.read().splitlines()), start=1):
    if number == skipped:
        started, spent = time.perf_counter(), time.process_time()
print(json.dumps([(number - skipped), time.perf_counter() - started, time.process_time() - spent, spent]))
"""


@dataclass(frozen=True)
class Pace:
    """images in so many seconds, by the clock and of processors; before: seconds of processors until these began."""

    images: int
    seconds: float
    processor: float
    before: float

    def __str__(self) -> str:
        return (
            f"{self.images / self.seconds:.0f} images/s, {self.images / self.processor:.0f} a second of a processor, "
            f"{self.before:.1f} s of processors before"
        )


class _Watched:
    """Seconds of processors of a process and all that it started, ended ones too, as they grow."""

    def __init__(self, process: int) -> None:
        import psutil

        self._failures, self._process = psutil.Error, psutil.Process(process)
        self._known: dict[int, float] = {}
        self._seen: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            for each in [self._process, *self._process.children(recursive=True)]:
                try:
                    times = each.cpu_times()
                    self._known[each.pid] = times.user + times.system
                except self._failures:
                    continue
            self._seen.append((time.time(), sum(self._known.values())))

    def stop(self) -> Callable[[float], float]:
        """The seconds spent until a moment of time.time."""
        self._ended.set()
        self._thread.join()
        return lambda moment: max((spent for at, spent in self._seen if at <= moment), default=0.0)


def alone(model: Path, images: list[str], rows: int) -> Pace:
    """One process, with as many threads as the nodes have together."""
    words = [sys.executable, "-c", _ALONE, str(model), str(NODES * CORES), str(PART)]
    lines = "".join(f"{path}\n" for path in islice(cycle(images), rows))
    done = subprocess.run(words, input=lines, capture_output=True, text=True, check=True)
    return Pace(*json.loads(done.stdout))


def spread(model: Path, images: list[str], rows: int, folder: Path) -> Pace:
    """Two nodes."""
    out = folder / "answers"
    script = ROOT / "tests" / "cluster" / "two_nodes.py"
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nodes:
        assert nodes.stdout is not None
        address = json.loads(next(line for line in nodes.stdout if line.startswith("{")))["address"]
        watched, began = _Watched(nodes.pid), time.time()
        words = [sys.executable, "-m", "tellapart", "predict", str(model), "-", "--out", str(out)]
        words += ["--cluster", address, "--part-size", str(PART)]
        lines = "".join(f"{path}\n" for path in islice(cycle(images), rows))
        done = subprocess.run(words, input=lines, stderr=subprocess.PIPE, text=True, check=False)
        spent = watched.stop()
        nodes.communicate()
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    ended = sorted(path.stat().st_mtime for path in out.glob("part-*"))
    first, last = ended[NODES - 1], ended[-1]
    count = PART * (len(ended) - NODES)
    return Pace(count, last - first, spent(last) - spent(first), spent(first) - spent(began + 0.2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "src/tellapart/data/builtin/pets")
    parser.add_argument("--rows", type=int, default=10_000)
    given = parser.parse_args()
    images = sorted(map(str, given.folder.absolute().rglob("*.jpg")))
    with tempfile.TemporaryDirectory(prefix="tellapart-benchmarks-") as temporary:
        folder = Path(temporary)
        train = [sys.executable, "-m", "tellapart", "train", "builtin:pets", "--out", str(folder / "run")]
        subprocess.run(train, check=True, capture_output=True)
        model = folder / "run" / "model.onnx"
        one = alone(model, images, given.rows)
        print(f"one process: {one}", flush=True)
        two = spread(model, images, given.rows, folder)
        print(f"two nodes:   {two}")
    clock = two.images / two.seconds / (one.images / one.seconds)
    processor = two.images / two.processor / (one.images / one.processor)
    print(f"two nodes of one process: {clock:.0%} by the clock, {processor:.0%} by the seconds of processors")


if __name__ == "__main__":
    main()
