"""A network with layers that models.onnx_graph does not support -> its ONNX graph, by Keras' own export.

Keras uses tf2onnx (extra `export`), which is slow and does not support every layer either. The caller compares the
result with Keras.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import ExportError
from tellapart.models.backend import backend_name, start_keras
from tellapart.models.onnx_file import OPSET
from tellapart.models.onnx_graph import UnknownLayerError, write_graph

if TYPE_CHECKING:
    import keras
    import onnx

CONVERTER = "tf2onnx"


def graph_of(model: keras.Model, outputs: Sequence[str], inside: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """From write_graph, or, if that does not know a layer, from Keras. inside: inner tensors of the network that also
    get names in the graph, but are not outputs.

    Raises UnknownLayerError if Keras' converter is not installed, ExportError if it fails as well.
    """
    if inside:
        more = start_keras().Model(model.input, [*model.outputs, *inside.values()])
        made = graph_of(more, [*outputs, *inside])
        del made.graph.output[len(outputs) :]
        return made
    try:
        return write_graph(model, outputs)
    except UnknownLayerError as error:
        if importlib.util.find_spec(CONVERTER) is None:
            raise UnknownLayerError(
                error.what, "Keras' own export may support it: pip install 'tellapart[export]'."
            ) from None
        return _by_keras(model, outputs, error.what)


def _by_keras(model: keras.Model, outputs: Sequence[str], what: str) -> onnx.ModelProto:
    import onnx
    from onnx import helper

    (taken,) = model.inputs
    whole = start_keras().Model(taken, model.outputs)
    whole(np.zeros((1, *taken.shape[1:]), taken.dtype))  # Keras only exports networks that were called once
    logging.getLogger(CONVERTER).setLevel(logging.CRITICAL)
    if backend_name() == "tensorflow":
        _teach_erfc()
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the converter are not for users
        path = Path(folder) / "model.onnx"
        try:
            whole.export(str(path), format="onnx", verbose=False, opset_version=OPSET)
            made = onnx.load(str(path))
        except Exception as error:  # the converter raises many kinds of errors
            raise ExportError(f"{what}, and Keras' own export cannot write the network either: {error}") from error
    # A constant created when a layer was built also becomes an input, which nothing reads.
    read = {name for node in made.graph.node for name in node.input}
    for unread in [given for given in made.graph.input if given.name not in read]:
        made.graph.input.remove(unread)
    if len(made.graph.input) != 1:
        raise ExportError(
            f"{what}, and the file of Keras' own export needs other inputs than images, so it cannot be used."
        )
    for given, name in zip(made.graph.output, outputs, strict=True):
        made.graph.node.append(helper.make_node("Identity", [given.name], [name]))
        given.name = name
    return made


def _teach_erfc() -> None:
    """Let the converter write Erfc, which TensorFlow uses for an exact GELU and ONNX lacks, as 1 - Erf. An existing
    handler is kept."""
    import tf2onnx.tfonnx  # noqa: F401 - with all that it knows
    from onnx import helper
    from tf2onnx.constants import ONNX_DOMAIN
    from tf2onnx.handler import tf_op

    if any("Erfc" in operators for operators in tf_op.get_opsets()[ONNX_DOMAIN]):
        return

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
            """The first version of ONNX with Erf."""
            kind, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
            graph.remove_node(node.name)
            one = graph.make_const(f"{node.name}_one", np.ones((), helper.tensor_dtype_to_np_dtype(kind)))
            erf = graph.make_node("Erf", node.input, dtypes=[kind], shapes=[shape])
            parts = [one.output[0], erf.output[0]]
            graph.make_node("Sub", parts, outputs=node.output, name=node.name, dtypes=[kind], shapes=[shape])
