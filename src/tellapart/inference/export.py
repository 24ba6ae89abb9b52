"""keras.Model -> model.onnx with its Task and ImageSpec inside, refused unless it predicts what Keras predicts.

Read by: training, api. Needs the extra `train`.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import replacing
from tellapart.inference.class_activation import MAP, addition, last_map
from tellapart.inference.onnx_graph import UnknownLayerError, write_graph
from tellapart.inference.predictor import ADDITION_KEY, METADATA_KEY, Metadata, open_session
from tellapart.models.answers import CLASS_ACTIVATION, answering, answering_head
from tellapart.models.backend import start_keras

if TYPE_CHECKING:
    import keras
    import onnx

BOUND = 1e-3
BATCH = 8


def export_onnx(
    model: keras.Model,
    metadata: Metadata,
    path: Path,
    pictures: NDArray[np.uint8],
    *,
    means: NDArray[np.float32] | None = None,
    base: Path | None = None,
) -> float:
    """Write the file and return its largest difference from Keras, of all that it answers, on `pictures`.

    model: in float32. pictures: real ones, uint8 (n, height, width, channels), n > 0. means: of the features of each
    class, as models.answers takes them. base: the frozen base of `model` as `convert_base` wrote it, so that only the
    head is converted. Raises ExportError, and leaves whatever stood at `path`, where the difference is not below BOUND.
    """
    import onnx

    whole, names = answering(model, means)
    expected = outputs(whole, pictures)
    adds = CLASS_ACTIVATION not in names
    graph = _whole(model, whole, names, adds) if base is None else _on_base(onnx.load(str(base)), model, means, adds)
    entries = {METADATA_KEY: json.dumps(metadata.to_dict(), ensure_ascii=False)}
    if adds:
        entries[ADDITION_KEY] = addition(model, graph)
    for key, value in entries.items():
        graph.metadata_props.add(key=key, value=value)
    with replacing(path) as neighbour:
        onnx.save(graph, str(neighbour))
        del graph  # as large as the network, which the comparison has in memory twice
        difference = largest_difference(neighbour, pictures, dict(zip(names, expected, strict=True)))
        if not difference < BOUND:
            raise ExportError(
                f"The exported ONNX file differs from the trained network by {difference:.2g} on "
                f"{len(pictures)} pictures; the bound is {BOUND:g}. It was not written. Please report this with the "
                "run's config.toml."
            )
    return difference


def convert(model: keras.Model, names: Sequence[str]) -> onnx.ModelProto:
    """A float32 network as ONNX, its outputs under the names given. It has been called before, as Keras asks. Nothing
    is checked: the caller compares what the graph computes."""
    import onnx

    try:
        return write_graph(model, names)
    except UnknownLayerError:
        _teach_erfc()
        with tempfile.TemporaryDirectory() as folder, quiet(), _lean_passes():
            path = Path(folder) / "model.onnx"
            model.export(str(path), format="onnx", verbose=False)
            graph = onnx.load(str(path))
    _rename(graph.graph, {given.name: name for given, name in zip(graph.graph.output, names, strict=True)})
    return graph


def convert_base(base: keras.Model) -> onnx.ModelProto:
    """Picture in; out come the pooled features, and then the feature map that they are made of."""
    both = start_keras().Model(base.input, [base.output, last_map(base)])
    both(np.zeros((1, *base.input.shape[1:]), np.uint8))
    return convert(both, ["features", "feature_map"])


def _whole(model: keras.Model, whole: keras.Model, names: list[str], with_map: bool) -> onnx.ModelProto:
    """with_map: the feature map, where there is one, is a tensor inside, under the name MAP."""
    tensor = last_map(model) if with_map else None
    if tensor is None:
        return convert(whole, names)
    more = start_keras().Model(whole.input, [*whole.outputs, tensor])
    more(np.zeros((1, *model.input.shape[1:]), np.uint8))
    return _inside(convert(more, [*names, MAP]), MAP)


def _on_base(
    base: onnx.ModelProto, model: keras.Model, means: NDArray[np.float32] | None, with_map: bool
) -> onnx.ModelProto:
    """One graph: what `base` gives out goes into the head of `model`. with_map: as above."""
    import onnx

    head, names = answering_head(model, means)
    head([np.zeros([1, *(side or 1 for side in given.shape[1:])], np.float32) for given in head.inputs])
    outer, inner = convert(head, names), base
    outer.ir_version = inner.ir_version
    inner, outer = onnx.compose.add_prefix(inner, "base/"), onnx.compose.add_prefix(outer, "head/")
    wires = [(given.name, taken.name) for given, taken in zip(inner.graph.output, outer.graph.input, strict=False)]
    outputs = {f"head/{name}": name for name in names} | ({inner.graph.output[1].name: MAP} if with_map else {})
    joined = onnx.compose.merge_models(inner, outer, wires, outputs=list(outputs))
    _rename(joined.graph, outputs)
    return _inside(joined, MAP)


def _inside(graph: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same, where the output of this name is a tensor inside."""
    given = [output for output in graph.graph.output if output.name != name]
    del graph.graph.output[:]
    graph.graph.output.extend(given)
    return graph


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Edges of a graph, in place."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for given in graph.output:
        given.name = names.get(given.name, given.name)


