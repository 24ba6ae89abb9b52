"""Classifier -> the ONNX nodes for class activation maps: which region of an image supports which class.

For networks whose file does not give that as one of its outputs (models.classifier) since it would take time at each
prediction, or is no plain layer: those that flatten a feature map, take its largest values, or have dense layers behind
it. The addition stands in the metadata of model.onnx; whoever wants it opens the file's bytes with the addition behind
them, which by the rules of protocol buffers is one graph. So heat needs neither Keras nor gradients at run time.

A place's share of a class's score is its features times their gradient, summed, plus an even part of what the biases
add: the mean of the shares over all places is the score before sigmoid or softmax. Where a network averages its feature
map this is the class activation map (Zhou et al., CVPR 2016) and Grad-CAM (Selvaraju et al., ICCV 2017) without its
scale; where it flattens it, the gradient of each place is kept as it is (Draelos and Carin, HiResCAM, 2020): Grad-CAM
averages it, and then hardly agreed with occlusion (rank correlation 0.1 against 0.3 over three networks on cats, dogs
and pets). For a network without convolutions it is gradient times input.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backend import start_keras
from tellapart.models.classifier import CLASS_ACTIVATION, Classifier
from tellapart.models.features import How

if TYPE_CHECKING:
    import onnx

MAP = "feature_map"
"""Name of the tensor that holds the feature map, (n, height, width, channels), in a graph that gets an addition."""


@dataclass(frozen=True)
class Places:
    """Where a network last knows places. map: the Keras tensor, (n, height, width, channels); how it is left: average,
    max or flatten; normalization: a layer normalisation behind that, if any; dense: the layers from there to the
    probabilities, with ReLU but for the last."""

    map: Any
    how: How
    normalization: Any
    dense: tuple[Any, ...]


def places_of(classifier: Classifier) -> Places | None:
    """None for a network whose features are of several maps, of a grid, or of none with places; or normalised in a way
    that is not written here."""
    made, backbone = classifier.features, classifier.backbone
    pools = made.declared.pools
    found = backbone.maps[pools[0].map]
    whole = len(pools) == 1 and (pools[0].how == "flatten" or pools[0].grid == 1)
    normalization = backbone.normalization if made.normalised else None
    known = normalization is None or isinstance(normalization, start_keras().layers.LayerNormalization)
    if not (whole and known and len(found.shape) == 4):
        return None
    return Places(found, pools[0].how, normalization, (*made.dense, *classifier.head.hidden, classifier.head.last))


def addition(places: Places, graph: onnx.ModelProto) -> str:
    """Base64 of the nodes that give CLASS_ACTIVATION. graph: of the whole network, with MAP in it."""
    import onnx

    nodes = _Nodes([value.name for value in graph.graph.initializer])
    _write(nodes, places)
    added = onnx.ModelProto()
    added.graph.node.extend(nodes.nodes)
    added.graph.initializer.extend(nodes.constants)
    added.graph.output.append(onnx.ValueInfoProto(name=CLASS_ACTIVATION))
    return base64.b64encode(added.SerializeToString()).decode("ascii")


class _Nodes:
    """Nodes and constants of the addition. weights: names of those that the graph has already."""

    def __init__(self, weights: list[str]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._weights = weights

    def add(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """A node; an input that is no name is a constant. Returns the name of its output."""
        from onnx import helper

        names = [given if isinstance(given, str) else self.constant(given) for given in inputs]
        output = output or f"{CLASS_ACTIVATION}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"{CLASS_ACTIVATION}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def kernel(self, layer: Any) -> str:
        """The weights (inputs, units) of a dense layer: those of the graph where they bear its name, else a copy."""
        name = kernel_name(layer)
        there = (given for given in self._weights if given == name or given.endswith(f"/{name}"))
        return next(there, "") or self.constant(_values(layer.kernel))


def kernel_name(layer: Any) -> str:
    """Of the constant that holds the weights of a dense layer, where onnx_graph wrote it."""
    return f"{layer.name}/kernel"


def _values(variable: Any) -> NDArray[np.float32]:
    return np.asarray(variable, np.float32)


def _axes(*axes: int) -> NDArray[np.int64]:
    return np.array(axes, np.int64)


def _write(nodes: _Nodes, places: Places) -> None:
    found = MAP
    height, width, channels = places.map.shape[1:]
    normal, dense = places.normalization, places.dense
    if places.how == "flatten":
        pooled = nodes.add("Flatten", found)
    elif places.how == "average":
        pooled = nodes.add("ReduceMean", found, axes=[1, 2], keepdims=0)
    else:
        pooled = nodes.add("ReduceMax", found, axes=[1, 2], keepdims=0)
        largest = nodes.add("Cast", nodes.add("Equal", found, nodes.add("Unsqueeze", pooled, _axes(1, 2))), to=1)
        count = nodes.add("ReduceMean", largest, axes=[1, 2], keepdims=1)
        # Only the largest values count, each as often as there are places for it: the mean is the largest value.
        found = nodes.add("Div", nodes.add("Mul", found, largest), count)
    gradient, rest = _backward(nodes, dense, normal, pooled)
    units = dense[-1].units
    if places.how == "flatten":
        by_place = nodes.add("Reshape", gradient, _axes(-1, height, width, channels, units))
        product = nodes.add("Mul", nodes.add("Unsqueeze", found, _axes(4)), by_place)
        summed = nodes.add("ReduceSum", product, _axes(3), keepdims=0)
        shares = nodes.add("Mul", summed, np.float32(height * width))
    else:
        shares = nodes.add("MatMul", found, nodes.add("Reshape", gradient, _axes(-1, 1, channels, units)))
    nodes.add("Add", shares, nodes.add("Reshape", rest, _axes(-1, 1, 1, units)), output=CLASS_ACTIVATION)


def _backward(nodes: _Nodes, dense: tuple[Any, ...], normal: Any, pooled: str) -> tuple[str, str]:
    """Of each score: its gradient by what `pooled` (n, inputs) holds, (n or 1, inputs, units), and what the biases add,
    (n or 1, 1, units). A normalisation's scale is taken as given, so that both together make the score."""
    if normal:
        centred = nodes.add("Sub", pooled, nodes.add("ReduceMean", pooled, axes=[1], keepdims=1))
        square = nodes.add("ReduceMean", nodes.add("Mul", centred, centred), axes=[1], keepdims=1)
        deviation = nodes.add("Sqrt", nodes.add("Add", square, np.float32(normal.epsilon)))
        scaled = nodes.add("Mul", nodes.add("Div", centred, deviation), _values(normal.gamma))
        pooled = nodes.add("Add", scaled, _values(normal.beta))
    hidden = []
    for layer in dense[:-1]:
        pooled = nodes.add("Relu", nodes.add("Gemm", pooled, nodes.kernel(layer), _values(layer.bias)))
        hidden.append(pooled)
    gradient, rest = nodes.kernel(dense[-1]), nodes.constant(_values(dense[-1].bias)[None, None])
    for layer, output in reversed(list(zip(dense[:-1], hidden, strict=True))):
        active = nodes.add("Cast", nodes.add("Greater", output, np.float32(0)), to=1)
        gradient = nodes.add("Mul", gradient, nodes.add("Unsqueeze", active, _axes(2)))
        rest = nodes.add("Add", rest, nodes.add("MatMul", _values(layer.bias)[None], gradient))
        gradient = nodes.add("MatMul", nodes.kernel(layer), gradient)
    if normal:
        rest = nodes.add("Add", rest, nodes.add("MatMul", _values(normal.beta)[None], gradient))
        scaled = nodes.add("Mul", gradient, _values(normal.gamma)[:, None])
        scaled = nodes.add("Div", scaled, nodes.add("Unsqueeze", deviation, _axes(2)))
        gradient = nodes.add("Sub", scaled, nodes.add("ReduceMean", scaled, axes=[1], keepdims=1))
    return gradient, rest
