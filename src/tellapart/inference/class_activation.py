"""Classifier -> the ONNX nodes for class activation maps: which region of an image supports which class.

For networks whose model.onnx does not output the map itself (models.classifier), because it would slow down every
prediction or is not a plain layer: those that flatten a feature map, take its maximum, or have dense layers after it.
The extra nodes are stored in the metadata of model.onnx. To use them, the bytes of the file are opened with the nodes
appended, which protocol buffers read as one graph. So heat maps need neither Keras nor gradients at run time.

The contribution of a position to a class score is its features times their gradient, summed, plus an equal share of
what the biases add: the mean over all positions is the score before sigmoid or softmax. If a network averages its
feature map, this is the class activation map (Zhou et al., CVPR 2016) and Grad-CAM (Selvaraju et al., ICCV 2017) up to
scale. If it flattens the map, the gradient of each position is kept (HiResCAM: Draelos and Carin, 2020): Grad-CAM
averages it, and then hardly agreed with occlusion (rank correlation 0.1 against 0.3 over three networks on cats, dogs
and pets). For a network without convolutions it is gradient times input.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backend import start_keras
from tellapart.models.bundled_graph import BundledGraph
from tellapart.models.classifier import CLASS_ACTIVATION, Classifier
from tellapart.models.features import FLOOR, How
from tellapart.models.linear import LinearClassifier
from tellapart.models.linear import kernel_name as name_of_kernel
from tellapart.models.onnx_file import Given, Nodes
from tellapart.models.onnx_graph import kernel_name

MAP = "feature_map"
"""Prefix of the names of the tensors with the feature maps, (n, height, width, channels), in a graph that gets added
nodes; numbered from 0."""


@dataclass(frozen=True)
class Normalization:
    """A layer normalisation: its offset and scale, (width,), and what it adds to the variance."""

    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    epsilon: float


@dataclass(frozen=True)
class Dense:
    """A dense layer: the name of its kernel in a graph that has it, kernel: (inputs, units), bias: (units,)."""

    name: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """One map that is part of the features. shape: (height, width, channels); how: how it is pooled; grid: to at most
    how many rows and columns; normalization: after pooling, if any."""

    shape: tuple[int, int, int]
    how: How
    grid: int
    normalization: Normalization | None = None


@dataclass(frozen=True)
class Places:
    """The last place in a network with spatial positions. parts: its maps, concatenated after pooling; dense: the
    layers from there to the probabilities, with ReLU except the last; root: whether the features are replaced by their
    square roots between the two."""

    parts: tuple[Part, ...]
    dense: tuple[Dense, ...]
    root: bool = False


def places_of(classifier: Classifier) -> Places | None:
    """None if the features have no positions, are maxima over a grid, or are normalised in a way that is not supported
    here, or if an image's mirror image takes part."""
    made, backbone = classifier.features, classifier.backbone
    if backbone.mirrored:
        return None
    normalization = backbone.normalization if made.normalised else None
    if not (normalization is None or isinstance(normalization, start_keras().layers.LayerNormalization)):
        return None
    pools, maps = made.declared.pools, maps_of(classifier)
    if any(len(found.shape) != 4 for found in maps) or any(pool.how == "max" and pool.grid > 1 for pool in pools):
        return None
    plain = None
    if normalization is not None:
        gamma, beta = (np.asarray(part, np.float32) for part in (normalization.gamma, normalization.beta))
        plain = Normalization(gamma, beta, float(normalization.epsilon))
    parts = tuple(
        Part(tuple(found.shape[1:]), pool.how, pool.grid, plain if pool.normalised_in(backbone) else None)
        for pool, found in zip(pools, maps, strict=True)
    )
    layers = (*made.dense, *classifier.head.hidden, classifier.head.last)
    return Places(parts, tuple(Dense(kernel_name(layer), *layer.get_weights()) for layer in layers), made.declared.root)


def maps_of(classifier: Classifier) -> list[Any]:
    """The Keras tensor of the map of each pool."""
    return [classifier.backbone.maps[pool.map] for pool in classifier.features.declared.pools]


def addition(places: Places, constants: Collection[str]) -> str:
    """Base64 of the nodes that output CLASS_ACTIVATION. constants: the names of those in the graph of the whole
    network, which contains the tensors MAP."""
    return _encoded(_Nodes(constants), places)


def addition_to(classifier: LinearClassifier, backbone: BundledGraph) -> str:
    """The same for LinearClassifier.graph on this backbone, whose maps have other names and order of axes."""
    features = classifier.features
    nodes = _Nodes([name_of_kernel(classifier.task)])
    for number, pool in enumerate(features.pools):
        tensor, channels_last = backbone.map_of(pool)
        perm = [0, 1, 2, 3] if channels_last else [0, 2, 3, 1]
        nodes.add("Transpose", [tensor], output=f"{MAP}_{number}", perm=perm)
    parts = tuple(Part(classifier.shapes[pool.map], pool.how, pool.grid) for pool in features.pools)
    last = Dense(name_of_kernel(classifier.task), *classifier.head.weights())
    return _encoded(nodes, Places(parts, (last,), features.root))