def _teach_erfc() -> None:
    """tf2onnx knows Erf but not Erfc = 1 - Erf, of which TensorFlow makes an exact GELU."""
    from tf2onnx.handler import tf_op
    from tf2onnx.utils import make_name

    def erfc(graph: Any, node: Any, **_: object) -> None:
        kind, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
        graph.remove_node(node.name)
        erf = graph.make_node("Erf", node.input, dtypes=[kind], shapes=[shape])
        one = graph.make_const(make_name("one"), np.ones((), np.float32))
        inputs = [one.output[0], erf.output[0]]
        graph.make_node("Sub", inputs, outputs=node.output, dtypes=[kind], shapes=[shape])

    # ONNX has Erf from opset 9 on.
    tf_op("Erfc").register_compat_handler(erfc, 9)


def outputs(model: keras.Model, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """What a Keras network gives for a few pictures: called, as tracing a deep network would take longer."""
    called = [model(batch, training=False) for batch in _batches(pictures)]
    rows = [given if isinstance(given, list) else [given] for given in called]
    return [np.concatenate([np.asarray(part, np.float32) for part in parts]) for parts in zip(*rows, strict=True)]


def largest_difference(path: Path, pictures: NDArray[np.uint8], expected: Mapping[str, NDArray[np.float32]]) -> float:
    """Between what an ONNX file answers and what Keras gave for the same pictures."""
    session = open_session(path)
    name = session.get_inputs()[0].name
    rows = [session.run(list(expected), {name: batch}) for batch in _batches(pictures)]
    ours = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return differences(dict(zip(expected, ours, strict=True)), expected)


def differences(ours: Mapping[str, NDArray[np.float32]], theirs: Mapping[str, NDArray[np.float32]]) -> float:
    """The largest absolute difference of all answers; nan where one is not a number.

    That of a class activation is relative to the largest there is, as it has no range. Raises ExportError where an
    answer is missing or of another shape.
    """
    found = []
    for answer, expected in theirs.items():
        if answer not in ours or ours[answer].shape != expected.shape:
            shapes = {name: values.shape for name, values in ours.items()}
            raise ExportError(f"The file does not give {answer} {expected.shape}; it gives {shapes}. It is no use.")
        scale = float(np.abs(expected).max()) if answer == CLASS_ACTIVATION else 1.0
        found.append(float(np.abs(ours[answer] - expected).max()) / (scale or 1.0))
    return float(np.max(found))


def _batches(pictures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]


@contextmanager
def quiet() -> Iterator[None]:
    """Converters report each step; a user of the run needs none of it."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "absl")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _lean_passes() -> Iterator[None]:
    """tf2onnx copies the graph, weights and all, twice a pass and leaves the copies to the garbage collector, which
    comes late: a network of 15 MB took 800 MB. Here each pass is given back before the next."""
    from tf2onnx import optimizer

    original = optimizer.optimize_graph

    def optimize_graph(graph: Any, catch_errors: bool = True, optimizers: Any = None) -> Any:
        passes = optimizer._get_optimizers() if optimizers is None else optimizers
        # Once over: what a second round would still find, ONNX Runtime does when it opens the file.
        for name, factory in passes.items():
            graph = original(graph, catch_errors, {name: factory})
            gc.collect()
        return graph

    optimizer.optimize_graph = optimize_graph
    # What is there already is not looked at each time: a tenth of the time, where TensorFlow is loaded.
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        optimizer.optimize_graph = original
