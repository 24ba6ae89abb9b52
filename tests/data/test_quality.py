from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tellapart.config import DataConfig
from tellapart.data.pixels import read
from tellapart.data.quality import faults, measure_quality
from tellapart.data.sources import read_source
from tellapart.task import ImageSpec
from tests.faults import SPOILING

SPEC = ImageSpec(224, 224, fit="crop")


def photos(step: int, channels: int = 3) -> list[Image.Image]:
    source = read_source("builtin:pets", DataConfig())
    mode = "RGB" if channels == 3 else "L"
    return [Image.open(source.root / row.path).convert(mode) for row in source.rows[::step]]


def found(images: list[Image.Image], spec: ImageSpec = SPEC) -> dict[str, list[int]]:
    pixels = np.stack([read(np.asarray(image), spec) for image in images])
    return {kind: places.tolist() for kind, places in faults(measure_quality(pixels)).items()}


def test_photographs_have_no_fault() -> None:
    assert found(photos(4)) == {"blank": [], "dark": [], "blurred": []}


@pytest.mark.parametrize("kind", ["blank", "dark", "blurred"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_spoiled_image_is_named_for_what_it_is(kind: str, channels: int) -> None:
    images = photos(12)
    generator = np.random.default_rng(0)
    for place in (2, 9, 20):
        images[place] = SPOILING[kind](images[place].convert("RGB"), generator)
    told = found(images, ImageSpec(224, 224, channels, fit="crop"))
    assert told.pop(kind) == [2, 9, 20]
    assert not any(told.values())


@pytest.mark.parametrize("kind", ["blank", "dark", "blurred"])
def test_what_most_images_are_is_no_fault(kind: str) -> None:
    generator = np.random.default_rng(0)
    images = [SPOILING[kind](image, generator) for image in photos(20)]
    assert not any(found(images).values())


def test_no_image_has_no_fault() -> None:
    assert measure_quality(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, 3)


def test_each_image_is_named_for_its_gravest_fault_alone() -> None:
    sound = np.tile(np.array([50, 200, 0.5], np.float32), (10, 1))
    sound[0], sound[1], sound[2] = (1, 1, 0.01), (20, 30, 0.01), (50, 200, 0.01)
    assert {kind: places.tolist() for kind, places in faults(sound).items()} == {
        "blank": [0],
        "dark": [1],
        "blurred": [2],
    }
