"""Real images in which only a coloured patch decides the class, and its position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart
import tellapart as ta

BUILTIN = Path(tellapart.__file__).parent / "data" / "builtin" / "pets"
SIDE = 224
PATCH = 64
CLASSES = ("rings", "stripes")


def patch(label: str) -> np.ndarray:
    """Green rings on white or magenta stripes on black: plain colours alone hardly change the features of a
    backbone."""
    y, x = np.mgrid[:PATCH, :PATCH]
    if label == "rings":
        on, colour, ground = np.hypot(y - PATCH / 2, x - PATCH / 2) % 12 < 6, (20, 230, 60), 255
    else:
        on, colour, ground = x // 6 % 2 == 0, (230, 20, 200), 0
    return np.where(on[..., None], np.array(colour), ground).astype(np.uint8)


@dataclass(frozen=True)
class Cue:
    """root: class folders; inside: path relative to root -> bool (SIDE, SIDE), the area of the patch."""

    root: Path
    inside: dict[str, np.ndarray]

    def of(self, path: str, spec: ta.ImageSpec) -> np.ndarray:
        """The area of the patch in the image as a network sees it."""
        mask = Image.fromarray(self.inside[path]).resize((spec.width, spec.height))
        return np.asarray(mask)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Cue:
    """150 photographs of three breeds; their content says nothing about their class."""
    root = tmp_path_factory.mktemp("planted") / "planted"
    generator = np.random.default_rng(0)
    inside = {}
    for number, path in enumerate(sorted(BUILTIN.rglob("*.jpg"))[:150]):
        label = CLASSES[number % 2]
        pixels = np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE)))
        top, left = generator.integers(0, SIDE - PATCH, 2)
        pixels[top : top + PATCH, left : left + PATCH] = patch(label)
        target = root / label / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[top : top + PATCH, left : left + PATCH] = True
        inside[f"{label}/{number}.png"] = mask
    return Cue(root, inside)


SETTINGS = {
    "cnn": (
        "model.name=cnn", "image.height=56", "image.width=56", "model.filters=[8, 16]", "model.dense=[16]",
        "train.epochs=12", "train.patience=0", "train.batch_size=16", "train.learning_rate=0.003", "augment=none",
    ),
    "backbone": ("model.name=efficientnet-lite0",),
    "dense": ("model.name=dense", "image.height=28", "image.width=28", "train.epochs=3"),
}  # fmt: skip


@pytest.fixture(scope="session")
def trained(planted: Cue, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ta.Run]:
    """A run by the name of its SETTINGS, trained when first asked for."""
    pytest.importorskip("keras")
    runs: dict[str, ta.Run] = {}

    def run(name: str) -> ta.Run:
        if name not in runs:
            config = ta.make_config(settings=SETTINGS[name], seed=1)
            runs[name] = ta.train(planted.root, out=tmp_path_factory.mktemp("runs") / name, config=config)
        return runs[name]

    return run
