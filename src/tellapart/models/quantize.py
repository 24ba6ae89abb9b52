"""An ONNX graph of ours -> the same with int8 arithmetic, or with its logits divided by a temperature. Needs `onnx`.

Activations and weights are rounded to 8 bits in ranges that images give. The first convolution and the last layers stay
in float32: they cost little, and the difference from float32 is smaller then.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.models.quiet import quiet
from tellapart.models.runtime import onnx_runtime

if TYPE_CHECKING:
    import onnx

_LINEAR = ("Gemm", "MatMul")
_ACTIVATIONS = ("Softmax", "Sigmoid")


def int8(graph: onnx.ModelProto, images: NDArray[np.uint8], path: Path) -> None:
    """Write the graph in int8 to `path`. images: (n, height, width, channels), which give the ranges of values."""
    import onnx

    quantization = onnx_runtime(".quantization")
    given = onnx.ModelProto()
    given.CopyFrom(graph)
    for node in given.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"  # the same, and known to the quantizer
    # Names of nodes are optional, and what stays in float32 is named.
    for number, node in enumerate(given.graph.node):
        node.name = f"node_{number}"

    class Reader:
        """Images, one by one, as the quantizer requests them."""

        def __init__(self) -> None:
            self._left = ({graph.graph.input[0].name: image[None]} for image in images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder, quiet("root"):
        plain, prepared = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
        onnx.save(given, str(plain))
        quantization.quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=sorted(_first_layers(made := onnx.load(str(prepared)).graph) | _last_layers(made)),
        )


def cooled(graph: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """A copy whose logits are divided by the temperature. Raises ExportError for a graph without logits."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(graph)
    nodes = made.graph.node
    last = next((n for n, node in reversed(list(enumerate(nodes))) if node.op_type in _ACTIVATIONS), None)
    if last is None:
        raise ExportError("The network has no probabilities that could be calibrated anew.")
    name = nodes[last].input[0]
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1 / temperature), "cooled/factor"))
    nodes[last].input[0] = "cooled"
    nodes.insert(last, onnx.helper.make_node("Mul", [name, "cooled/factor"], ["cooled"], name="cooled"))
    return made


def _first_layers(graph: onnx.GraphProto) -> set[str]:
    """The names of the nodes up to the first convolution; none where there is none."""
    names = [(node.name, node.op_type) for node in graph.node]
    first = next((place for place, (_, kind) in enumerate(names) if kind == "Conv"), -1)
    return {name for name, _ in names[: first + 1]}


def _last_layers(graph: onnx.GraphProto) -> set[str]:
    """The names of the nodes from the last linear layers on to the outputs."""
    makers = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    left = [makers[output.name] for output in graph.output if output.name in makers]
    while left:
        node = left.pop()
        if node.name not in found:
            found.add(node.name)
            # Convolutions behind an output read maps: of class activation.
            if node.op_type not in (*_LINEAR, "Conv"):
                left += [makers[name] for name in node.input if name in makers]
    return found


def entries(graph: onnx.ModelProto) -> dict[str, str]:
    """What stands beside the graph."""
    return {entry.key: entry.value for entry in graph.metadata_props}


def put_entries(graph: onnx.ModelProto, found: dict[str, str]) -> None:
    """Replace what stands beside the graph."""
    del graph.metadata_props[:]
    for key, value in found.items():
        graph.metadata_props.add(key=key, value=value)
