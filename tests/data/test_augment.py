"""One warp an image: Keras' geometry, drawn from (seed, epoch, index) alone, within the bounds that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.config import AUGMENTATIONS, AugmentConfig
from tellapart.data.augment import Draw, apply, draw

SHAPE = (40, 40, 3)
EVERY = AugmentConfig(
    rotation=30, width_shift=0.2, height_shift=0.1, shear=20, zoom=0.3, horizontal_flip=True, vertical_flip=True,
    brightness=0.4,
)  # fmt: skip


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / 7 + k) * np.cos(y / 9 - k) for k in range(channels)]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def augmented(image: np.ndarray, config: AugmentConfig, matrix: np.ndarray, factor: float = 1.0) -> np.ndarray:
    images = image[None].copy()
    apply(images, Draw(np.asarray(matrix, float)[None], np.array([factor])), config)
    return images[0]


def parameters(config: AugmentConfig, number: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, dict[str, float]]:
    """A drawn matrix and, taken apart again, what Keras calls the parameters that give it (without flips)."""
    matrix = draw(config, shape, 3, 1, np.array([number])).matrices[0]
    linear = matrix[:, :2]
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    theta = np.arctan2(linear[1, 0], linear[0, 0])
    zx = np.hypot(*linear[:, 0])
    zy = np.hypot(*linear[:, 1])
    shear = np.arctan2(-linear[0, 1], linear[1, 1]) - theta
    moved = matrix[:, 2] - centre + linear @ centre
    turn_back = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
    tx, ty = turn_back @ moved
    return matrix, {"theta": np.degrees(theta), "tx": tx, "ty": ty, "shear": np.degrees(shear), "zx": zx, "zy": zy}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*scipy.ndimage:DeprecationWarning")
@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(rotation=40),
        AugmentConfig(width_shift=0.2),
        AugmentConfig(height_shift=0.2),
        AugmentConfig(shear=25),
        AugmentConfig(zoom=0.4),
        AugmentConfig(rotation=40, width_shift=0.2, height_shift=0.1, shear=20, zoom=0.2),
    ],
)
def test_the_geometry_is_that_of_keras(config: AugmentConfig, fill: str) -> None:
    affine = pytest.importorskip("keras.src.legacy.preprocessing.image", reason="compares with Keras")
    config = config.model_copy(update={"fill": fill, "fill_value": 90})
    image = smooth(64, 64)
    for number in range(4):
        matrix, words = parameters(config, number, image.shape)
        theirs = affine.apply_affine_transform(
            image.astype(np.float32),
            **words,
            row_axis=0,
            col_axis=1,
            channel_axis=2,
            fill_mode=fill,
            cval=90,
            order=1,
        )
        difference = np.abs(augmented(image, config, matrix) - theirs)
        # constant: scipy does not blend across the edge, one line of pixels differs
        assert difference.mean() < (2.5 if fill == "constant" else 0.7)
        assert np.percentile(difference, 90) < 2


def test_bounds_and_meanings_of_the_parameters() -> None:
    shape = (50, 80, 3)
    for config, names in [
        (AugmentConfig(rotation=30), {"theta": 30}),
        (AugmentConfig(width_shift=0.25), {"tx": 20}),
        (AugmentConfig(height_shift=0.1), {"ty": 5}),
        (AugmentConfig(shear=20), {"shear": 20}),
        (AugmentConfig(rotation=60, width_shift=0.25), {"theta": 60, "tx": 20}),
        (AugmentConfig(zoom=0.3), {"zx": 0.3, "zy": 0.3}),
    ]:
        drawn = [parameters(config, number, shape)[1] for number in range(400)]
        for name, neutral in {"theta": 0, "tx": 0, "ty": 0, "shear": 0, "zx": 1, "zy": 1}.items():
            values = np.array([words[name] for words in drawn]) - neutral
            bound = names.get(name, 0)
            assert np.abs(values).max() <= bound + 1e-9
            if bound:
                assert values.min() < -0.9 * bound
                assert values.max() > 0.9 * bound
                assert abs(values.mean()) < 0.1 * bound
    factors = draw(AugmentConfig(brightness=0.2), shape, 0, 0, np.arange(400)).brightness
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def test_zoom_draws_each_axis_for_itself() -> None:
    words = parameters(AugmentConfig(zoom=0.3), 0, SHAPE)[1]
    assert abs(words["zx"] - words["zy"]) > 0.001


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
def test_flips_are_exact_mirrors_of_half_the_images(channels: int, horizontal: bool, vertical: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (31, 46, channels), np.uint8)
    images = np.repeat(image[None], 300, axis=0)
    config = AugmentConfig(horizontal_flip=horizontal, vertical_flip=vertical)
    apply(images, draw(config, image.shape, 0, 0, np.arange(300)), config)
    kinds = [image]
    kinds += [image[:, ::-1]] * horizontal + [image[::-1]] * vertical + [image[::-1, ::-1]] * (horizontal and vertical)
    counts = [sum(np.array_equal(one, kind) for one in images) for kind in kinds]
    assert sum(counts) == 300
    assert min(counts) > 300 / len(kinds) * 0.7


def test_a_flip_comes_after_the_warp() -> None:
    both = AugmentConfig(rotation=25, width_shift=0.2, horizontal_flip=True)
    plain = both.model_copy(update={"horizontal_flip": False})
    image = smooth(40, 60)
    flipped = 0
    for number in range(8):
        one = augmented(image, both, draw(both, image.shape, 0, 0, np.array([number])).matrices[0]).astype(int)
        other = augmented(image, plain, draw(plain, image.shape, 0, 0, np.array([number])).matrices[0])
        flipped += np.abs(one - other[:, ::-1]).max() <= 2
        assert min(np.abs(one - other[:, ::-1]).max(), np.abs(one - other).max()) <= 2
    assert 0 < flipped < 8


def test_rotation_is_about_the_centre_of_an_image_that_is_not_square() -> None:
    image = np.zeros((21, 41, 1), np.uint8)
    image[8:13, 18:23] = 255
    config = AugmentConfig(rotation=180)
    turned = augmented(image, config, draw(config, image.shape, 0, 0, np.array([1])).matrices[0])
    y, x = np.nonzero(turned[..., 0] > 60)
    assert (y.mean(), x.mean()) == pytest.approx((10, 20), abs=0.2)


def test_brightness_multiplies_and_saturates_and_is_left_alone_by_default() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    config = AugmentConfig(brightness=0.5)
    assert (augmented(image, config, np.eye(2, 3), 1.25) == 125).all()
    assert (augmented(image * 2, config, np.eye(2, 3), 1.4) == 255).all()
    assert (augmented(image, AugmentConfig(rotation=1), np.eye(2, 3), 1.25) == 100).all()


def test_corners_are_filled_as_asked() -> None:
    image = np.tile(np.arange(10, dtype=np.uint8)[None, :, None] * 20, (10, 1, 3))
    left = np.array([[1, 0, -3], [0, 1, 0]])
    for fill, expected in [("nearest", [0, 0, 0, 0]), ("reflect", [40, 20, 0, 0]), ("constant", [77, 77, 77, 0])]:
        config = AugmentConfig(width_shift=0.1, fill=fill, fill_value=77)  # type: ignore[arg-type]
        found = augmented(image, config, left)
        assert (found[:, :4] == np.array(expected)[None, :, None]).all()


def test_a_draw_depends_on_seed_epoch_and_index_alone() -> None:
    whole = draw(EVERY, SHAPE, 5, 2, np.arange(100))
    some = draw(EVERY, SHAPE, 5, np.full(3, 2), np.array([70, 3, 70]))
    assert np.array_equal(some.matrices, whole.matrices[[70, 3, 70]])
    assert np.array_equal(some.brightness, whole.brightness[[70, 3, 70]])
    for seed, epoch, index in [(6, 2, 3), (5, 3, 3), (5, 2, 4), (5 + 2**40, 2, 3)]:
        other = draw(EVERY, SHAPE, seed, epoch, np.array([index]))
        assert np.abs(other.matrices[0] - whole.matrices[3]).max() > 1e-3
    mixed = draw(EVERY, SHAPE, 5, np.array([2, 3]), np.array([3, 3]))
    assert np.array_equal(mixed.matrices[0], whole.matrices[3])
    assert np.array_equal(mixed.matrices[1], draw(EVERY, SHAPE, 5, 3, np.array([3])).matrices[0])


def test_the_draws_stay_what_they_are_from_version_to_version() -> None:
    drawn = draw(AugmentConfig(brightness=0.5), SHAPE, 1, 2, np.array([3, 4])).brightness
    assert drawn.tolist() == pytest.approx([1.497721699687748, 0.9932568407551753], abs=1e-12)


def test_draws_are_even_and_unrelated_between_neighbours() -> None:
    values = np.stack(
        [draw(AugmentConfig(brightness=0.5), SHAPE, 0, e, np.arange(2000)).brightness - 0.5 for e in range(3)]
    )
    assert np.abs(np.histogram(values, 10, (0, 1))[0] / values.size - 0.1).max() < 0.015
    assert abs(np.corrcoef(values[0, :-1], values[0, 1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 0.06


def test_every_preset_changes_images_in_place_and_none_changes_none() -> None:
    for name, config in AUGMENTATIONS.items():
        images = np.repeat(smooth(*SHAPE[:2])[None], 4, axis=0)
        before = images.copy()
        apply(images, draw(config, SHAPE, 0, 0, np.arange(4)), config)
        assert np.array_equal(images, before) == (name == "none")
