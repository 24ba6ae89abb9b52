"""What an image looks like, and the same image spoiled."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.corruptions import CORRUPTIONS, blurred, darkened, noisy, recompressed
from tellapart.data.looks import LOOKS, measure_looks
from tellapart.data.sources import open_row, read_source
from tellapart.task import ImageSpec


@pytest.fixture(scope="module", params=[1, 3])
def photographs(request: pytest.FixtureRequest) -> np.ndarray:
    source = read_source("builtin:pets", DataConfig())
    spec = ImageSpec(96, 96, request.param)
    return np.stack([pixels.read(open_row(source.root, row.path), spec) for row in source.rows[::9]])


def moved(before: np.ndarray, after: list[np.ndarray], look: str) -> float:
    """The change of the mean, in spreads of the photographs."""
    place = LOOKS.index(look)
    one, other = measure_looks(before)[:, place], measure_looks(np.stack(after))[:, place]
    return float((other.mean() - one.mean()) / one.std())


def test_each_corruption_is_seen_in_the_look_that_it_changes(photographs: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    assert moved(photographs, [blurred(image, 4) for image in photographs], "sharpness") < -0.5
    assert moved(photographs, [noisy(image, 30, generator) for image in photographs], "noise") > 1
    assert moved(photographs, [darkened(image, 0.4) for image in photographs], "brightness") < -1
    assert moved(photographs, [recompressed(image, 5) for image in photographs], "noise") < 0


def test_a_corrupted_image_is_another_of_the_same_shape(photographs: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    for corrupt in CORRUPTIONS:
        made = corrupt(photographs[0], generator)
        assert made.shape == photographs[0].shape
        assert made.dtype == np.uint8
        assert (made != photographs[0]).any()


def test_an_image_of_one_colour_has_finite_looks() -> None:
    assert np.isfinite(measure_looks(np.full((2, 8, 8, 3), 7, np.uint8))).all()
