"""A Classifier + one image -> the output of each convolution and pooling layer; and the first layer's filters.

In: the network of a run, uint8 pixels. Out: float32 arrays with names. Needs the extra `train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backend import start_keras

if TYPE_CHECKING:
    from tellapart.models.classifier import Classifier

_KINDS = (
    "Conv2D",
    "DepthwiseConv2D",
    "SeparableConv2D",
    "MaxPooling2D",
    "AveragePooling2D",
)


@dataclass(frozen=True)
class FeatureMap:
    """The output of one layer for an image. values: float32 (rows, columns, shown), the channels with the largest
    variation over the image, largest first; channels: number of channels of the layer."""

    layer: str
    values: NDArray[np.float32]
    channels: int

    @property
    def words(self) -> str:
        rows, columns, shown = self.values.shape
        which = f"{shown} of {self.channels} channels" if shown < self.channels else f"{shown} channels"
        return f"{self.layer}: {rows}x{columns}, {which}"


def feature_maps(classifier: Classifier, image: NDArray[np.uint8], shown: int) -> list[FeatureMap]:
    """Of every convolution and pooling layer with spatial output, in order. image: uint8 (height, width, channels)."""
    layers = [layer for layer in classifier.backbone.layers if type(layer).__name__ in _KINDS]
    if not layers:
        return []
    inner = start_keras().Model(classifier.backbone.image, [layer.output for layer in layers])
    given = inner(image[None], training=False)
    found = []
    for layer, output in zip(layers, given if isinstance(given, list) else [given], strict=True):
        values = np.asarray(output, np.float32)[0]
        order = np.argsort(-values.std(axis=(0, 1)), kind="stable")[:shown]
        found.append(FeatureMap(layer.name, values[..., order], values.shape[-1]))
    return found


@dataclass(frozen=True)
class Filters:
    """The weights of the first layer with weights, as small images: float32 (n, rows, columns, 1 or 3)."""

    layer: str
    values: NDArray[np.float32]


def first_filters(classifier: Classifier) -> Filters | None:
    """The filters of the first convolution, or, if a network starts with a dense layer, the weights of each unit.
    None for a custom network that starts otherwise, such as a vision transformer."""
    first = next(layer for layer in classifier.network.layers if _kernel(layer) is not None)
    kernel = _kernel(first)
    assert kernel is not None
    shape = classifier.spec.shape
    if kernel.ndim == 2 and len(kernel) == prod(shape):
        kernel = kernel.reshape(*shape, -1)
    if kernel.ndim != 4 or kernel.shape[2] != shape[2]:
        return None
    values = np.moveaxis(kernel, -1, 0)
    row = classifier.backbone.row
    if row is not None and row.scaling.bgr:
        values = values[..., ::-1]
    return Filters(first.name, values)


def _kernel(layer: Any) -> NDArray[np.float32] | None:
    kernel = getattr(layer, "kernel", None)
    return None if kernel is None else np.asarray(kernel, np.float32)
