"""Task + ImageSpec + ModelConfig -> keras.Model: picture in (uint8 0..255), probabilities out (float32).

Scaling is a layer inside; the head follows from the Task: one sigmoid unit for two classes, softmax for more. A base
has random weights here: base_weights loads them, transfer freezes them. Read by: training, inference.export, report.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tellapart.config import ModelConfig
from tellapart.errors import ModelError
from tellapart.models import pretrained
from tellapart.models.backend import start_keras, without_collecting
from tellapart.models.registry import resolve
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@without_collecting()
def build(task: Task, spec: ImageSpec, config: ModelConfig, precision: str = "float32") -> keras.Model:
    """A fresh network. precision: `float32`, or `bfloat16` for arithmetic (the weights stay float32).

    Raises ModelError for an unknown architecture or option, or a picture that the network cannot take.
    """
    row, options = resolve(config)
    if row.base:
        require_picture(row.base, spec)
    keras = start_keras()
    with _policy(POLICIES[precision]):
        picture = keras.Input(spec.shape, dtype="uint8", name="picture")
        scaled = (
            pretrained.scaled(picture, row.base.scaling)
            if row.base
            else keras.layers.Rescaling(1 / 255, name="scaling")(picture)
        )
        try:
            features = row.body(scaled, options)
        except ValueError as error:
            if "zero or negative" not in str(error):
                raise
            raise ModelError(
                f"A picture of {spec.height}x{spec.width} pixels is too small for {row.name} with "
                f"{options.model_dump()}. Use a larger --image-size, fewer layers, or model.padding=same."
            ) from error
        if task.kind == "binary":
            head = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")
        else:
            head = keras.layers.Dense(len(task.classes), activation="softmax", dtype="float32", name="probabilities")
        return keras.Model(picture, head(features), name=row.name.replace("-", "_"))


def require_picture(base: pretrained.Base, spec: ImageSpec) -> None:
    """Raise ModelError for a picture that the base cannot take."""
    if spec.channels != 3:
        raise ModelError(
            f"{base.name} was trained on colour pictures and needs 3 channels; given {spec.channels}. "
            "Set image.channels=3: grey pictures are read as colour ones."
        )
    if min(spec.height, spec.width) < base.smallest:
        raise ModelError(
            f"A picture of {spec.height}x{spec.width} pixels is too small for {base.name}, which takes {base.smallest} "
            f"a side and was trained on {base.side}. Use a larger --image-size."
        )


def in_float32(model: keras.Model, task: Task, spec: ImageSpec, config: ModelConfig) -> keras.Model:
    """The same weights in a float32 network, as it is saved and exported."""
    twin = build(task, spec, config, "float32")
    twin.set_weights(model.get_weights())
    return twin


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