def _encoded(nodes: _Nodes, places: Places) -> str:
    _write(nodes, places)
    return base64.b64encode(nodes.addition([Given(CLASS_ACTIVATION)])).decode("ascii")


class _Nodes(Nodes):
    """The added nodes. weights: names of the weights that the graph already has."""

    def __init__(self, weights: Collection[str]) -> None:
        super().__init__(f"{CLASS_ACTIVATION}/")
        self._weights = weights

    def put(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """Like add, but an input that is not a name becomes a constant of its own type."""
        names = [given if isinstance(given, str) else self.constant(given, given.dtype) for given in inputs]
        return self.add(operator, names, output=output, **attributes)

    def kernel(self, layer: Dense) -> str:
        """The weights (inputs, units) of a dense layer: those in the graph if they have its name, else a copy."""
        there = (given for given in self._weights if given == layer.name or given.endswith(f"/{layer.name}"))
        return next(there, "") or self.constant(layer.kernel)


def _axes(*axes: int) -> NDArray[np.int64]:
    return np.array(axes, np.int64)


def _write(nodes: _Nodes, places: Places) -> None:
    units = len(places.dense[-1].bias)
    pooled = [_pooled(nodes, part, f"{MAP}_{number}") for number, part in enumerate(places.parts)]
    read = [behind.output if behind else before for before, behind in pooled]
    features = read[0] if len(read) == 1 else nodes.put("Concat", *read, axis=1)
    if places.root:
        # What the root divides by is taken as given, so that gradient times features make the score.
        divisor = nodes.put("Sqrt", nodes.put("Add", nodes.put("Abs", features), np.float32(FLOOR)))
        gradient, rest = _backward(nodes, places.dense, nodes.put("Div", features, divisor))
        gradient = nodes.put("Div", gradient, nodes.put("Unsqueeze", divisor, _axes(2)))
    else:
        gradient, rest = _backward(nodes, places.dense, features)
    largest = max((part.shape[:2] for part in places.parts), key=lambda sides: sides[0] * sides[1])
    shares, start = [], 0
    for number, (part, (_, behind)) in enumerate(zip(places.parts, pooled, strict=True)):
        end = start + _width(part)
        own = gradient if len(read) == 1 else nodes.put("Slice", gradient, _axes(start), _axes(end), _axes(-2))
        start = end
        if behind:
            rest = nodes.put("Add", rest, nodes.put("MatMul", behind.offset, own))
            own = _before(nodes, behind, own)
        found = _shares(nodes, part, f"{MAP}_{number}", own, units)
        shares.append(_resized(nodes, found, part.shape[:2], largest))
    summed = shares[0] if len(shares) == 1 else nodes.put("Sum", *shares)
    nodes.put("Add", summed, nodes.put("Reshape", rest, _axes(-1, 1, 1, units)), output=CLASS_ACTIVATION)


@dataclass(frozen=True)
class _Normalised:
    """The output of a layer normalisation, and what its gradient needs."""

    output: str
    deviation: str
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


def _width(part: Part) -> int:
    height, width, channels = part.shape
    if part.how == "flatten":
        return height * width * channels
    return len(_cells(height, part.grid)) * len(_cells(width, part.grid)) * channels


def _cells(side: int, grid: int) -> list[tuple[int, int]]:
    """Start and end of each cell of a grid, as Keras pools it: the last may be smaller."""
    size = ceil(side / grid)
    return [(start, min(start + size, side)) for start in range(0, side, size)]


def _pooled(nodes: _Nodes, part: Part, name: str) -> tuple[str, _Normalised | None]:
    """A map after pooling, (n, width), and its normalisation, if any."""
    height, width = part.shape[:2]
    if part.how == "flatten":
        pooled = nodes.put("Flatten", name)
    elif part.how == "max":
        pooled = nodes.put("ReduceMax", name, axes=[1, 2], keepdims=0)
    elif part.grid == 1:
        pooled = nodes.put("ReduceMean", name, axes=[1, 2], keepdims=0)
    else:
        cells = [
            _cell(nodes, name, row, column) for row in _cells(height, part.grid) for column in _cells(width, part.grid)
        ]
        pooled = nodes.put(
            "Concat", *(nodes.put("ReduceMean", cell, axes=[1, 2], keepdims=0) for cell in cells), axis=1
        )
    normal = part.normalization
    if normal is None:
        return pooled, None
    centred = nodes.put("Sub", pooled, nodes.put("ReduceMean", pooled, axes=[1], keepdims=1))
    square = nodes.put("ReduceMean", nodes.put("Mul", centred, centred), axes=[1], keepdims=1)
    deviation = nodes.put("Sqrt", nodes.put("Add", square, np.float32(normal.epsilon)))
    scaled = nodes.put("Mul", nodes.put("Div", centred, deviation), normal.gamma)
    output = nodes.put("Add", scaled, normal.beta)
    return pooled, _Normalised(output, deviation, normal.gamma[:, None], normal.beta[None])


def _cell(nodes: _Nodes, name: str, rows: tuple[int, int], columns: tuple[int, int]) -> str:
    (top, bottom), (left, right) = rows, columns
    return nodes.put("Slice", name, _axes(top, left), _axes(bottom, right), _axes(1, 2))


def _before(nodes: _Nodes, normal: _Normalised, gradient: str) -> str:
    """The gradient with respect to the input of the normalisation. The scale is treated as constant, so that gradient
    times input plus offset is the score."""
    scaled = nodes.put("Mul", gradient, normal.scale)
    scaled = nodes.put("Div", scaled, nodes.put("Unsqueeze", normal.deviation, _axes(2)))
    return nodes.put("Sub", scaled, nodes.put("ReduceMean", scaled, axes=[1], keepdims=1))


def _shares(nodes: _Nodes, part: Part, name: str, gradient: str, units: int) -> str:
    """The contribution of each position (n, height, width, units); their mean is what the map contributes to the
    scores."""
    height, width, channels = part.shape
    if part.how == "flatten":
        by_place = nodes.put("Reshape", gradient, _axes(-1, height, width, channels, units))
        product = nodes.put("Mul", nodes.put("Unsqueeze", name, _axes(4)), by_place)
        return nodes.put("Mul", nodes.put("ReduceSum", product, _axes(3), keepdims=0), np.float32(height * width))
    if part.how == "max":
        # Only the maxima count, each weighted by how often it occurs, so that the mean is the maximum.
        most = nodes.put("ReduceMax", name, axes=[1, 2], keepdims=1)
        largest = nodes.put("Cast", nodes.put("Equal", name, most), to=1)
        count = nodes.put("ReduceMean", largest, axes=[1, 2], keepdims=1)
        name = nodes.put("Div", nodes.put("Mul", name, largest), count)
    if part.grid == 1:
        return nodes.put("MatMul", name, nodes.put("Reshape", gradient, _axes(-1, 1, channels, units)))
    lines, cell = [], 0
    for top, bottom in _cells(height, part.grid):
        line = []
        for left, right in _cells(width, part.grid):
            own = nodes.put("Slice", gradient, _axes(cell * channels), _axes((cell + 1) * channels), _axes(-2))
            weights = nodes.put("Reshape", own, _axes(-1, 1, channels, units))
            found = nodes.put("MatMul", _cell(nodes, name, (top, bottom), (left, right)), weights)
            line.append(nodes.put("Mul", found, np.float32(height * width / ((bottom - top) * (right - left)))))
            cell += 1
        lines.append(nodes.put("Concat", *line, axis=2))
    return nodes.put("Concat", *lines, axis=1)


def _resized(nodes: _Nodes, shares: str, sides: tuple[int, int], wanted: tuple[int, int]) -> str:
    """The contributions (n, height, width, units) of a small map, resized to a larger one with the same mean."""
    if tuple(sides) == tuple(wanted):
        return shares
    channels_first = nodes.put("Transpose", shares, perm=[0, 3, 1, 2])
    outer = nodes.put("Slice", nodes.put("Shape", channels_first), _axes(0), _axes(2), _axes(0))
    sizes = nodes.put("Concat", outer, _axes(*wanted), axis=0)
    wide = nodes.put("Resize", channels_first, "", "", sizes, mode="linear")
    wide = nodes.put("Transpose", wide, perm=[0, 2, 3, 1])
    before, after = (nodes.put("ReduceMean", each, axes=[1, 2], keepdims=1) for each in (shares, wide))
    return nodes.put("Add", wide, nodes.put("Sub", before, after))


def _backward(nodes: _Nodes, dense: tuple[Dense, ...], read: str) -> tuple[str, str]:
    """For each score: its gradient with respect to the input of the first dense layer, (n, inputs), as (n or none,
    inputs, units), and what the biases add, (n or 1, 1, units)."""
    hidden = []
    for layer in dense[:-1]:
        read = nodes.put("Relu", nodes.put("Gemm", read, nodes.kernel(layer), layer.bias))
        hidden.append(read)
    gradient, rest = nodes.kernel(dense[-1]), nodes.constant(dense[-1].bias[None, None])
    for layer, output in reversed(list(zip(dense[:-1], hidden, strict=True))):
        active = nodes.put("Cast", nodes.put("Greater", output, np.float32(0)), to=1)
        gradient = nodes.put("Mul", gradient, nodes.put("Unsqueeze", active, _axes(2)))
        rest = nodes.put("Add", rest, nodes.put("MatMul", layer.bias[None], gradient))
        gradient = nodes.put("MatMul", nodes.kernel(layer), gradient)
    return gradient, rest
