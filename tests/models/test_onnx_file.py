"""Protocol buffers by hand: what is written is what the onnx package reads, and the other way round."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.models.onnx_file import File, Given, Node, Nodes, constants_in, graphs_in, values_in

onnx = pytest.importorskip("onnx")


def test_a_written_file_is_what_the_onnx_package_makes_of_the_same_parts() -> None:
    nodes = Nodes("some/")
    large = nodes.constant(np.arange(600).reshape(2, 300), name="large")
    small = nodes.constant([-1, 2**40], np.int64)
    nodes.add("Resize", [large, "", small], output="out", mode="linear", axes=[-2, 300], keepdims=0, alpha=0.25)
    inputs, outputs = [Given("image", "uint8", ("n", 4, 4, 3))], [Given("out", shape=("n", 7)), Given("untold")]
    file = File("net", [node.encoded() for node in nodes.nodes], nodes.constants, inputs, outputs, {"key": "Übung"})
    made = onnx.ModelProto.FromString(b"".join(file.parts()))
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node(
                "Resize",
                ["large", "", "some/constant_1"],
                ["out"],
                mode="linear",
                axes=[-2, 300],
                keepdims=0,
                alpha=0.25,
            )
        ],
        "net",
        [helper.make_tensor_value_info("image", kinds.UINT8, ["n", 4, 4, 3])],
        [helper.make_tensor_value_info("out", kinds.FLOAT, ["n", 7]), onnx.ValueInfoProto(name="untold")],
        [
            onnx.numpy_helper.from_array(np.arange(600, dtype=np.float32).reshape(2, 300), "large"),
            onnx.numpy_helper.from_array(np.array([-1, 2**40]), "some/constant_1"),
        ],
    )
    opset = helper.make_opsetid("", 17)
    wanted = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="tellapart")
    wanted.metadata_props.add(key="key", value="Übung")
    for each in (made, wanted):
        each.graph.node[0].attribute.sort(key=lambda attribute: attribute.name)
        each.graph.node[0].name = ""
    assert made == wanted


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64])
def test_constants_that_the_onnx_package_wrote_are_read(kind: type) -> None:
    values = np.arange(12).reshape(3, 4).astype(kind)
    graph = onnx.helper.make_graph([], "net", [], [], [onnx.numpy_helper.from_array(values, "given")])
    (read,) = graphs_in(onnx.helper.make_model(graph).SerializeToString())
    ((name, constant),) = constants_in(read)
    assert name == "given"
    np.testing.assert_array_equal(values_in(constant), values)


def test_a_tensor_whose_bytes_do_not_make_its_shape_is_an_error() -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "given")
    tensor.dims[0] = 2**40
    with pytest.raises(ValueError, match="cannot reshape"):
        values_in(memoryview(tensor.SerializeToString()))
    tensor.data_type = onnx.TensorProto.DOUBLE
    with pytest.raises(ValueError, match="numbers of the kind 11"):
        values_in(memoryview(tensor.SerializeToString()))


def test_a_node_without_attributes_has_none() -> None:
    assert len(onnx.NodeProto.FromString(Node("Relu", ["a"], "b", {}).encoded()).attribute) == 0
