"""Images that a classifier of animals was never trained on: textures and drawings, made from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 300, 400

Pixels = NDArray[np.uint8]


def textures(count: int, seed: int = 0) -> Iterator[Pixels]:
    """(300, 400, 3): clouds, noise, waves, blurred noise and chess boards in turn."""
    generator = np.random.default_rng(seed)
    kinds: list[Callable[[np.random.Generator], NDArray[np.floating]]] = [_clouds, _noise, _waves, _blurred, _board]
    for number in range(count):
        values = kinds[number % len(kinds)](generator)
        low, high = float(values.min()), float(values.max())
        yield ((values - low) / (high - low) * 255).astype(np.uint8)


def drawings(count: int, seed: int = 0) -> Iterator[Pixels]:
    """(300, 400, 3): lines, circles, boxes and letters on white."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        canvas: Pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        for _ in range(int(generator.integers(3, 12))):
            _draw(canvas, generator)
        yield canvas


def _draw(canvas: Pixels, generator: np.random.Generator) -> None:
    colour = tuple(int(value) for value in generator.integers(0, 200, 3))
    start, end = ((int(generator.integers(0, WIDTH)), int(generator.integers(0, HEIGHT))) for _ in range(2))
    thick = int(generator.integers(1, 6))
    kind = generator.integers(4)
    if kind == 0:
        cv2.line(canvas, start, end, colour, thick)
    elif kind == 1:
        cv2.circle(canvas, start, int(generator.integers(5, 90)), colour, thick)
    elif kind == 2:
        cv2.rectangle(canvas, start, end, colour, -1 if generator.random() < 0.3 else thick)
    else:
        cv2.putText(canvas, "tellapart"[: generator.integers(1, 9)], start, 0, generator.uniform(0.5, 3), colour, thick)


def _clouds(generator: np.random.Generator) -> NDArray[np.floating]:
    small = generator.random((int(generator.integers(4, 40)), int(generator.integers(4, 40)), 3)).astype(np.float32)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _noise(generator: np.random.Generator) -> NDArray[np.floating]:
    return generator.random((HEIGHT, WIDTH, 3))


def _waves(generator: np.random.Generator) -> NDArray[np.floating]:
    down, across = (np.sin(np.arange(size) * generator.uniform(0.02, 0.5)) for size in (HEIGHT, WIDTH))
    return (down[:, None] + across[None])[..., None] * generator.uniform(0.3, 1, 3)


def _blurred(generator: np.random.Generator) -> NDArray[np.floating]:
    return cv2.GaussianBlur(generator.random((HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), generator.uniform(1, 12))


def _board(generator: np.random.Generator) -> NDArray[np.floating]:
    size = int(generator.integers(8, 40))
    return np.repeat((np.indices((HEIGHT, WIDTH)) // size).sum(axis=0)[..., None] % 2, 3, axis=2).astype(np.float64)
