"""A Keras network of common layers -> its ONNX graph, written layer by layer.

tf2onnx converts any network, through TensorFlow's graphs, but takes time and memory: seconds for EfficientNet-Lite0,
most of a minute for Inception-ResNet-v2, 14 GB for a network of 700 MB. So the layers of our architectures are written
here, with any Keras backend. The caller compares the result with Keras. Layers unknown here are converted by
models.onnx_by_keras.

Inside the graph, images are (n, channels, height, width); inputs and outputs are as in Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.models.backend import start_keras
from tellapart.models.onnx_file import IR, OPSET, PRODUCER, Nodes

if TYPE_CHECKING:
    import keras
    import onnx

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": 1}),
    "hard_silu": ("HardSwish", {}),
}
_PADDINGS = {"same": "SAME_UPPER", "valid": "VALID"}


class UnknownLayerError(ExportError):
    """A layer, or an option of one, that is not supported here."""

    def __init__(self, what: str, remedy: str = "See tellapart/models/onnx_graph.py.") -> None:
        super().__init__(f"{what}, which cannot be written as ONNX here. {remedy}")
        self.what = what


def write_graph(model: keras.Model, outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph of a float32 functional network whose inputs and outputs are images, maps or vectors.

    outputs: their names in the graph. The result is not verified: the caller compares it with Keras. Raises
    UnknownLayerError.
    """
    from onnx import TensorProto, helper, numpy_helper

    keras = start_keras()
    graph = _Graph()
    names: dict[int, str] = {}
    taken, answers = [], []
    for tensor in model.inputs:
        kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[str(tensor.dtype)]
        taken.append(helper.make_tensor_value_info(tensor.name, kind, _shape(tensor)))
        names[id(tensor)] = graph.enter(tensor.name, len(tensor.shape), str(tensor.dtype))
    # For a layer that is used in two networks, only the nodes tell which tensors are read.
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer = node.operation
            # An operator between layers has a layer's name, but may have a number after its tensor.
            given = node.arguments.keras_tensors if isinstance(layer, keras.Layer) else node.arguments.args
            write = _LAYERS.get(type(layer).__name__)
            if write is None or not all(id(part) in names or isinstance(part, int | float) for part in given):
                raise UnknownLayerError(f"{layer.name} is a {type(layer).__name__}")
            inputs = [names[id(part)] if id(part) in names else graph.constant(part) for part in given]
            names[id(node.outputs[0])] = write(graph, layer, inputs)
    for tensor, name in zip(model.outputs, outputs, strict=True):
        if len(tensor.shape) == 4:
            graph.channels_last(names[id(tensor)], name)
        else:
            graph.add("Identity", [names[id(tensor)]], output=name)
        answers.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, _shape(tensor)))
    nodes = [helper.make_node(node.operator, node.inputs, [node.output], **node.attributes) for node in graph.nodes]
    bare = helper.make_graph(nodes, model.name, taken, answers)
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(bare, opset_imports=[opset], ir_version=IR, producer_name=PRODUCER)
    while graph.constants:  # one by one, as each is copied: so the weights are in memory only once
        constant = graph.constants.pop(0)
        made.graph.initializer.append(numpy_helper.from_array(constant.values, constant.name))
    return made


def kernel_name(layer: Any) -> str:
    """The name of the constant with the weights of a dense layer."""
    return f"{layer.name}/kernel"


def _shape(tensor: Any) -> list[int | str]:
    return ["n", *(side or f"side_{axis}" for axis, side in enumerate(tensor.shape[1:]))]


class _Graph(Nodes):
    """The nodes of a Keras network, whose images are (n, channels, height, width) inside."""

    def enter(self, name: str, rank: int, dtype: str) -> str:
        if dtype == "uint8":
            name = self.add("Cast", [name], to=1)
        return self.channels_first(name) if rank == 4 else name

    def channels_first(self, name: str) -> str:
        return self.add("Transpose", [name], perm=[0, 3, 1, 2])

    def channels_last(self, name: str, output: str = "") -> str:
        return self.add("Transpose", [name], output=output, perm=[0, 2, 3, 1])

    def activate(self, name: str, activation: Any) -> str:
        kind = activation.__name__
        if kind == "linear":
            return name
        if kind == "silu":
            return self.add("Mul", [name, self.add("Sigmoid", [name])])
        if kind == "gelu":
            # x (1 + erf(x / sqrt 2)) / 2, in the order that runtimes recognise and fuse.
            erf = self.add("Erf", [self.add("Div", [name, self.constant(np.sqrt(2))])])
            twice = self.add("Mul", [name, self.add("Add", [erf, self.constant(1)])])
            return self.add("Mul", [twice, self.constant(0.5)])
        if kind not in _ACTIVATIONS:
            raise UnknownLayerError(f"the activation {kind}")
        operator, attributes = _ACTIVATIONS[kind]
        return self.add(operator, [name], **attributes)


