"""The linear head alone, on synthetic features: processor time, wall time and the memory at most.

`python -m benchmarks.head --images 3000` fits a head to so many training images, with a fifth as many to validate, at
all strengths; `--images 100000` shows that memory is bounded. The features lie about the centres of their classes in
a space of 400 dimensions, with noise, and a tenth of the labels is wrong: no strength reaches 100 %. Resident memory
is read while features are made and after, so that it counts what of the file is in memory too.

`--shards` keeps the features in shards, as `train --cluster` has them, and fits the head from these; `--exact` fits the
other one beside it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.parallel import cores, in_order
from tellapart.training.feature_rows import blocks, room
from tellapart.training.head import Examples, HeadFit, fit_linear, one_thread
from tellapart.training.sharded import Sharded
from tellapart.training.sharded_head import SAMPLED, Whole, fit_sharded
from tellapart.training.span import Reading
from tellapart.words import percent

DIMENSIONS = 400
PARTS = 1280
"""Of the features, the first so many are scaled by themselves, as those of the last map are."""
SHARD = 2048
MOST_VALIDATED = 20_000


class Synthetic:
    """Clouds about centres that all examples share."""

    def __init__(self, width: int, classes: int) -> None:
        self._generator = np.random.default_rng(0)
        self._centres = 1.5 * self._generator.normal(size=(classes, DIMENSIONS)).astype(np.float32)
        axes = self._generator.normal(size=(DIMENSIONS, width)).astype(np.float32)
        self._axes = axes / np.sqrt(np.arange(1, DIMENSIONS + 1, dtype=np.float32))[:, None]

    def examples(self, count: int) -> Examples:
        labels = self._labels(count, self._generator)
        features, start = room(count, self._axes.shape[1]), 0
        for part in blocks(features):
            part[:] = self._features(labels[start : start + len(part)], self._generator)
            start += len(part)
        return Examples(features, self._given(labels, self._generator))

    def parts(self, count: int) -> Iterator[Examples]:
        """So many others, SHARD at a time, a core each."""

        def made(number: int) -> Examples:
            generator = np.random.default_rng([1, number])
            labels = self._labels(min(SHARD, count - number * SHARD), generator)
            return Examples(self._features(labels, generator).astype(np.float16), self._given(labels, generator))

        return in_order(made, range(-(-count // SHARD)), ahead=cores() + 1)

    def _labels(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        return generator.integers(0, len(self._centres), count)

    def _given(self, labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        wrong = generator.random(len(labels)) < 0.1
        given = labels.copy()
        given[wrong] = generator.integers(0, len(self._centres), int(wrong.sum()))
        return given

    def _features(self, labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.float32]:
        there = self._centres[labels] + 2 * generator.standard_normal((len(labels), DIMENSIONS), np.float32)
        noise = generator.standard_normal((len(labels), self._axes.shape[1]), np.float32)
        return np.maximum(there @ self._axes + 6 * noise, 0) / 8


def in_shards(made: Synthetic, count: int, widths: tuple[int, ...], folder: str) -> tuple[Sharded, NDArray[np.int64]]:
    """The features of so many images in a folder, and their labels."""
    from tellapart.cluster.feature_shards import Index, write_shard
    from tellapart.cluster.storage import Storage

    store, labels = Storage(folder), []
    for number, part in enumerate(made.parts(count)):
        keys = [f"{number * SHARD + row:032x}" for row in range(len(part.labels))]
        write_shard(store, "synthetic", keys, part.features, widths)
        labels.append(part.labels)
    keys = [f"{number:032x}" for number in range(count)]
    return Index(store, "synthetic").sharded(keys, widths), np.concatenate(labels)


def from_shards(whole: Whole, sample: Examples, validation: Examples, reading: Reading, train: TrainConfig) -> HeadFit:
    """As training has it: a sample first, then all."""
    begun = fit_linear(sample, validation, reading, None, train, lambda *_: None)
    print(f"sample of {len(sample.labels):,}: {_figures(begun)}; peak {peak():,} MB", flush=True)
    return fit_sharded(whole, sample, validation, (reading, begun), train, lambda *_: None)


def peak() -> int:
    """Largest resident memory so far, MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _figures(found: HeadFit) -> str:
    return f"validation loss {found.best.val_loss:.4f}, accuracy {percent(found.best.val_accuracy, 2)}"


class _Clock:
    def __init__(self) -> None:
        self._started, self._spent = time.perf_counter(), time.process_time()

    def tell(self, name: str, found: HeadFit) -> None:
        seconds, spent = time.perf_counter() - self._started, time.process_time() - self._spent
        print(
            f"{name}{len(found.history)} strengths: {spent:.1f} s of processor time, {seconds:.1f} s, "
            f"peak {peak():,} MB; {_figures(found)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--width", type=int, default=8576)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--patience", type=int, default=0, help="strengths without gain; 0: all are fitted")
    parser.add_argument("--shortened", type=float, default=0.0)
    parser.add_argument("--shards", action="store_true", help="features in shards, in the temporary folder")
    parser.add_argument("--sample", type=int, default=SAMPLED, help="images of the sample, with --shards")
    parser.add_argument("--exact", action="store_true", help="with --shards: the head of held features too")
    asked = parser.parse_args()
    made = Synthetic(asked.width, asked.classes)
    train = TrainConfig(patience=asked.patience)
    first = min(PARTS, asked.width // 2)
    reading = Reading([slice(0, first), slice(first, asked.width)], asked.shortened)
    validated = max(asked.images // 5, asked.classes * 10)
    with one_thread():  # imports are not counted
        import scipy.optimize  # noqa: F401
    if not asked.shards:
        training, validation = made.examples(asked.images), made.examples(validated)
        print(f"{asked.images:,} images of {asked.width:,} features: peak {peak():,} MB when they are made", flush=True)
        clock = _Clock()
        clock.tell("", fit_linear(training, validation, reading, None, train, lambda *_: None))
        return
    with tempfile.TemporaryDirectory(prefix="tellapart-benchmarks-") as folder:
        features, labels = in_shards(made, asked.images, (first, asked.width - first), folder)
        validation = made.examples(min(validated, MOST_VALIDATED))
        size = features.bytes / 1e9
        print(f"{asked.images:,} images of {asked.width:,} features in shards, {size:.2f} GB; peak {peak():,} MB")
        clock, whole = _Clock(), Whole(features, labels)
        clock.tell("shards: ", from_shards(whole, whole.sample(asked.sample), validation, reading, train))
        if asked.exact:
            clock = _Clock()
            held = Examples(features.held(), labels)
            clock.tell("exact: ", fit_linear(held, validation, reading, None, train, lambda *_: None))


if __name__ == "__main__":
    main()
