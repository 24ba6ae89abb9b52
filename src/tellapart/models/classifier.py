"""Classifier: the parts of a network, declared: task, image, backbone, features, head, calibration.

It takes images (uint8 0..255) and gives probabilities (float32): scaling is a layer inside, and the head follows from
the Task. Whoever trains, calibrates, explains or exports is given these parts and looks none of them up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import ModelConfig
from tellapart.errors import ModelError
from tellapart.models import own
from tellapart.models.backbone import Backbone
from tellapart.models.backend import start_keras
from tellapart.models.build import arithmetic, build_backbone, layers, require_image
from tellapart.models.features import Features, FeatureSet
from tellapart.models.head import Head, build_head
from tellapart.models.keras_file import load_weights
from tellapart.models.onnx_by_keras import graph_of
from tellapart.models.pretrained import options_of
from tellapart.models.registry import resolve
from tellapart.parallel import without_collecting
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import keras
    import onnx

PROBABILITIES = "probabilities"
"""(n, 1) of the second of two classes, or (n, classes)."""

SIMILARITY = "similarity"
"""(n, classes), 1 at most for cosines alone: how like each class an image is, as Calibration tells."""

CLASS_ACTIVATION = "class_activation"
"""(n, height, width, units): each place's share of each logit, which is the mean over all places (class activation
mapping: Zhou and others, CVPR 2016). Only where the last layer reads the averages of a feature map; for other networks
see inference.class_activation."""


@dataclass(frozen=True)
class Calibration:
    """temperature: what the logits were divided by; it is in the weights already. means: (classes, width), each of
    length 1, the direction of the features of each class: of those of the first pool, or of all in a run of an earlier
    version; None where it is not known.

    An image is as like a class as the cosine to its mean, plus weight * (the logit of the class - centre).
    """

    temperature: float = 1.0
    means: NDArray[np.float32] | None = None
    weight: float = 0.0
    centre: float = 0.0

    @classmethod
    def from_record(cls, values: Mapping[str, Any] | None, means: NDArray[np.float32] | None) -> Calibration:
        """Of a run: what run.json says of its calibration, and its class means."""
        held = values or {}
        logits = held.get("logits", {})
        temperature = float(held.get("temperature", 1.0))
        return cls(temperature, means, float(logits.get("weight", 0)), float(logits.get("centre", 0)))

    def similarity(self, features: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes), of the features that the means are of, (n, width), and logits (n, classes). Raises ValueError
        without means."""
        if self.means is None:
            raise ValueError("the class means are not known")
        lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        found = features / lengths @ self.means.T + self.weight * (logits - self.centre)
        return np.asarray(found, np.float32)


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

    @classmethod
    @without_collecting()
    def from_config(
        cls,
        task: Task,
        spec: ImageSpec,
        config: ModelConfig,
        precision: str = "float32",
        *,
        features: FeatureSet | None = None,
    ) -> Classifier:
        """A fresh network; a backbone has random weights, which pretrained_weights loads. precision: `float32`, or
        `bfloat16` for arithmetic (the weights stay float32).

        features: others than the row of the architecture says. Raises ModelError for an unknown architecture or option,
        or an image that the network cannot take; UntrustedCodeError for somebody's own that nobody trusts here.
        """
        row, options = resolve(config)
        if row.pretrained:
            require_image(row.pretrained, spec)
        keras = start_keras()
        with arithmetic(precision):
            image = keras.Input(spec.shape, dtype="uint8", name="image")
            try:
                backbone = build_backbone(row, options, image, mirrored=config.mirrored)
            except ValueError as error:
                if "zero or negative" not in str(error):
                    raise
                raise ModelError(
                    f"An image of {spec.height}x{spec.width} pixels is too small for {row.name} with "
                    f"{options.model_dump()}. Use a larger --image-size, fewer layers, or model.padding=same."
                ) from error
            return cls._assembled(task, spec, config, backbone, features or row.features(options))

    @classmethod
    def from_name(cls, task: Task, spec: ImageSpec, name: str, **options: Any) -> Classifier:
        """A fresh network of a row of the table. options: those of the row. Raises as from_config does."""
        return cls.from_config(task, spec, ModelConfig(name=name, **options))

    @classmethod
    def from_network(cls, task: Task, spec: ImageSpec, network: Any, **options: Any) -> Classifier:
        """One of somebody's own: a function (ImageSpec) -> keras.Model, a keras.Model, or a backbone of KerasHub, which
        is trusted in this process from here on. options: of own.OwnOptions. Raises ModelError that says what is wrong
        about it."""
        return cls.from_name(task, spec, own.give(network), **options)

    @classmethod
    def from_file(
        cls,
        task: Task,
        spec: ImageSpec,
        config: ModelConfig,
        path: Path,
        calibration: Calibration = Calibration(),
        own_layers: Collection[str] = (),
    ) -> Classifier:
        """The network of a run, from its configuration and its file of weights, model.keras.

        calibration: what the run knows of it. own_layers: of a network of somebody's own, what
        run.json says that the file holds beside our layers. Raises RunError for a file that tellapart did not write, or
        of another network than the configuration says.
        """
        made = cls.from_config(task, spec, config)
        load_weights(made.network, path, own_layers if own.is_own(config.name) else ())
        return made.calibrated(calibration)

    @classmethod
    def _assembled(
        cls, task: Task, spec: ImageSpec, config: ModelConfig, backbone: Backbone, features: FeatureSet
    ) -> Classifier:
        row, options = resolve(config)
        made = features.of(backbone)
        head = build_head(task, made, row.hidden(options))
        network = start_keras().Model(backbone.image, head.output, name=own.keras_name(row.name))
        return cls(task, spec, config, backbone, made, head, network)

    def with_features(self, name: str) -> Classifier:
        """Another head, with random weights, on the same layers of the backbone, a pretrained one. name: of its
        candidates."""
        row, _ = resolve(self.config)
        if row.pretrained is None:
            raise ModelError(f"{row.name} has one set of features.")
        config = ModelConfig.model_validate(self.config.model_dump() | options_of(row.pretrained, name))
        row, options = resolve(config)
        return self._assembled(self.task, self.spec, config, self.backbone, row.features(options))

    def in_float32(self) -> Classifier:
        """The same weights in a float32 network, as it is saved and exported: this one if it is."""
        if self.network.dtype_policy.name == "float32":
            return self
        twin = Classifier.from_config(self.task, self.spec, self.config, features=self.features.declared)
        twin.network.set_weights(self.network.get_weights())
        return twin.calibrated(self.calibration)

    def as_predicted(self, *, mirrored: bool) -> Classifier:
        """The same weights, in float32, in a network that averages each image and its mirror image, or not: this one if
        it is. Training has it plain, and what is finished is as its configuration says."""
        if mirrored is self.config.mirrored:
            return self
        config = self.config.model_copy(update={"mirrored": mirrored})
        twin = Classifier.from_config(self.task, self.spec, config, features=self.features.declared)
        twin.network.set_weights(self.network.get_weights())
        return twin.calibrated(self.calibration)

    def in_keras(self) -> Classifier:
        """This one; models.linear has others."""
        return self

    def calibrated(self, calibration: Calibration) -> Classifier:
        """The same network with what was found of it."""
        return replace(self, calibration=calibration)

    @property
    def parameters(self) -> int:
        """All weights."""
        return int(self.network.count_params())

    @property
    def compared_width(self) -> int:
        """The features that images are compared by: those of the first pool, or of the hidden layers."""
        return int(self.features.first.shape[-1])

    def summary(self) -> list[tuple[str, str, str, str]]:
        """(name, kind, output shape, parameters) of each layer and, at the end, of all."""
        return layers(self.network)

    def read_by_head(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the last layer reads of features (n, width)."""
        if not self.head.layers[:-1]:
            return features
        return np.asarray(self.head_network(last=False)(features), np.float32)

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
        if self.backbone.mirrored:
            return None
        pools = self.features.declared.pools
        made = self.features
        direct = not (made.dense or made.normalised or made.declared.root or self.head.hidden)
        average = len(pools) == 1 and pools[0].how == "average" and pools[0].grid == 1
        found = self.backbone.maps[pools[0].map]
        return found if direct and average and len(found.shape) == 4 else None

    def outputs(self) -> tuple[keras.Model, list[str]]:
        """Image in, all that this network tells out, with the names; plain layers, so that every format has them."""
        layers = start_keras().layers
        given = {PROBABILITIES: self.head.output}
        if self.calibration.means is not None:
            given[SIMILARITY] = self._similarity(self.calibration.means)
        averaged = self.averaged_map
        if averaged is not None:
            last = self.head.last
            weigh = layers.Conv2D(last.units, 1, name=CLASS_ACTIVATION)
            given[CLASS_ACTIVATION] = weigh(averaged)
            weigh.set_weights([np.asarray(last.kernel)[None, None], np.asarray(last.bias)])
        return start_keras().Model(self.backbone.image, list(given.values())), list(given)

    def _similarity(self, means: NDArray[np.float32]) -> Any:
        """The tensor (n, classes) that Calibration.similarity computes."""
        layers = start_keras().layers
        weight, centre = self.calibration.weight, self.calibration.centre
        whole = means.shape[1] == self.features.width
        x = layers.UnitNormalization(name="unit_length")(self.features.vector if whole else self.features.first)
        kernel, offset = means.T, np.zeros(len(means), np.float32)
        if weight:
            logits, bias = self.head.linear()
            x = layers.Concatenate(name="compared")([x, self.head.read])
            kernel, offset = np.concatenate([kernel, weight * logits]), weight * (bias - centre)
        compare = layers.Dense(len(means), name=SIMILARITY)
        compared = compare(x)
        compare.set_weights([kernel, offset])
        return compared

    def graph(self, inside: Mapping[str, Any] | None = None) -> onnx.ModelProto:
        """The assembled ONNX graph: all outputs under their names, of uint8 images. inside: as graph_of has it. Nothing
        is compared here. Raises ExportError for a layer that cannot be written."""
        return graph_of(*self.outputs(), inside)
