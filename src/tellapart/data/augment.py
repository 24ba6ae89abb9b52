"""Augmentation: one random affine warp, flips and brightness per training image, as in Keras' ImageDataGenerator.

In: AugmentConfig, the images and the epoch. Out: uint8 images, warped in place.
The random parameters of an image depend only on (seed, epoch, index), not on thread or batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellapart.config import AugmentConfig

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_PURPOSE = int.from_bytes(b"augment")
# A parameter keeps its column forever, so that a new one does not change the draws of the others.
_COLUMNS = 9
_ROTATION, _WIDTH, _HEIGHT, _SHEAR, _ZOOM_X, _ZOOM_Y, _FLIP_X, _FLIP_Y, _BRIGHTNESS = range(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Draw:
    """The random parameters of n images. matrices: float64 (n, 2, 3), from a pixel (x, y, 1) of the result to its
    position (x, y) in the image. brightness: float64 (n,), the factor of each."""

    matrices: NDArray[np.float64]
    brightness: NDArray[np.float64]


def draw(
    config: AugmentConfig, shape: tuple[int, int, int], seed: int, epoch: ArrayLike, indices: NDArray[np.integer]
) -> Draw:
    """Draw the parameters of the images with these indices (n,), each of this shape (height, width, channels), all at
    once.

    epoch: one number, or one per image. Rotation, shear and zoom are about the centre of the image.

    >>> drawn = draw(AugmentConfig(rotation=10), (8, 8, 3), 0, 0, np.array([5, 6]))
    >>> drawn.matrices.shape, drawn.brightness.tolist()
    ((2, 2, 3), [1.0, 1.0])
    """
    uniform = _uniform(seed, epoch, indices)
    spread = 2 * uniform - 1
    height, width, _ = shape
    angle = np.deg2rad(config.rotation) * spread[:, _ROTATION]
    shear = np.deg2rad(config.shear) * spread[:, _SHEAR]
    shift_x = config.width_shift * width * spread[:, _WIDTH]
    shift_y = config.height_shift * height * spread[:, _HEIGHT]
    # A flip is applied after the warp, so in the inverse mapping it is the first factor of each column.
    factor_x = (1 + config.zoom * spread[:, _ZOOM_X]) * _flip(config.horizontal_flip, uniform[:, _FLIP_X])
    factor_y = (1 + config.zoom * spread[:, _ZOOM_Y]) * _flip(config.vertical_flip, uniform[:, _FLIP_Y])
    cosine, sine = np.cos(angle), np.sin(angle)
    matrices = np.empty((len(uniform), 2, 3))
    # rotation @ shift @ shear @ zoom, multiplied out
    matrices[:, 0, 0] = cosine * factor_x
    matrices[:, 1, 0] = sine * factor_x
    matrices[:, 0, 1] = -np.sin(angle + shear) * factor_y
    matrices[:, 1, 1] = np.cos(angle + shear) * factor_y
    matrices[:, 0, 2] = cosine * shift_x - sine * shift_y
    matrices[:, 1, 2] = sine * shift_x + cosine * shift_y
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrices[:, :, 2] += centre - matrices[:, :, :2] @ centre
    return Draw(matrices, 1 + config.brightness * spread[:, _BRIGHTNESS])


def apply(images: NDArray[np.uint8], drawn: Draw, config: AugmentConfig) -> None:
    """Augment the images (n, h, w, c), contiguous uint8, in place: one bilinear warp each, then the brightness.

    OpenCV's number of threads is not changed, as it belongs to the whole process: one warp is split only from about
    256x256 on, where that is faster, and the interpreter lock is released meanwhile.
    """
    import cv2

    borders = {"nearest": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT, "constant": cv2.BORDER_CONSTANT}
    border, value = borders[config.fill], (config.fill_value,) * 3
    shape = images.shape[1:]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for image, matrix, factor in zip(images, drawn.matrices, drawn.brightness, strict=True):
        changed = cv2.warpAffine(image, matrix, shape[1::-1], flags=flags, borderMode=border, borderValue=value)
        if config.brightness:
            changed = cv2.convertScaleAbs(changed, alpha=factor)
        image[...] = changed.reshape(shape)


def _flip(wanted: bool, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(wanted & (uniform < 0.5), -1.0, 1.0)


def _uniform(seed: int, epoch: ArrayLike, indices: NDArray[np.integer]) -> NDArray[np.float64]:
    """Numbers in 0..1, (n, columns): SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), seeded with a hash of the key.

    A NumPy generator per image costs more than a tenth of its warp; this costs about 2 microseconds.
    """
    key = np.array([(seed ^ _PURPOSE) & _MASK], np.uint64)
    key = _mix(_mix(key) + np.asarray(epoch, np.uint64) * np.uint64(_GOLDEN))
    key = _mix(key + indices.astype(np.uint64) * np.uint64(_GOLDEN))
    steps = np.arange(1, _COLUMNS + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return (_mix(key[:, None] + steps) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
