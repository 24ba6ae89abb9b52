"""Classifier: the parts of a network, declared: task, image, backbone, features, head, calibration.

Whoever trains, calibrates, explains or exports is given these parts and looks none of them up. models.build makes them
of a configuration, and of a file of weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import ModelConfig
from tellapart.models.backbone import Backbone
from tellapart.models.backend import start_keras
from tellapart.models.features import Features
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import keras

PROBABILITIES = "probabilities"
"""(n, 1) of the second of two classes, or (n, classes)."""

SIMILARITY = "similarity"
"""(n, classes), -1..1: the cosine of the image's features to the mean of each class."""

CLASS_ACTIVATION = "class_activation"
"""(n, height, width, units): each place's share of each logit, which is the mean over all places (class activation
mapping: Zhou and others, CVPR 2016). Only where the last layer reads the averages of a feature map; for other networks
see inference.class_activation."""


@dataclass(frozen=True, eq=False)
class Head:
    """From the features to the probabilities. layers: in order, the last with a unit a class; hidden: the dense ones
    before it, with ReLU; read: the tensor that the last reads; output: the probabilities."""

    layers: tuple[Any, ...]
    hidden: tuple[Any, ...]
    read: Any
    output: Any

    @property
    def last(self) -> Any:
        return self.layers[-1]

    def set_linear(self, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        """kernel: (width, units), bias: (units,), of the last layer."""
        self.last.set_weights([kernel, bias])


@dataclass(frozen=True)
class Calibration:
    """temperature: what the logits were divided by; it is in the weights already. means: (classes, width of the
    features), each of length 1, the direction of each class's features; None where it is not known."""

    temperature: float = 1.0
    means: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Classifier:
    """network: all parts assembled, image in, probabilities out. config: what builds the same parts again."""

    task: Task
    spec: ImageSpec
    config: ModelConfig
    backbone: Backbone
    features: Features
    head: Head
    network: keras.Model
    calibration: Calibration = Calibration()

    def calibrated(self, calibration: Calibration) -> Classifier:
        """The same network with what was found of it."""
        return replace(self, calibration=calibration)

    def features_network(self) -> keras.Model:
        """Image in, features (n, width) out; shares the layers."""
        return start_keras().Model(self.backbone.image, self.features.vector)

    def head_network(self, *, last: bool = True) -> keras.Model:
        """Features (n, width) in, probabilities out, or without `last` what the last layer reads; shares the layers."""
        keras = start_keras()
        x = features = keras.Input((self.features.width,), dtype="float32", name="features")
        for layer in self.head.layers if last else self.head.layers[:-1]:
            x = layer(x)
        return keras.Model(features, x, name=f"{self.network.name}_head")

    def probe(self) -> keras.Model:
        """Image in, the features and what the last layer reads out."""
        return start_keras().Model(self.backbone.image, [self.features.vector, self.head.read])

    @property
    def averaged_map(self) -> Any | None:
        """The tensor (n, height, width, width of the features) whose averages the last layer reads, if it does."""
        pools = self.features.declared.pools
        direct = not (self.features.dense or self.features.normalised or self.head.hidden)
        average = len(pools) == 1 and pools[0].how == "average" and pools[0].grid == 1
        found = self.backbone.maps[pools[0].map]
        return found if direct and average and len(found.shape) == 4 else None

    def outputs(self) -> tuple[keras.Model, list[str]]:
        """Image in, all that this network tells out, with the names; plain layers, so that every format has them."""
        layers = start_keras().layers
        given = {PROBABILITIES: self.head.output}
        means = self.calibration.means
        if means is not None:
            compare = layers.Dense(len(means), use_bias=False, name=SIMILARITY)
            given[SIMILARITY] = compare(layers.UnitNormalization(name="unit_length")(self.features.vector))
            compare.set_weights([means.T])
        averaged = self.averaged_map
        if averaged is not None:
            last = self.head.last
            weigh = layers.Conv2D(last.units, 1, name=CLASS_ACTIVATION)
            given[CLASS_ACTIVATION] = weigh(averaged)
            weigh.set_weights([np.asarray(last.kernel)[None, None], np.asarray(last.bias)])
        return start_keras().Model(self.backbone.image, list(given.values())), list(given)
