"""Task + ImageSpec + ModelConfig -> Classifier: image in (uint8 0..255), probabilities out (float32).

Scaling is a layer inside; the head follows from the Task: one sigmoid unit for two classes, softmax for more. A
backbone has random weights here: pretrained_weights loads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import ModelConfig
from tellapart.errors import ModelError
from tellapart.models import own, pretrained
from tellapart.models.backbone import Backbone
from tellapart.models.backend import start_keras, without_collecting
from tellapart.models.classifier import Calibration, Classifier, Head
from tellapart.models.features import TOP, Features, FeatureSet, Hidden, dense_of, stack
from tellapart.models.keras_file import load_weights
from tellapart.models.pretrained import PretrainedBackbone
from tellapart.models.registry import Architecture, resolve
from tellapart.models.scratch import Options
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@without_collecting()
def build(
    task: Task, spec: ImageSpec, config: ModelConfig, precision: str = "float32", *, features: FeatureSet | None = None
) -> Classifier:
    """A fresh network, by its parts. precision: `float32`, or `bfloat16` for arithmetic (the weights stay float32).

    features: others than the row of the architecture says. Raises ModelError for an unknown architecture or option, or
    an image that the network cannot take.
    """
    row, options = resolve(config)
    if row.pretrained:
        require_image(row.pretrained, spec)
    keras = start_keras()
    with _policy(POLICIES[precision]):
        image = keras.Input(spec.shape, dtype="uint8", name="image")
        try:
            backbone = build_backbone(row, options, image)
        except ValueError as error:
            if "zero or negative" not in str(error):
                raise
            raise ModelError(
                f"An image of {spec.height}x{spec.width} pixels is too small for {row.name} with "
                f"{options.model_dump()}. Use a larger --image-size, fewer layers, or model.padding=same."
            ) from error
        made = (features or row.features(options)).of(backbone)
        head = _head(task, made, row.hidden(options))
        network = keras.Model(image, head.output, name=own.keras_name(row.name))
        return Classifier(task, spec, config, backbone, made, head, network)


def build_backbone(row: Architecture, options: Options, image: Any) -> Backbone:
    """On the Keras tensor of uint8 images (n, height, width, channels); random weights."""
    scaled = pretrained.scaled(image, row.scaling(options))
    maps = row.maps(scaled, options)
    normalization = None
    if row.pretrained and row.pretrained.normalization:
        normalization = row.pretrained.normalization()
        normalization.build((None, maps[TOP].shape[-1]))  # it has its weights even where other maps are read
    return Backbone(row.name, image, maps, normalization, row.pretrained)


def _head(task: Task, features: Features, hidden: Hidden) -> Head:
    """One sigmoid unit for two classes, softmax for more."""
    from keras import layers

    read, made = stack(features.vector, hidden)
    if task.kind == "binary":
        last = layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")
    else:
        last = layers.Dense(len(task.classes), activation="softmax", dtype="float32", name="probabilities")
    return Head((*made, last), dense_of(made), read, last(read))


def open_classifier(
    task: Task, spec: ImageSpec, config: ModelConfig, path: Path, means: NDArray[np.float32] | None = None
) -> Classifier:
    """The network of a run, by its parts, from its configuration and its file of weights, model.keras.

    means: of the features of its classes, as Calibration has them. Raises RunError for a file that tellapart did not
    write, or of another network than the configuration says.
    """
    made = build(task, spec, config)
    load_weights(made.network, path, any_class=own.is_own(config.name))
    return made.calibrated(Calibration(means=means))


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


def in_float32(made: Classifier) -> Classifier:
    """The same weights in a float32 network, as it is saved and exported."""
    twin = build(made.task, made.spec, made.config, features=made.features.declared)
    twin.network.set_weights(made.network.get_weights())
    return twin.calibrated(made.calibration)


def summary(model: keras.Model) -> str:
    """Layers with output shapes and parameters, a line each, as text."""
    named = [(f"{name} ({kind})" if kind else name, *rest) for name, kind, *rest in layers(model)]
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
def _policy(name: str) -> Iterator[None]:
    keras = start_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
