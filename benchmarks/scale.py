"""`python -m benchmarks.scale [--sizes 10000 100000 1000000] [STEP ...]`: time and memory of what handles a whole
collection, by its number of images, and how either grows.

Digests, fingerprints, predictions and features are synthetic: one image in a hundred is a copy, one a near-copy. Each
step runs in a process of its own; what it is given is made before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.data.catalog import SPLITS, Catalog, ImageRecord
from tellapart.task import Task

SIZES = (10_000, 100_000, 1_000_000)
CLASSES = 100
WIDTH = 64
"""Of the features: what is compared grows with the number of images, whatever their width."""

Step = Callable[[], object]


def records(count: int, *, split: bool = True) -> tuple[ImageRecord, ...]:
    """Images of 100 classes."""
    generator = np.random.default_rng(0)
    prints = generator.integers(0, 256, (count, 16), dtype=np.uint8)
    digests = generator.integers(0, 256, (count, 16), dtype=np.uint8)
    copies, near = generator.permutation(count)[: 2 * (count // 100)].reshape(2, -1)
    digests[copies], prints[copies] = digests[copies - 1], prints[copies - 1]
    prints[near] = prints[near - 1]
    prints[near, 5] ^= 3
    splits = generator.choice(3, count, p=(0.7, 0.1, 0.2))
    return tuple(
        ImageRecord(
            f"class {n % CLASSES}/image {n}.jpg",
            f"class {n % CLASSES}",
            SPLITS[splits[n]] if split else "",
            digest=digests[n].tobytes().hex(),
            width=640,
            height=480,
            mode="RGB",
            fingerprint=prints[n].tobytes().hex(),
        )
        for n in range(count)
    )


def catalog(count: int) -> Catalog:
    return Catalog(Path("images"), Task(tuple(f"class {n}" for n in range(CLASSES))), records(count))


def splits(count: int, _: Path) -> Step:
    from tellapart.data.splits import assign_splits

    images = records(count, split=False)
    return lambda: assign_splits(images, seed=0, test_fraction=0.15, validation_fraction=0.15)


def groups(count: int, _: Path) -> Step:
    from tellapart.data.groups import group_findings

    images = records(count)
    return lambda: list(group_findings(images, drawn=SPLITS, asked=False))


def checks(count: int, _: Path) -> Step:
    from tellapart.data.checks import find_all

    images = records(count)
    return lambda: find_all(images)


def catalog_written(count: int, folder: Path) -> Step:
    made = catalog(count)
    return lambda: made.write(folder / "catalog.csv")


def catalog_read(count: int, folder: Path) -> Step:
    from tellapart.data.catalog import read_images

    catalog(count).write(folder / "catalog.csv")
    return lambda: read_images(folder / "catalog.csv")


def features(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Around one centre a class, as those of a backbone lie."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    return centres[np.arange(count) % CLASSES] + generator.normal(0, 0.7, (count, WIDTH)).astype(np.float32)


def near_copies(count: int, _: Path) -> Step:
    from tellapart.data.deep_checks import near_duplicates
    from tellapart.data.neighbours import neighbours

    images, values = records(count), features(count)
    return lambda: near_duplicates(images, values, neighbours(values))


def predictions(count: int) -> Any:
    from tellapart.runs.predictions import Predictions

    generator = np.random.default_rng(0)
    truth = np.arange(count) % CLASSES
    said = generator.dirichlet(np.full(CLASSES, 0.1), count)
    said[np.arange(count), truth] += 1
    said /= said.sum(axis=1, keepdims=True)
    return Predictions(tuple(p.path for p in records(count)), truth, said, ("sure",) * count, np.full(count, 0.1))


def index(count: int, _: Path) -> Step:
    from tellapart.studio.browse import Index, Query

    made, said = catalog(count), predictions(count)
    return lambda: Index(made, said).find(Query(right="no", text="image", sort="-loss"))


def compare(count: int, _: Path) -> Step:
    from tellapart.evaluation.compare import compare as compare_answers

    generator = np.random.default_rng(0)
    truth = np.arange(count) % CLASSES
    first, second = (np.where(generator.random(count) < right, truth, 0) for right in (0.9, 0.905))
    return lambda: compare_answers([f"class {n}" for n in range(CLASSES)], truth, first, second)


def evaluation(count: int, _: Path) -> Step:
    from tellapart.evaluation.evaluate import evaluate

    said = predictions(count)
    classes = [f"class {n}" for n in range(CLASSES)]
    return lambda: evaluate(Task(tuple(classes)), said, split="test")


def plan(count: int, folder: Path) -> Step:
    """Of `predict --cluster`: a list of paths, and the same again."""
    from tellapart.cluster.inputs import Given, find_items
    from tellapart.cluster.plan import Plan
    from tellapart.cluster.storage import Storage

    names = folder / "list.txt"
    with names.open("w") as file:
        file.writelines(f"/photos/class {n % CLASSES}/image {n % 1000}.jpg\n" for n in range(count))

    def work() -> None:
        for _ in range(2):
            with names.open() as lines:
                Plan(Storage(folder / "answers"), 2000).extend(find_items(["-"], Given(lines)))

    return work


STEPS: dict[str, Callable[[int, Path], Step]] = {
    made.__name__.replace("_", " "): made
    for made in (splits, groups, checks, catalog_written, catalog_read, near_copies, index, compare, evaluation, plan)
}


@dataclass(frozen=True)
class Measured:
    """seconds of a step; megabytes: the peak of the process, with what the step was given."""

    seconds: float
    megabytes: float


def measure(step: str, count: int) -> Measured:
    """In a process of its own."""
    words = [sys.executable, "-m", "benchmarks.scale", "--one", step, "--sizes", str(count)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"{step} of {count:,} images: {found.stderr[-2000:]}")
    return Measured(**json.loads(found.stdout))


def growth(first: float, last: float, sizes: tuple[int, int]) -> float:
    """How much more than in proportion it grew; a second or ten megabytes more or less are noise.

    >>> round(growth(10, 110, (1000, 10_000)), 2)
    1.1
    """
    return last / (first * sizes[1] / sizes[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _one(given.one, given.sizes[0])
        return
    if wrong := set(given.steps) - set(STEPS):
        parser.error(f"no step is called {', '.join(sorted(wrong))}; there are {', '.join(STEPS)}")
    print("| step | " + " | ".join(f"{size:,}" for size in given.sizes) + " | last / first, per image |")
    print("|---|" + "---|" * (len(given.sizes) + 1))
    for step in given.steps or STEPS:
        found = [measure(step, size) for size in given.sizes]
        cells = [f"{row.seconds:.2f} s, {row.megabytes:,.0f} MB" for row in found]
        grown = growth(found[-2].seconds, found[-1].seconds, given.sizes[-2:]) if len(found) > 1 else math.nan
        print(f"| {step} | {' | '.join(cells)} | {grown:.2f} |", flush=True)


def _one(step: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = STEPS[step](count, Path(folder))
        started = time.process_time()
        work()
        seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"seconds": seconds, "megabytes": peak}))


if __name__ == "__main__":
    main()