def _require(right: bool, layer: keras.Layer, what: str) -> None:
    if not right:
        raise UnknownLayerError(f"{layer.name} has {what}")


def _values(variable: Any) -> NDArray[np.float32]:
    return np.asarray(variable, np.float32)


def _rescaling(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    shape = (1, -1, 1, 1) if len(layer.output.shape) == 4 else (1, -1)
    scale, offset = (np.reshape(np.asarray(value, np.float32), shape) for value in (layer.scale, layer.offset))
    return graph.add("Add", [graph.add("Mul", [inputs[0], graph.constant(scale)]), graph.constant(offset)])


def _convolution(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    _require(tuple(layer.dilation_rate) == (1, 1), layer, "dilation")
    kernel = _values(layer.kernel)
    if depthwise:
        _require(layer.depth_multiplier == 1, layer, "a depth multiplier")
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        kernel = kernel.transpose(3, 2, 0, 1)
    made = graph.add(
        "Conv",
        [inputs[0], graph.constant(kernel), *([graph.constant(_values(layer.bias))] if layer.use_bias else [])],
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        group=kernel.shape[0] if depthwise else layer.groups,
        auto_pad=_PADDINGS[layer.padding],
    )
    return graph.activate(made, layer.activation)


def _separable_convolution(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(tuple(layer.dilation_rate) == (1, 1), layer, "dilation")
    _require(layer.depth_multiplier == 1, layer, "a depth multiplier")
    by_channel, across = (_values(kernel) for kernel in (layer.depthwise_kernel, layer.pointwise_kernel))
    between = graph.add(
        "Conv",
        [*inputs, graph.constant(by_channel.transpose(2, 3, 0, 1))],
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        group=by_channel.shape[2],
        auto_pad=_PADDINGS[layer.padding],
    )
    bias = [graph.constant(_values(layer.bias))] if layer.use_bias else []
    made = graph.add("Conv", [between, graph.constant(across.transpose(3, 2, 0, 1)), *bias], kernel_shape=[1, 1])
    return graph.activate(made, layer.activation)


def _normalization(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    mean, variance = _values(layer.moving_mean), _values(layer.moving_variance)
    scale = _values(layer.gamma) if layer.scale else np.ones_like(mean)
    offset = _values(layer.beta) if layer.center else np.zeros_like(mean)
    _require(len(layer.output.shape) == 4 and layer.axis in (-1, 3), layer, "another axis")
    parts = [graph.constant(part) for part in (scale, offset, mean, variance)]
    return graph.add("BatchNormalization", [*inputs, *parts], epsilon=float(layer.epsilon))


def _relu(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(not layer.negative_slope and not layer.threshold, layer, "a slope or threshold")
    if layer.max_value is None:
        return graph.add("Relu", inputs)
    return graph.add("Clip", [*inputs, graph.constant(0), graph.constant(layer.max_value)])


def _pooling(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    # Both exclude the padding from an average.
    kind = "AveragePool" if "Average" in type(layer).__name__ else "MaxPool"
    size, strides = list(layer.pool_size), list(layer.strides)
    return graph.add(kind, inputs, kernel_shape=size, strides=strides, auto_pad=_PADDINGS[layer.padding])


def _global_pooling(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    kind = "GlobalAveragePool" if "Average" in type(layer).__name__ else "GlobalMaxPool"
    pooled = graph.add(kind, inputs)
    return pooled if layer.keepdims else graph.add("Flatten", [pooled])


def _padding(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.padding
    return graph.add("Pad", [*inputs, graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)])


def _cropping(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.cropping
    # A negative end counts from the other side, if there is one.
    ends = [-beside or np.iinfo(np.int64).max for beside in (bottom, right)]
    return graph.add("Slice", [*inputs, *(graph.constant(part, np.int64) for part in ([top, left], ends, [2, 3]))])


def _reshape(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    if not isinstance(layer, start_keras().layers.Layer):
        _require(len(layer.newshape) == 3, layer, "a reshape other than of vectors into two halves")
        return graph.add("Reshape", [*inputs, graph.constant(layer.newshape, np.int64)])
    plain = len(layer.input.shape) == 2 and tuple(layer.target_shape[:-1]) == (1, 1)
    _require(plain, layer, "a reshape other than of a vector into a 1x1 map")
    return graph.add("Unsqueeze", [*inputs, graph.constant([2, 3], np.int64)])


def _flatten(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    # Keras flattens (height, width, channels), and the weights after it have that order.
    last = graph.channels_last(inputs[0]) if len(layer.input.shape) == 4 else inputs[0]
    return graph.add("Flatten", [last])


def _dense(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    rank = len(layer.output.shape)
    kernel = graph.constant(_values(layer.kernel), name=kernel_name(layer))
    bias = [graph.constant(_values(layer.bias))] if layer.use_bias else []
    if rank == 2:
        return graph.activate(graph.add("Gemm", [*inputs, kernel, *bias]), layer.activation)
    _require(rank == 4, layer, f"{rank - 1} axes")
    made = graph.add("MatMul", [graph.channels_last(inputs[0]), kernel])
    made = graph.add("Add", [made, *bias]) if bias else made
    return graph.channels_first(graph.activate(made, layer.activation))


def _layer_normalization(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    rank = len(layer.output.shape)
    _require(list(np.atleast_1d(layer.axis)) in ([-1], [rank - 1]), layer, "another axis")
    _require(layer.scale and layer.center and not getattr(layer, "rms_scaling", False), layer, "no scale or offset")
    parts = [graph.constant(_values(part)) for part in (layer.gamma, layer.beta)]
    made = [graph.channels_last(inputs[0]) if rank == 4 else inputs[0], *parts]
    found = graph.add("LayerNormalization", made, axis=-1, epsilon=float(layer.epsilon))
    return graph.channels_first(found) if rank == 4 else found


def _unit_length(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(len(layer.output.shape) == 2, layer, "more than one axis")
    # Like Keras; runtimes differ in LpNormalization for tiny vectors.
    norm = graph.add("ReduceL2", inputs, axes=[1])
    return graph.add("Div", [*inputs, graph.add("Max", [norm, graph.constant(1e-12)])])


def _activation(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return graph.activate(inputs[0], layer.activation)


def _sum(graph: _Graph, layer: Any, inputs: list[str]) -> str:  # noqa: ARG001 - a row of the table
    return graph.add("Sum", inputs)


def _product(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(len(inputs) == 2, layer, "more than two factors")
    return graph.add("Mul", inputs)


def _scaled_sum(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return graph.add("Add", [inputs[0], graph.add("Mul", [inputs[1], graph.constant(layer.scale)])])


def _concatenation(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(layer.axis in (0, -1, len(layer.output.shape) - 1), layer, "another axis")
    return graph.add("Concat", inputs, axis=0 if layer.axis == 0 else 1)


def _flip(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(layer.axis in (-1, 2), layer, "another axis")
    axis = 1 if layer.axis == -1 else 3
    begin, end, step = -1, np.iinfo(np.int64).min, -1
    return graph.add("Slice", [*inputs, *(graph.constant([part], np.int64) for part in (begin, end, axis, step))])


def _mean(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    _require(layer.axis in (0, (0,), [0]) and not layer.keepdims, layer, "another axis")
    return graph.add("ReduceMean", inputs, axes=[0], keepdims=0)


def _absolute(graph: _Graph, layer: Any, inputs: list[str]) -> str:  # noqa: ARG001 - a row of the table
    return graph.add("Abs", inputs)


def _square_root(graph: _Graph, layer: Any, inputs: list[str]) -> str:  # noqa: ARG001 - a row of the table
    return graph.add("Sqrt", inputs)


def _quotient(graph: _Graph, layer: Any, inputs: list[str]) -> str:  # noqa: ARG001 - a row of the table
    return graph.add("Div", inputs)


def _same(graph: _Graph, layer: Any, inputs: list[str]) -> str:  # noqa: ARG001 - a row of the table
    return inputs[0]


_LAYERS: dict[str, Callable[[_Graph, Any, list[str]], str]] = {
    "Rescaling": _rescaling,
    "Flip": _flip,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "SeparableConv2D": _separable_convolution,
    "BatchNormalization": _normalization,
    "LayerNormalization": _layer_normalization,
    "ReLU": _relu,
    "Activation": _activation,
    "MaxPooling2D": _pooling,
    "AveragePooling2D": _pooling,
    "GlobalAveragePooling2D": _global_pooling,
    "GlobalMaxPooling2D": _global_pooling,
    "ZeroPadding2D": _padding,
    "Cropping2D": _cropping,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dense": _dense,
    "UnitNormalization": _unit_length,
    "Add": _sum,
    "CustomScaleLayer": _scaled_sum,
    "Multiply": _product,
    "Divide": _quotient,
    "Absolute": _absolute,
    "Sqrt": _square_root,
    "Mean": _mean,
    "Concatenate": _concatenation,
    "Dropout": _same,
}
