"""A row of the table of architectures + its options -> Backbone; its requirements; its layers as text.

models.classifier combines the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tellapart.errors import ModelError
from tellapart.models import pretrained
from tellapart.models.backbone import Backbone
from tellapart.models.backend import start_keras
from tellapart.models.features import TOP
from tellapart.models.pretrained import PretrainedBackbone
from tellapart.models.registry import Architecture
from tellapart.models.scratch import Options
from tellapart.task import ImageSpec

if TYPE_CHECKING:
    import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build_backbone(row: Architecture, options: Options, image: Any, *, mirrored: bool = False) -> Backbone:
    """The backbone on the Keras tensor of uint8 images (n, height, width, channels); random weights. mirrored: their
    mirror images pass through it as well."""
    keras = start_keras()
    both = keras.layers.Concatenate(axis=0)([image, keras.ops.flip(image, axis=2)]) if mirrored else image
    scaled = pretrained.scaled(both, row.scaling(options))
    maps = row.maps(scaled, options)
    normalization = None
    if row.pretrained and row.pretrained.normalization:
        normalization = row.pretrained.normalization()
        normalization.build((None, maps[TOP].shape[-1]))  # its weights exist even if other maps are used
    return Backbone(row.name, image, maps, normalization, row.pretrained, mirrored)


def require_image(pretrained: PretrainedBackbone, spec: ImageSpec) -> None:
    """Raise ModelError for an image that the backbone cannot take."""
    if spec.channels != 3:
        raise ModelError(
            f"{pretrained.name} was trained on colour images and needs 3 channels; given {spec.channels}. "
            "Set image.channels=3: grey images are then read as colour."
        )
    if min(spec.height, spec.width) < pretrained.smallest:
        raise ModelError(
            f"An image of {spec.height}x{spec.width} pixels is too small for {pretrained.name}, which needs at least "
            f"{pretrained.smallest} per side and was trained on {pretrained.side}. Use a larger --image-size."
        )


def summary(of_layers: list[tuple[str, str, str, str]]) -> str:
    """What `layers` gives, a line each, as text."""
    named = [(f"{name} ({kind})" if kind else name, *rest) for name, kind, *rest in of_layers]
    rows = [("layer", "output", "parameters"), *named]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)


def layers(model: keras.Model) -> list[tuple[str, str, str, str]]:
    """(name, kind, output shape, parameters) of each layer and, at the end, of all."""
    rows = [
        (layer.name, type(layer).__name__, "x".join(map(str, layer.output.shape[1:])), f"{layer.count_params():,}")
        for layer in model.layers
    ]
    return [*rows, ("all", "", "", f"{model.count_params():,}")]


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Inside, new layers compute in `float32` or `bfloat16`; weights are float32."""
    keras = start_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
