"""Images with several labels: two real ones pasted side by side, and a table that names what is on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import tellapart as ta
from tests.conftest import SHARED

PETS = SHARED / "pets-three-breeds"
BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"
LABELS = ("Abyssinian", "Bengal", "american_bulldog")
HEIGHT = 96


def pasted(folder: Path, count: int = 60, *, one_hot: bool = False) -> Path:
    """folder/labels.csv of so many images, of which a tenth has none of the labels, and about half has two. Every half
    is a photograph that is on no other image."""
    root = PETS if PETS.is_dir() else BUILTIN
    generator = np.random.default_rng(0)
    found = sorted(root.rglob("*.jpg"))
    photos = {
        name: iter([path for path in found if name in (path.parent.name, path.stem.rpartition("_")[0])])
        for name in LABELS
    }
    lines = ["image," + (",".join(LABELS) if one_hot else "labels")]
    for number in range(count):
        first, second = LABELS[number % 3], LABELS[(number + number // 3) % 3]
        halves = [_half(next(photos[first], None), generator), _half(next(photos[second], None), generator)]
        labels = {label for label, half in zip((first, second), halves, strict=True) if half[1]}
        if number % 10 == 9:
            halves, labels = [_half(None, generator), _half(None, generator)], set()
        whole = np.concatenate([half[0] for half in halves], axis=1)
        Image.fromarray(whole).save(folder / f"{number}.jpg", quality=90)
        cells = ",".join(str(int(label in labels)) for label in LABELS) if one_hot else "|".join(sorted(labels))
        lines.append(f"{number}.jpg,{cells}")
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def _half(photo: Path | None, generator: np.random.Generator) -> tuple[np.ndarray, bool]:
    """A square of the photograph, and whether there is one; without, of noise."""
    if photo is None:
        noise = generator.integers(90, 160, (HEIGHT // 8, HEIGHT // 8, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(noise).resize((HEIGHT, HEIGHT))), False
    with Image.open(photo) as image:
        image.draft("RGB", (2 * HEIGHT, 2 * HEIGHT))
        return np.asarray(image.convert("RGB").resize((HEIGHT, HEIGHT))), True
