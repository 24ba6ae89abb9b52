"""Whether a shift is found, and how well the accuracy under it is estimated without labels.

`python -m benchmarks.shift FOLDER ...` trains on each collection with each seed, plants each shift of SHIFTS in its
test images and prints the table of docs/trust.md: over collections and seeds, how many times the shift was found, the
accuracy, what was expected, and the mean error of that. Some kinds are those that training rehearses, at other
strengths; the others it never sees. Whether sure predictions are rightly withheld is counted too.

OTHERS is no corruption: of each class a part that looks unlike the rest, a cluster of its features, is left out of
training and validation, and is the test split, as other people, other breeds or other machines would be.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np

import tellapart as ta
from benchmarks.images import link
from tellapart.data import pixels
from tellapart.data.corruptions import Corruption, Pixels, blurred, darkened, noisy, recompressed
from tellapart.data.neighbours import directions_of
from tellapart.evaluation.shift import MOST, Reference, Shift
from tellapart.inference.shift_watch import ShiftWatch
from tellapart.words import percent


def another_camera(image: Pixels, strength: float) -> Pixels:
    """Warmer, paler, lower in contrast, brighter."""
    warm = image * np.array([1 + 0.25 * strength, 1, 1 - 0.25 * strength])
    grey = warm.mean(axis=2, keepdims=True)
    pale = grey + (warm - grey) * (1 - 0.4 * strength)
    return np.clip(128 + (pale - 128) * (1 - 0.25 * strength) + 10 * strength, 0, 255).astype(np.uint8)


def coarse(image: Pixels, times: int) -> Pixels:
    """So many times fewer pixels on a side, enlarged again."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // times, height // times), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


SHIFTS: dict[str, tuple[bool, Corruption]] = {
    "none": (True, lambda image, _: image),
    "blurred a little": (True, lambda image, _: blurred(image, 1)),
    "blurred": (True, lambda image, _: blurred(image, 2.5)),
    "noisy a little": (True, lambda image, generator: noisy(image, 10, generator)),
    "noisy": (True, lambda image, generator: noisy(image, 30, generator)),
    "dark a little": (True, lambda image, _: darkened(image, 0.7)),
    "dark": (True, lambda image, _: darkened(image, 0.35)),
    "JPEG of quality 30": (True, lambda image, _: recompressed(image, 30)),
    "JPEG of quality 10": (True, lambda image, _: recompressed(image, 10)),
    "another camera": (False, lambda image, _: another_camera(image, 0.6)),
    "quite another camera": (False, lambda image, _: another_camera(image, 1.6)),
    "half of the pixels a side": (False, lambda image, _: coarse(image, 2)),
    "a quarter of the pixels a side": (False, lambda image, _: coarse(image, 4)),
}
"""Whether training rehearses the kind, and what is done to an image."""


OTHERS = "others of each class"
_CLUSTERS, _AXES = 4, 10


@dataclass(frozen=True)
class Planted:
    """accuracy: of all predictions there; sure: of sure ones, None where none is."""

    shift: Shift
    accuracy: float
    sure: float | None


def planted(run: ta.Run, corrupt: Corruption, most: int) -> Planted:
    """The test images of a run, corrupted."""
    rows = run.catalog.split("test").images
    rows = tuple(rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, most).astype(int)))
    reference, generator = Reference.of_run(run), np.random.default_rng(0)
    assert reference is not None
    watch = ShiftWatch(reference, {row.path: min(row.width, row.height) for row in rows})
    images = ((r.path, corrupt(pixels.read(run.catalog.root / r.path, run.spec), generator)) for r in rows)
    said = list(run.predictor().predict_named(images, watch=watch))
    right = np.array([p.label == row.label for p, row in zip(said, rows, strict=True)])
    sure = np.array([p.verdict == "sure" for p in said])
    found = watch.shift()
    assert found is not None, "too few test images"
    return Planted(found, float(right.mean()), float(right[sure].mean()) if sure.any() else None)


def others_apart(data: Path, seed: int, folder: Path) -> Path:
    """The images as links in split and class folders: of each class, a cluster of about a quarter is for the test."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    features = ta.features(data)
    labels, splits = np.array(features.labels), np.full(len(features.labels), "train", object)
    directions = directions_of(features.values)
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        axes = PCA(min(_AXES, len(places)), random_state=seed).fit_transform(directions[places])
        cluster = KMeans(_CLUSTERS, n_init=4, random_state=seed).fit_predict(axes)
        sizes = np.bincount(cluster, minlength=_CLUSTERS)
        apart = cluster == np.abs(sizes - len(places) / _CLUSTERS).argmin()
        rest = generator.permutation(places[~apart])
        splits[places[apart]], splits[rest[: len(rest) // 4]] = "test", "validation"
    return link(data, zip(splits, features.labels, features.paths, strict=True), folder)


def row_of(name: str, made: list[Planted]) -> str:
    found = sum(row.shift.found for row in made)
    means = [statistics.mean(values) for values in ([p.accuracy for p in made], [p.shift.expected for p in made])]
    error = statistics.mean(abs(row.accuracy - row.shift.expected) for row in made)
    area = statistics.mean(row.shift.auc.value for row in made)
    broken = [row for row in made if row.sure is not None and row.sure < row.shift.target - 0.02]
    told = sum(row.shift.withheld for row in broken)
    needless = sum(row.shift.withheld for row in made) - told
    cells = [name, f"{found} of {len(made)}", f"{area:.2f}", *map(percent, means), f"{100 * error:.1f} points"]
    return f"| {' | '.join(cells)} | {told} of {len(broken)} | {needless} of {len(made) - len(broken)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--most", type=int, default=MOST, help="test images of a collection  [%(default)s]")
    parser.add_argument("--seeds", type=int, default=3, help="[%(default)s]")
    asked = parser.parse_args()
    made: dict[str, list[Planted]] = {name: [] for name in (*SHIFTS, OTHERS)}
    for data, seed in product(asked.folders, range(asked.seeds)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            common = {"model": "efficientnet-lite0", "seed": seed}
            run = ta.train(data, out=folder / "run", **common)
            for name, (_, corrupt) in SHIFTS.items():
                made[name].append(planted(run, corrupt, asked.most))
            run = ta.train(others_apart(data, seed, folder / data.name), out=folder / "others", **common)
            made[OTHERS].append(planted(run, SHIFTS["none"][1], asked.most))
    titles = (
        "planted in the test images", "found", "AUC", "accuracy", "expected", "mean error",
        "sure withheld where it broke its promise", "where it did not",
    )  # fmt: skip
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for name, rows in made.items():
        print(row_of(name, rows))
    rehearsed = {name for name, (known, _) in SHIFTS.items() if known}
    for title, names in (
        ("all that training rehearses", rehearsed),
        ("all that it does not", made.keys() - rehearsed),
        ("all", made.keys()),
    ):
        print(row_of(title, [row for name in made if name in names for row in made[name]]))


if __name__ == "__main__":
    main()
