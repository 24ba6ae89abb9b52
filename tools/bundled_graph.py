"""A backbone in the package -> its graph as ONNX, image in and features out, next to its weights.

    python tools/bundled_graph.py [NAME ...]

The graph has no large weights: it reads them from the safetensors file next to it, at their offsets there, and converts
float16 to float32 and Keras' axes to ONNX'. So features need neither Keras nor a second copy of the weights. It takes
images of any size. A test writes it again and compares.
"""

from __future__ import annotations

import argparse
import json
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backbone import Backbone
from tellapart.models.backend import start_keras
from tellapart.models.build import build_backbone
from tellapart.models.features import FeatureSet, union
from tellapart.models.onnx_file import Nodes
from tellapart.models.onnx_graph import write_graph
from tellapart.models.pretrained import PRETRAINED, PretrainedBackbone, candidates
from tellapart.models.pretrained_weights import bundled_file, bundled_graph
from tellapart.models.registry import ARCHITECTURES
from tellapart.models.weights_file import load_weights

if TYPE_CHECKING:
    import onnx

LARGE = 2
"""Constants with fewer values stay in the graph."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bundled = [name for name, pretrained in PRETRAINED.items() if bundled_file(pretrained).exists()]
    parser.add_argument("names", nargs="*", default=bundled, metavar="NAME", help=", ".join(bundled))
    for name in parser.parse_args().names:
        bundled_graph(name).write_bytes(write(PRETRAINED[name]))


def write(pretrained: PretrainedBackbone) -> bytes:
    """The ONNX file of a bundled backbone: the output of each pool of its candidates is an output."""
    taken = union(candidates(pretrained).values())
    whole = FeatureSet(tuple(pool for pool in taken.pools if pool.grid == 1))
    quarters = [pool for pool in taken.pools if pool.grid == 2]
    backbone = _backbone(pretrained)
    given = [*whole.parts(backbone), *(backbone.maps[pool.map] for pool in quarters)]
    network = start_keras().Model(backbone.image, given, name=pretrained.name)
    graph = write_graph(network, [*(pool.key for pool in whole.pools), *(pool.map for pool in quarters)])
    _take_from(bundled_file(pretrained), graph.graph)
    for pool in quarters:
        _add_quarters(graph.graph, pool.map, pool.key)
    return graph.SerializeToString(deterministic=True)


def _backbone(pretrained: PretrainedBackbone) -> Backbone:
    row = ARCHITECTURES[pretrained.name]
    image = start_keras().Input((None, None, 3), dtype="uint8", name="image")
    backbone = build_backbone(row, row.options(), image)
    load_weights(backbone, bundled_file(pretrained))
    return backbone


def _add_quarters(graph: onnx.GraphProto, name: str, output: str) -> None:
    """Replace an output (n, height, width, channels) by the averages of its quarters, for any size of the image. The
    first half of an odd number of rows is the larger, as in Keras' pooling."""
    from onnx import NodeProto, TensorProto, helper

    nodes = Nodes(f"{name}/")
    place = next(number for number, value in enumerate(graph.output) if value.name == name)
    channels = graph.output[place].type.tensor_type.shape.dim[3].dim_value
    del graph.output[place]
    zero, one, two, three, end = (nodes.constant([number], np.int64) for number in (0, 1, 2, 3, np.iinfo(np.int64).max))
    size = nodes.add("Slice", [nodes.add("Shape", [name]), one, three])
    half = nodes.add("Div", [nodes.add("Add", [size, one]), two])
    middle, centre = (nodes.add("Slice", [half, start, stop]) for start, stop in ((zero, one), (one, two)))
    cells = []
    for top, bottom in ((zero, middle), (middle, end)):
        rows = nodes.add("Slice", [name, top, bottom, one])
        for left, right in ((zero, centre), (centre, end)):
            cells.append(
                nodes.add("ReduceMean", [nodes.add("Slice", [rows, left, right, two])], axes=[1, 2], keepdims=0)
            )
    nodes.add("Concat", cells, output=output, axis=1)
    graph.node.extend(NodeProto.FromString(node.encoded()) for node in nodes.nodes)
    graph.initializer.extend(TensorProto.FromString(constant.encoded()) for constant in nodes.constants)
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 4 * channels]))


def _take_from(weights: Path, graph: onnx.GraphProto) -> None:
    """Replace every large constant by a tensor of the file, and the nodes that compute the constant from it."""
    from onnx import TensorProto, helper, numpy_helper

    stored = _tensors(weights)
    nodes, constants = [], []
    for constant in graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.size < LARGE or value.dtype != np.float32:
            constants.append(constant)
            continue
        name, axes = _found(value, stored)
        kept, offset = stored[name]
        kind = TensorProto.FLOAT16 if kept.dtype == np.float16 else TensorProto.FLOAT
        tensor = TensorProto(name=name, data_type=kind, dims=kept.shape, data_location=TensorProto.EXTERNAL)
        for key, entry in (("location", weights.name), ("offset", offset), ("length", kept.nbytes)):
            tensor.external_data.add(key=key, value=str(entry))
        if all(name != other.name for other in constants):
            constants.append(tensor)
        wide = f"{constant.name}/wide"
        nodes.append(helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Transpose", [wide], [constant.name], perm=axes))
    nodes += graph.node
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(constants)
    graph.node.extend(nodes)


def _found(value: NDArray[np.float32], stored: dict[str, tuple[NDArray[Any], int]]) -> tuple[str, tuple[int, ...]]:
    """The tensor with these values, and the order of its axes that gives them."""
    for name, (kept, _) in stored.items():
        if sorted(kept.shape) == sorted(value.shape):
            for axes in permutations(range(kept.ndim)):
                turned = kept.transpose(axes)
                if turned.shape == value.shape and np.array_equal(turned.astype(np.float32), value):
                    return name, axes
    raise ValueError(f"No tensor of the weights has the values of a constant of shape {value.shape}.")


def _tensors(path: Path) -> dict[str, tuple[NDArray[Any], int]]:
    """Each tensor of a safetensors file and the offset of its bytes."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    kinds = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            offset, end = (start + place for place in entry["data_offsets"])
            values = np.frombuffer(content[offset:end], kinds[entry["dtype"]])
            found[name] = values.reshape(entry["shape"]), offset
    return found


if __name__ == "__main__":
    main()
