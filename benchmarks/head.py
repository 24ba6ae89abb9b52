"""The linear head alone, on synthetic features: processor time, wall time and the memory at most.

`python -m benchmarks.head --images 3000` fits a head to so many training images, with a fifth as many to validate, at
all strengths; `--images 100000` shows that memory is bounded. The features lie about the centres of their classes in
a space of 400 dimensions, with noise, and a tenth of the labels is wrong: no strength reaches 100 %. Resident memory
is read while features are made and after, so that it counts what of the file is in memory too.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.training.feature_rows import blocks, room
from tellapart.training.head import Examples, fit_linear, one_thread
from tellapart.training.span import Reading
from tellapart.words import percent

DIMENSIONS = 400
PARTS = 1280
"""Of the features, the first so many are scaled by themselves, as those of the last map are."""


class Synthetic:
    """Clouds about centres that all examples share."""

    def __init__(self, width: int, classes: int) -> None:
        self._generator = np.random.default_rng(0)
        self._centres = 1.5 * self._generator.normal(size=(classes, DIMENSIONS)).astype(np.float32)
        axes = self._generator.normal(size=(DIMENSIONS, width)).astype(np.float32)
        self._axes = axes / np.sqrt(np.arange(1, DIMENSIONS + 1, dtype=np.float32))[:, None]

    def examples(self, count: int) -> Examples:
        labels = self._generator.integers(0, len(self._centres), count)
        features, start = room(count, self._axes.shape[1]), 0
        for part in blocks(features):
            part[:] = self._features(labels[start : start + len(part)])
            start += len(part)
        wrong = self._generator.random(count) < 0.1
        labels[wrong] = self._generator.integers(0, len(self._centres), int(wrong.sum()))
        return Examples(features, labels)

    def _features(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        there = self._centres[labels] + 2 * self._generator.standard_normal((len(labels), DIMENSIONS), np.float32)
        noise = self._generator.standard_normal((len(labels), self._axes.shape[1]), np.float32)
        return np.maximum(there @ self._axes + 6 * noise, 0) / 8


def peak() -> int:
    """Largest resident memory so far, MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--width", type=int, default=8576)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--patience", type=int, default=0, help="strengths without gain; 0: all are fitted")
    parser.add_argument("--shortened", type=float, default=0.0)
    asked = parser.parse_args()
    made = Synthetic(asked.width, asked.classes)
    training, validation = made.examples(asked.images), made.examples(max(asked.images // 5, asked.classes * 10))
    print(f"{asked.images:,} images of {asked.width:,} features: peak {peak():,} MB when they are made", flush=True)
    first = min(PARTS, asked.width // 2)
    reading = Reading([slice(0, first), slice(first, asked.width)], asked.shortened)
    with one_thread():  # imports are not counted
        import scipy.optimize  # noqa: F401
    started, spent = time.perf_counter(), time.process_time()
    found = fit_linear(training, validation, reading, None, TrainConfig(patience=asked.patience), lambda *_: None)
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    print(
        f"{len(found.history)} strengths: {spent:.1f} s of processor time, {seconds:.1f} s, peak {peak():,} MB; "
        f"validation loss {found.best.val_loss:.4f}, accuracy {percent(found.best.val_accuracy)}"
    )


if __name__ == "__main__":
    main()
