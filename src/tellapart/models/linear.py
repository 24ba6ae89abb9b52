"""LinearClassifier: a bundled backbone and a linear head as plain values, which need no Keras.

In: what training chose: the set of features, and the weights of one layer over them. Out: what `Classifier` gives of
the same network in Keras: logits, counts, layers in words, and the ONNX graph, put together from the backbone's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tellapart.config import ModelConfig
from tellapart.errors import RunError
from tellapart.files import from_json
from tellapart.models.bundled_graph import BundledGraph
from tellapart.models.classifier import CLASS_ACTIVATION, PROBABILITIES, SIMILARITY, Calibration, Classifier
from tellapart.models.efficientnet_lite import map_shapes
from tellapart.models.features import FLOOR, FeatureSet, Pool
from tellapart.models.head import for_each_class, last_name
from tellapart.models.onnx_file import File, Given, Nodes, constants_in, graphs_in, values_in
from tellapart.models.pretrained import HeadOptions, PretrainedBackbone
from tellapart.models.pretrained_weights import bundled_file, load_pretrained
from tellapart.models.registry import resolve
from tellapart.task import ImageSpec, Task

IMAGE = "image"
"""The name of the input of every graph."""


@dataclass(eq=False)
class LinearHead:
    """kernel: (width, units), bias: (units,), of the last layer; one unit for two classes."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As models.head.Head has it, and so have the next two."""
        return self.kernel, self.bias

    def linear(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return for_each_class(*self.weights())

    def set_linear(self, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        self.kernel, self.bias = np.asarray(kernel, np.float32), np.asarray(bias, np.float32)


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """config: names a backbone that ships as a graph, and the set of its features."""

    task: Task
    spec: ImageSpec
    config: ModelConfig
    head: LinearHead
    calibration: Calibration = field(default_factory=Calibration)

    @classmethod
    def from_graph(
        cls, task: Task, spec: ImageSpec, config: ModelConfig, path: Path, calibration: Calibration
    ) -> LinearClassifier:
        """That of the ONNX file that `graph` made. Raises RunError for a file without such a head."""
        wanted = kernel_name(task), bias_name(task)
        found: dict[str, NDArray[Any]] = {}
        try:
            for graph in graphs_in(path.read_bytes()):
                found |= {name: values_in(value) for name, value in constants_in(graph) if name in wanted}
            kernel, bias = (found[name].astype(np.float32) for name in wanted)
        except (OSError, ValueError, LookupError) as error:
            raise RunError(f"{path} does not hold the head of its run's network: {error!r}.") from None
        made = cls(task, spec, config, LinearHead(kernel, bias), calibration)
        wide = (made.width, task.units)
        if kernel.shape != wide or bias.shape != wide[1:]:
            raise RunError(f"{path} holds a head of shape {kernel.shape}, and config.toml names {wide}.")
        return made

    def in_keras(self) -> Classifier:
        """The same network in Keras. Needs the extra `train`."""
        made = Classifier.from_config(self.task, self.spec, self.config)
        load_pretrained(made.backbone, self.pretrained, self.config.weights)
        made.head.set_linear(*self.head.weights())
        return made.calibrated(self.calibration)

    @property
    def pretrained(self) -> PretrainedBackbone:
        return cast(PretrainedBackbone, resolve(self.config)[0].pretrained)

    @property
    def features(self) -> FeatureSet:
        """What the head reads."""
        row, options = resolve(self.config)
        return row.features(cast(HeadOptions, options))

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(rows, columns, channels) of each map of the backbone, by name."""
        return map_shapes(self.pretrained.name, self.spec.height, self.spec.width)

    @property
    def width(self) -> int:
        """Of the features that the head reads."""
        return sum(map(self._width, self.features.pools))

    @property
    def compared_width(self) -> int:
        """The features that images are compared by: those of the first pool."""
        return self._width(self.features.pools[0])

    @property
    def parameters(self) -> int:
        """All weights, as Keras counts them."""
        return weight_count(self.pretrained) + self.head.kernel.size + self.head.bias.size

    @property
    def averages_top(self) -> bool:
        """Whether the head reads averages of one map as they are: then each place's share of a logit is a product."""
        features = self.features
        plain = not (features.root or self.config.mirrored)
        return len(features.pools) == 1 and features.pools[0].grid == 1 and plain

    def in_float32(self) -> LinearClassifier:
        """The same: it is never anything else."""
        return self

    def as_predicted(self, *, mirrored: bool) -> LinearClassifier:
        """The same, which averages each image and its mirror image, or not."""
        return replace(self, config=self.config.model_copy(update={"mirrored": mirrored}))

    def calibrated(self, calibration: Calibration) -> LinearClassifier:
        """The same with what was found of it."""
        return replace(self, calibration=calibration)

    def read_by_head(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the last layer reads of features (n, width): these."""
        return features

    def summary(self) -> list[tuple[str, str, str, str]]:
        """(name, kind, output shape, parameters) of each part and, at the end, of all."""
        pretrained, features, shapes = self.pretrained, self.features, self.shapes
        kernel, bias = self.head.weights()
        top = shapes[features.pools[0].map]
        rows = [
            ("image", "input", _sides(self.spec.shape), "0"),
            ("scaling", pretrained.scaling.words, _sides(self.spec.shape), "0"),
            (pretrained.name, "backbone", _sides(top), f"{weight_count(pretrained):,}"),
            *((pool.key, "pooling", str(self._width(pool)), "0") for pool in features.pools),
        ]
        if features.root:
            rows.append(("root", "square roots", str(len(kernel)), "0"))
        if self.config.mirrored:
            rows.append(("mirrored", "average of the image and its mirror image", str(len(kernel)), "0"))
        rows.append((last_name(self.task), "Dense", str(len(bias)), f"{kernel.size + bias.size:,}"))
        return [*rows, ("all", "", "", f"{self.parameters:,}")]

    def _width(self, pool: Pool) -> int:
        rows, columns, channels = self.shapes[pool.map]
        cells = (ceil(side / ceil(side / pool.grid)) for side in (rows, columns))
        return channels * prod(cells)

    def outputs(self) -> list[Given]:
        """All that the graph tells out."""
        units = len(self.head.bias)
        given = [Given(PROBABILITIES, shape=("n", units))]
        if self.calibration.means is not None:
            given.append(Given(SIMILARITY, shape=("n", len(self.task.classes))))
        if self.averages_top:
            rows, columns, _ = self.shapes[self.features.pools[0].map]
            given.append(Given(CLASS_ACTIVATION, shape=("n", rows, columns, units)))
        return given

    def graph(self, entries: Mapping[str, str], backbone: BundledGraph) -> File:
        """The ONNX file: all outputs under their names, of uint8 images. entries: of its metadata. backbone: the graph
        of `pretrained`. Nothing is compared here."""
        features, nodes = self.features, Nodes("head/")
        parts = [pool.key for pool in features.pools]
        if self.config.mirrored:
            parts = [self._mean_of_both(nodes, pool) for pool in features.pools]
        if features.root:
            parts = [_root(nodes, part) for part in parts]
        vector = parts[0] if len(parts) == 1 else nodes.add("Concat", parts, axis=1)
        kernel = nodes.constant(self.head.kernel, name=kernel_name(self.task))
        bias = nodes.constant(self.head.bias, name=bias_name(self.task))
        logits = nodes.add("Gemm", [vector, kernel, bias])
        if self.task.form.activation == "sigmoid":
            nodes.add("Sigmoid", [logits], output=PROBABILITIES)
        else:
            nodes.add("Softmax", [logits], output=PROBABILITIES, axis=1)
        taken = [pool.key for pool in features.pools]
        if self.calibration.means is not None:
            self._add_similarity(nodes, self.calibration.means, parts[0], vector)
        if self.averages_top:
            tensor, _ = backbone.map_of(features.pools[0])
            weights = nodes.constant(self.head.kernel.T[..., None, None], name=f"{CLASS_ACTIVATION}/kernel")
            shares = nodes.add("Conv", [tensor, weights, bias], kernel_shape=[1, 1])
            nodes.add("Transpose", [shares], output=CLASS_ACTIVATION, perm=[0, 2, 3, 1])
            taken.append(tensor)
        seen = Nodes("seen/")
        both = {IMAGE: _beside_mirrored(seen)} if self.config.mirrored else {}
        below, constants = backbone.part(taken, both)
        return File(
            self.pretrained.name,
            [*(node.encoded() for node in seen.nodes), *below, *(node.encoded() for node in nodes.nodes)],
            [*seen.constants, *constants, *nodes.constants],
            [Given(IMAGE, "uint8", ("n", *self.spec.shape))],
            self.outputs(),
            entries,
        )

    def _mean_of_both(self, nodes: Nodes, pool: Pool) -> str:
        """What features.parts makes of a pool of images and, behind them, of their mirror images."""
        shape = nodes.constant([2, -1, self._width(pool)], np.int64)
        return nodes.add("ReduceMean", [nodes.add("Reshape", [pool.key, shape])], axes=[0], keepdims=0)

    def _add_similarity(self, nodes: Nodes, means: NDArray[np.float32], first: str, vector: str) -> None:
        """What Calibration.similarity computes, as the Keras layers of Classifier have it."""
        weight, centre = self.calibration.weight, self.calibration.centre
        norm = nodes.add("ReduceL2", [first], axes=[1])
        x = nodes.add("Div", [first, nodes.add("Max", [norm, nodes.constant(1e-12)])])
        kernel, offset = means.T, np.zeros(len(means), np.float32)
        if weight:
            logits, bias = self.head.linear()
            x = nodes.add("Concat", [x, vector], axis=1)
            kernel, offset = np.concatenate([kernel, weight * logits]), weight * (bias - centre)
        nodes.add("Gemm", [x, nodes.constant(kernel), nodes.constant(offset)], output=SIMILARITY)


def kernel_name(task: Task) -> str:
    """Of the constant with the kernel of the last layer, as models.onnx_graph names it."""
    return f"{last_name(task)}/kernel"


def bias_name(task: Task) -> str:
    """Of the constant with its bias."""
    return f"{last_name(task)}/bias"


def weight_count(pretrained: PretrainedBackbone) -> int:
    """The weights of a bundled backbone, from the header of their file."""
    with bundled_file(pretrained).open("rb") as file:
        header = from_json(file.read(int.from_bytes(file.read(8), "little")).decode())
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _beside_mirrored(nodes: Nodes) -> str:
    """The images and, behind them, their mirror images."""
    begin, end, axis, step = (nodes.constant([part], np.int64) for part in (-1, np.iinfo(np.int64).min, 2, -1))
    return nodes.add("Concat", [IMAGE, nodes.add("Slice", [IMAGE, begin, end, axis, step])], axis=0)


def _root(nodes: Nodes, part: str) -> str:
    """What features.root_of computes."""
    inside = nodes.add("Add", [nodes.add("Abs", [part]), nodes.constant(FLOOR)])
    return nodes.add("Div", [part, nodes.add("Sqrt", [inside])])


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
