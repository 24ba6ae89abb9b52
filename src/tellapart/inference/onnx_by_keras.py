"""A network with layers that inference.onnx_graph does not support -> its ONNX graph, by Keras' own export.

That goes by tf2onnx (extra `export`), takes its time, and has layers of its own that it cannot write. Whoever converts
compares the outcome with Keras.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from tellapart.errors import ExportError
from tellapart.inference.onnx_graph import OPSET, UnknownLayerError, write_graph
from tellapart.models.backend import start_keras

if TYPE_CHECKING:
    import keras
    import onnx

CONVERTER = "tf2onnx"


def graph_of(model: keras.Model, outputs: Sequence[str]) -> onnx.ModelProto:
    """As write_graph has it, or where that does not know a layer, as Keras has it.

    Raises UnknownLayerError where Keras' converter is not installed, ExportError where that fails as well.
    """
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
    whole(np.zeros((1, *taken.shape[1:]), taken.dtype))  # Keras exports what was called once
    logging.getLogger(CONVERTER).setLevel(logging.CRITICAL)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own are not the user's to mend
        path = Path(folder) / "model.onnx"
        try:
            whole.export(str(path), format="onnx", verbose=False, opset_version=OPSET)
            made = onnx.load(str(path))
        except Exception as error:  # the converter has errors of many kinds
            raise ExportError(f"{what}, and Keras' own export cannot write the network either: {error}") from error
    if len(made.graph.input) != 1:
        raise ExportError(
            f"{what}, and the file of Keras' own export needs other inputs than images, so it cannot be used."
        )
    for given, name in zip(made.graph.output, outputs, strict=True):
        made.graph.node.append(helper.make_node("Identity", [given.name], [name]))
        given.name = name
    return made
