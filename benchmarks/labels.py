"""Labels that a simulated person gives until the head is nearly as good as with all of them, in three orders.

`python -m benchmarks.labels [FOLDER ...] [--write]` makes the table of docs/how-to/label.md. Of each collection, 30 %
of the images are held out, in five drawings; of the others labels are given one by one: as the studio asks, at random,
and those first of which the head is least confident, after a random start of as many as there are classes. Counted is
the first label from which on two heads in a row reach 95 % of the accuracy on the held-out images that all labels give.
The head is the same for all, that of the studio, and so are the features, which are read from the cache of features.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import ROOT
from tellapart.config import Config
from tellapart.data.catalog import ImageRecord
from tellapart.data.decisions import Decisions
from tellapart.data.sources import read_source
from tellapart.progress import SILENT
from tellapart.training.labelling import BATCH, Labels
from tellapart.training.learner import Head, fit_head
from tellapart.training.unlabelled import Pool, Seen
from tellapart.words import percent

SEEDS = 5
HELD_OUT = 0.3
REACHED = 0.95
ORDERS = ("random", "least confident", "studio")
BEGIN, END = "<!-- made by: python -m benchmarks.labels --write -->", "<!-- end -->"
PAGE = ROOT / "docs" / "how-to" / "label.md"


@dataclass
class Collection:
    """coordinates (n, width) and labels (n,) of all images, as the studio reads them."""

    name: str
    coordinates: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1


def collection(folder: Path) -> Collection:
    rows = {row.path: row.label for row in read_source(folder, Config().data).rows}
    pool = Pool(folder, Config())
    pool.fill(SILENT)
    seen = pool.seen()
    places = [place for place, path in enumerate(pool.paths) if path in rows and seen.ready[place]]
    _, labels = np.unique([rows[pool.paths[place]] for place in places], return_inverse=True)
    return Collection(folder.name, seen.coordinates[places], labels.astype(np.int64))


@dataclass
class Shown:
    """What Labels asks of a Pool, of images that are all there."""

    coordinates: NDArray[np.float32]
    root: Path = Path()
    records: dict[int, ImageRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = tuple(map(str, range(len(self.coordinates))))
        self.places = {path: place for place, path in enumerate(self.paths)}
        self._seen = Seen(np.ones(len(self.paths), np.bool_), len(self.paths), self.coordinates, 1)

    def __len__(self) -> int:
        return len(self.paths)

    def seen(self) -> Seen:
        return self._seen


def asked_by_studio(values: NDArray[np.float32], truth: NDArray[np.int64], work: Path) -> Iterator[int]:
    """The positions of the images, in the order in which the studio asks for them; each is answered rightly."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        classes = [str(number) for number in range(int(truth.max()) + 1)]
        labels = Labels(Shown(values), Decisions(Path(folder) / "labels.csv"), classes)  # type: ignore[arg-type]
        while wanted := labels.suggest(1):
            place = int(wanted[0].path)
            yield place
            labels.give({wanted[0].path: classes[truth[place]]}, wanted[0].how)


def asked_least_confident(values: NDArray[np.float32], truth: NDArray[np.int64], work: Path) -> Iterator[int]:  # noqa: ARG001
    """Batches of as many images as the studio asks for together, those first whose likeliest class is least likely."""
    labelled = list(range(int(truth.max()) + 1))
    yield from labelled
    while len(labelled) < len(values):
        free = np.setdiff1d(np.arange(len(values)), labelled)
        head = fit_head(values[labelled], truth[labelled])
        sure = np.zeros(len(free)) if head is None else head.fitted.probabilities(values[free]).max(axis=1)
        batch = free[np.argsort(sure, kind="stable")[:BATCH]].tolist()
        labelled += batch
        yield from batch


def asked_at_random(values: NDArray[np.float32], truth: NDArray[np.int64], work: Path) -> Iterator[int]:  # noqa: ARG001
    yield from range(len(values))  # which are in a random order


def needed(of: Collection, order: str, seed: int, work: Path) -> tuple[int, float]:
    """Labels until the accuracy is reached, and the accuracy that all labels give."""
    drawn = np.random.default_rng(seed).permutation(len(of.labels))
    held, given = np.split(drawn, [round(HELD_OUT * len(drawn))])
    values, truth = of.coordinates[given], of.labels[given]

    def accuracy(head: Head | None) -> float:
        if head is None:
            return 0.0
        said = head.classes[head.fitted.probabilities(of.coordinates[held]).argmax(axis=1)]
        return float((said == of.labels[held]).mean())

    whole = accuracy(fit_head(values, truth))
    asked = {"random": asked_at_random, "least confident": asked_least_confident, "studio": asked_by_studio}[order]
    labelled: list[int] = []
    head, before = None, False
    for place in asked(values, truth, work):
        labelled.append(place)
        head = fit_head(values[labelled], truth[labelled], head)
        reached = accuracy(head) >= REACHED * whole
        if reached and before:
            return len(labelled) - 1, whole
        before = reached
    return len(labelled), whole


def table(folders: list[Path], seeds: int) -> Iterator[str]:
    yield f"Means of {seeds} drawings, {datetime.now(UTC).date()}:"
    yield ""
    yield "| images | to label | accuracy with all labels | random | least confident | studio | studio / random |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    shares = []
    with tempfile.TemporaryDirectory(prefix="tellapart-labels-") as work:
        for folder in folders:
            of = collection(folder)
            means, wholes = [], []
            for order in ORDERS:
                found = [needed(of, order, seed, Path(work)) for seed in range(seeds)]
                means.append(statistics.mean(count for count, _ in found))
                wholes = [whole for _, whole in found]
            shares.append(means[2] / means[0])
            count = len(of.labels) - round(HELD_OUT * len(of.labels))
            cells = [f"{of.name}, {of.classes} classes", f"{count:,}", percent(statistics.mean(wholes))]
            yield "| " + " | ".join([*cells, *(f"{mean:.0f}" for mean in means), f"{shares[-1]:.2f}"]) + " |"
    yield f"| mean | | | | | | {statistics.mean(shares):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="labelled images  [those of shared/data]")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="drawings  [%(default)s]")
    parser.add_argument("--write", action="store_true", help="put the table into docs/how-to/label.md")
    given = parser.parse_args()
    shared = ROOT.parent / "shared" / "data"
    folders = given.folders or sorted(path for path in shared.iterdir() if path.is_dir())
    lines = []
    for line in table(folders, given.seeds):
        print(line, flush=True)
        lines.append(line)
    if given.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        text = "\n".join(lines)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
