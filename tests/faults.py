"""Real images -> a folder of them with known faults, and how many of them `check --deep` finds.

Used by tests/test_trust.py and `python -m benchmarks.trust`, which makes the table of docs/trust.md. The given images
are only read.
"""

from __future__ import annotations

import gzip
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tellapart.config import DataConfig
from tellapart.data.sources import read_source

FLIPPED = 0.05
COPIES, OUTLIERS, EACH = 20, 10, 5
TEST_SHARE = 5
FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _recompressed(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(generator.integers(25, 60)))
    return Image.open(file).convert("RGB")


def _resized(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    share = generator.uniform(0.4, 0.7)
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A twentieth of each side is cut off, somewhere at the borders."""
    across, down = round(image.width * 0.05), round(image.height * 0.05)
    left, top = int(generator.integers(0, across + 1)), int(generator.integers(0, down + 1))
    return image.crop((left, top, image.width - across + left, image.height - down + top))


COPYING: dict[str, Change] = {
    "recompressed": _recompressed,
    "resized": _resized,
    "cropped": _cropped,
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "brightened": lambda image, generator: ImageEnhance.Brightness(image).enhance(generator.uniform(1.2, 1.5)),
}


def _blank(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """One colour, with as little noise as from a sensor behind a closed lid."""
    colour = generator.integers(0, 256, 3)
    noise = generator.normal(0, 1, (image.height, image.width, 3))
    return Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))


SPOILING: dict[str, Change] = {
    "blank": _blank,
    "dark": lambda image, _: ImageEnhance.Brightness(image).enhance(0.12),
    "blurred": lambda image, _: image.filter(ImageFilter.GaussianBlur(min(image.size) / 60)),
    "tiny": lambda image, _: image.resize((28, 24)),
}


@dataclass
class Faults:
    """The faults, by paths relative to the folder. copies: (original, copy) by kind; spoiled: by kind."""

    images: int = 0
    flipped: set[str] = field(default_factory=set)
    copies: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    outliers: set[str] = field(default_factory=set)
    spoiled: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def make_faults(data: str, folder: Path, *, seed: int = 0) -> Faults:
    """Create `train/CLASS/*` and `test/CLASS/*` in the folder; every fifth image of a class is for testing."""
    generator = np.random.default_rng(seed)
    source = read_source(data, DataConfig())
    labels = sorted({row.label for row in source.rows})
    order = generator.permutation(len(source.rows))
    faults = Faults()
    flipped = set(order[: round(FLIPPED * len(order))].tolist())
    rest = iter(order[len(flipped) :].tolist())
    spoiled = {next(rest): kind for kind in SPOILING for _ in range(EACH)}
    # A copy is in the test split, so its original is in train.
    kinds = [kind for kind in COPYING for _ in range(COPIES // len(COPYING))]
    copied = dict(zip((i for i in rest if i % TEST_SHARE), kinds, strict=False))
    for index, row in enumerate(source.rows):
        image = Image.open(source.root / row.path).convert("RGB")
        label = row.label
        if index in flipped:
            label = labels[(labels.index(label) + int(generator.integers(1, len(labels)))) % len(labels)]
        if index in spoiled:
            image = SPOILING[spoiled[index]](image, generator)
        path = _save(image, folder, "train" if index % TEST_SHARE else "test", label, faults)
        if index in flipped:
            faults.flipped.add(path)
        if index in spoiled:
            faults.spoiled[spoiled[index]].add(path)
        if index in copied:
            copy = COPYING[copied[index]](image, generator)
            faults.copies[copied[index]].append((path, _save(copy, folder, "test", label, faults)))
    for number, image in enumerate(_others(generator)):
        label = labels[number % len(labels)]
        faults.outliers.add(_save(image, folder, "test" if number % TEST_SHARE == 0 else "train", label, faults))
    return faults


def _save(image: Image.Image, folder: Path, split: str, label: str, faults: Faults) -> str:
    """With a name that tells nothing; returns it."""
    path = f"{split}/{label}/{faults.images:05d}.jpg"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / path, quality=90)
    faults.images += 1
    return path


def _others(generator: np.random.Generator) -> Iterator[Image.Image]:
    """Ten images of other collections: parts of scikit-learn's two photographs, and clothes or digits, enlarged."""
    from sklearn.datasets import load_digits, load_sample_images

    for number in range(OUTLIERS // 2):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        side = int(generator.integers(200, 320))
        left, top = int(generator.integers(0, photo.width - side)), int(generator.integers(0, photo.height - side))
        yield photo.crop((left, top, left + side, top + side))
    if FASHION.exists():
        content = gzip.decompress(FASHION.read_bytes())
        small = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
    else:
        small = (load_digits().images * 15.9).astype(np.uint8)
    for index in generator.choice(len(small), OUTLIERS - OUTLIERS // 2, replace=False):
        yield Image.fromarray(small[index]).resize((280, 280), Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Found:
    """A ratio: hits of n."""

    what: str
    hits: int
    n: int


def count_found(faults: Faults, checked: Any) -> list[Found]:
    """The faults that `tellapart.check(folder, deep=True)` found. checked: its result."""
    from tellapart.data.label_errors import label_scores

    deep = checked.deep
    paths = [image.path for image in deep.images]
    listed = {finding.kind: finding.paths for finding in checked.catalog.findings}
    judged = np.flatnonzero(~np.isnan(deep.probabilities[:, 0]))
    position = {name: index for index, name in enumerate(checked.catalog.task.classes)}
    truth = np.array([position[deep.images[row].label] for row in judged])
    ranked = judged[np.argsort(label_scores(truth, deep.probabilities[judged]), kind="stable")]
    first = {paths[row] for row in ranked[: round(0.1 * len(paths))]}
    suspects = {line.partition(" [")[0] for line in listed.get("suspect-label", ())}
    pairs = {frozenset((paths[one], paths[other])) for one, other in deep.pairs}
    made = {frozenset(pair): kind for kind, some in faults.copies.items() for pair in some}
    n = len(paths)
    strange = [line.partition(" [")[0] for line in listed.get("outlier", ())]
    figures = [
        Found("flipped labels in the first tenth of the ranked list", len(first & faults.flipped), len(faults.flipped)),
        Found("flipped labels that are named suspect", len(suspects & faults.flipped), len(faults.flipped)),
        Found(
            "named suspect and not flipped, of all other labels",
            len(suspects - faults.flipped),
            n - len(faults.flipped),
        ),
        Found("near-duplicates across the splits", len(pairs & made.keys()), len(made)),
    ]
    for kind in COPYING:
        some = faults.copies[kind]
        figures.append(Found(f"of them {kind}", sum(frozenset(pair) in pairs for pair in some), len(some)))
    figures.append(Found("pairs named that were not made, of all pairs", len(pairs - made.keys()), n * (n - 1) // 2))
    figures.append(Found("outliers", len(faults.outliers & set(strange)), len(faults.outliers)))
    wrong = set(strange) - faults.outliers - set().union(*faults.spoiled.values())
    figures.append(Found("named outliers and neither these nor spoiled", len(wrong), n - len(faults.outliers)))
    enlarged = faults.outliers | faults.spoiled["tiny"]  # blurred indeed, as the network sees them
    for kind in SPOILING:
        some = faults.spoiled[kind]
        named = {line.partition(" (")[0] for line in listed.get(kind, ())}
        figures.append(Found(f"{kind} images", len(named & some), len(some)))
        figures.append(
            Found(f"named {kind} and neither so nor enlarged", len(named - some - enlarged), n - len(some | enlarged))
        )
    return figures
