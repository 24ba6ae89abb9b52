"""How well `unlike` tells images that a classifier cannot know: a class that was left out, and other collections.

`python -m benchmarks.unlike FOLDER ...` trains on each collection, and on each of those with three classes or more as
often as it has classes, each time without one; prints the table of docs/trust.md. The score is the distance that
predictions have; AUROC is that of the test images against the others, and a threshold comes from the validation split
as ever. `--logits 0` measures the cosine alone.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import tellapart as ta
from tellapart.data.catalog import ImageRecord
from tellapart.training import calibrate
from tellapart.words import percent

SAME = {("cats-dogs", "pets-three-breeds")}
"""Of the first, the second shows other images of the same classes: these are no strangers."""


@dataclass(frozen=True)
class Told:
    """Of the images that a run cannot know: AUROC against its test images, the share called unlike, and that of the
    test images."""

    area: float
    found: float
    false: float


def table_of(root: Path, rows: Iterable[ImageRecord], file: Path) -> Path:
    """A csv of these images, with their splits."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["path", "label", "split"])
        writer.writerows([str(root / row.path), row.label, row.split] for row in rows)
    return file


def some(rows: Iterable[ImageRecord], most: int) -> list[ImageRecord]:
    """At most so many, spread evenly."""
    given = list(rows)
    return [given[place] for place in np.unique(np.linspace(0, len(given) - 1, most).astype(int))]


def distances(run: ta.Run, root: Path, rows: Iterable[ImageRecord]) -> tuple[NDArray[np.float64], float]:
    """Of images that a run has not seen: their distances, and the share called unlike."""
    said = [found for found in run.predict([root / row.path for row in rows]) if not found.error]
    return np.array([p.distance for p in said]), float(np.mean([p.verdict == "unlike" for p in said]))


def told(run: ta.Run, root: Path, rows: Iterable[ImageRecord]) -> Told:
    with run.predictions_file.open(encoding="utf-8", newline="") as file:
        own = list(csv.DictReader(file))
    near = np.array([float(row["distance"]) for row in own])
    far, found = distances(run, root, rows)
    truth = np.repeat([False, True], [len(near), len(far)])
    area = roc_auc_score(truth, np.concatenate([near, far]))
    return Told(float(area), found, float(np.mean([row["verdict"] == "unlike" for row in own])))


def left_out(catalog: ta.Catalog, most: int, folder: Path) -> Iterator[Told]:
    """Of each class in turn, a run that never saw it."""
    for number, label in enumerate(catalog.task.classes):
        others = [row for row in catalog.images if not row.error and row.label != label]
        data = table_of(catalog.root, others, folder / f"{catalog.root.name}-{number}.csv")
        run = ta.train(data, out=folder / f"{catalog.root.name}-{number}", model="efficientnet-lite0")
        of_class = (row for row in catalog.images if not row.error and row.label == label)
        yield told(run, catalog.root, some(of_class, most))


def near_row(name: str, found: list[Told]) -> str:
    areas = [row.area for row in found]
    spread = f"{statistics.mean(areas):.3f} ({min(areas):.2f} to {max(areas):.2f})"
    shares = [percent(statistics.mean(values)) for values in ([r.found for r in found], [r.false for r in found])]
    return f"| {name}, {len(found)} classes in turn | {spread} | {' | '.join(shares)} |"


def far_row(name: str, found: dict[str, Told]) -> str:
    worst = min(found, key=lambda other: found[other].area)
    missed = min(found, key=lambda other: found[other].found)
    mean, share = (
        statistics.mean(values) for values in ([r.area for r in found.values()], [r.found for r in found.values()])
    )
    false = next(iter(found.values())).false
    least = f"{percent(found[missed].found)} of {missed}"
    return f"| {name} | {mean:.3f} | {found[worst].area:.3f}, {worst} | {percent(share)} | {least} | {percent(false)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--most", type=int, default=100, help="images of a class or collection that are predicted")
    parser.add_argument("--logits", type=float, default=calibrate.LOGITS, help="weight of the largest logit")
    parser.add_argument("--only", choices=["near", "far"], help="one of the two tables")
    asked = parser.parse_args()
    calibrate.LOGITS = asked.logits
    catalogs = {folder.name: ta.read(folder) for folder in asked.folders}
    with tempfile.TemporaryDirectory() as folder:
        if asked.only != "far":
            near(catalogs, asked.most, Path(folder))
        if asked.only != "near":
            far(catalogs, asked.most, Path(folder))


def near(catalogs: dict[str, ta.Catalog], most: int, folder: Path) -> None:
    print("| a class left out of | AUROC | found | test images called unlike |\n|---|---|---|---|", flush=True)
    means = []
    for name, catalog in catalogs.items():
        if len(catalog.task.classes) > 2:
            found = list(left_out(catalog, most, folder))
            means.append(found)
            print(near_row(name, found), flush=True)
    areas, shares, false = (
        statistics.mean(statistics.mean(getattr(row, what) for row in found) for found in means)
        for what in ("area", "found", "false")
    )
    print(f"| mean of the collections | {areas:.3f} | {percent(shares)} | {percent(false)} |\n", flush=True)


def far(catalogs: dict[str, ta.Catalog], most: int, folder: Path) -> None:
    titles = (
        "a classifier of | AUROC of other collections | the lowest | found | the fewest | test images called unlike"
    )
    print(f"| {titles} |\n|---|---|---|---|---|---|", flush=True)
    every: dict[tuple[str, str], Told] = {}
    for name, catalog in catalogs.items():
        run = ta.train(catalog.root, out=folder / name, model="efficientnet-lite0")
        others = {other: some((r for r in c.images if not r.error), most) for other, c in catalogs.items()}
        found = {
            other: told(run, catalogs[other].root, rows)
            for other, rows in others.items()
            if other != name and (name, other) not in SAME
        }
        every |= {(name, other): row for other, row in found.items()}
        print(far_row(name, found), flush=True)
    areas, shares = [row.area for row in every.values()], [row.found for row in every.values()]
    falses = list({name: row.false for (name, _), row in every.items()}.values())
    worst = min(every, key=lambda pair: every[pair].area)
    print(
        f"| {len(every)} pairs | {statistics.mean(areas):.3f} | {every[worst].area:.3f}, {' and '.join(worst)} | "
        f"{percent(statistics.mean(shares))} | {percent(min(shares))} | {percent(statistics.mean(falses))} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
