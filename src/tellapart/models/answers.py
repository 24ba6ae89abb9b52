"""A trained network + the mean features of its classes -> the network as it is shipped, which gives all ANSWERS.

Plain Keras layers, so that every format has them. Read by: training, inference.export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backend import start_keras
from tellapart.models.pretrained import POOLING

if TYPE_CHECKING:
    import keras

PROBABILITIES = "probabilities"
"""(n, 1) of the second of two classes, or (n, classes)."""

SIMILARITY = "similarity"
"""(n, classes), -1..1: the cosine of the picture's features to the mean of each class."""

CLASS_ACTIVATION = "class_activation"
"""(n, height, width, units): each place's share of each logit, which is the mean over all places (class activation
mapping: Zhou and others, CVPR 2016). Only where the last layer reads the averages of a feature map; for other networks
see inference.class_activation."""


def features_of(model: keras.Model) -> Any:
    """The tensor whose direction tells what a picture is like, (n, width): a base's pooled features, else what the
    last layer reads."""
    pooling = next((layer for layer in model.layers if layer.name == POOLING), None)
    return model.layers[-1].input if pooling is None else pooling.output


def feature_map_of(model: keras.Model) -> Any | None:
    """The tensor (n, height, width, width of the features) whose averages the last layer reads, if it does."""
    keras = start_keras()
    layer = model.layers[-2]
    if isinstance(layer, keras.layers.Dropout):
        layer = model.layers[-3]
    return layer.input if isinstance(layer, keras.layers.GlobalAveragePooling2D) else None


def probe(model: keras.Model) -> keras.Model:
    """What `model` takes -> its features, and what its last layer reads."""
    return start_keras().Model(model.input, [features_of(model), model.layers[-1].input])


def answering(model: keras.Model, means: NDArray[np.float32] | None) -> tuple[keras.Model, list[str]]:
    """Picture -> the ANSWERS that this network can give, with their names.

    means: (classes, width of the features), each of length 1; None: no similarity is given.
    """
    layers = start_keras().layers
    answers = {PROBABILITIES: model.output}
    if means is not None:
        compare = layers.Dense(len(means), use_bias=False, name=SIMILARITY)
        answers[SIMILARITY] = compare(layers.UnitNormalization(name="unit_length")(features_of(model)))
        compare.set_weights([means.T])
    feature_map = feature_map_of(model)
    if feature_map is not None:
        last = model.layers[-1]
        weigh = layers.Conv2D(last.units, 1, name=CLASS_ACTIVATION)
        answers[CLASS_ACTIVATION] = weigh(feature_map)
        weigh.set_weights([np.asarray(last.kernel)[None, None], np.asarray(last.bias)])
    return start_keras().Model(model.input, list(answers.values())), list(answers)
