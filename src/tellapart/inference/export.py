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
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import replacing
from tellapart.inference.onnx_graph import UnknownLayerError, write_graph
from tellapart.inference.predictor import METADATA_KEY, Predictor, every_class
from tellapart.models.transfer import head_of
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import keras
    import onnx

BOUND = 1e-3
BATCH = 8


def export_onnx(
    model: keras.Model,
    task: Task,
    spec: ImageSpec,
    path: Path,
    pictures: NDArray[np.uint8],
    base: Path | None = None,
) -> float:
    """Write the file and return its largest difference in probability from Keras on `pictures`.

    model: in float32. pictures: real ones, uint8 (n, height, width, channels), n > 0. base: the frozen base of `model`
    as `convert` wrote it, so that only the head is converted. Raises ExportError, and leaves whatever stood at `path`,
    where the difference is not below BOUND.
    """
    import onnx

    expected = outputs(model, pictures)
    if base is None:
        graph = convert(model)
    else:
        head = head_of(model)
        head(np.zeros((1, *head.input.shape[1:]), np.float32))
        graph = _joined(onnx.load(str(base)), convert(head))
    entry = graph.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = json.dumps({"task": task.to_dict(), "image": spec.to_dict()}, ensure_ascii=False)
    with replacing(path) as neighbour:
        onnx.save(graph, str(neighbour))
        del graph  # as large as the network, which the comparison has in memory twice
        difference = largest_difference(neighbour, pictures, expected)
        if not difference < BOUND:
            raise ExportError(
                f"The exported ONNX file differs from the trained network by {difference:.2g} in probability on "
                f"{len(pictures)} pictures; the bound is {BOUND:g}. It was not written. Please report this with the "
                "run's config.toml."
            )
    return difference


def convert(model: keras.Model) -> onnx.ModelProto:
    """A float32 network as ONNX. It has been called before, as Keras asks. Nothing is checked: the caller compares what
    the graph computes."""
    import onnx

    try:
        return write_graph(model)
    except UnknownLayerError:
        _teach_erfc()
        with tempfile.TemporaryDirectory() as folder, _quiet(), _lean_passes():
            path = Path(folder) / "model.onnx"
            model.export(str(path), format="onnx", verbose=False)
            return onnx.load(str(path))


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


def _joined(base: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """One graph: what `base` gives out goes into `head`."""
    import onnx

    head.ir_version = base.ir_version
    inner, outer = onnx.compose.add_prefix(base, "base/"), onnx.compose.add_prefix(head, "head/")
    return onnx.compose.merge_models(inner, outer, [(inner.graph.output[0].name, outer.graph.input[0].name)])


def outputs(model: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a Keras network gives for a few pictures: called, as tracing a deep network would take longer."""
    called = [np.asarray(model(batch, training=False), np.float32) for batch in _batches(pictures)]
    return np.concatenate(called)


def largest_difference(path: Path, pictures: NDArray[np.uint8], expected: NDArray[np.float32]) -> float:
    """Largest absolute difference in probability between an ONNX file and what Keras gave for the same pictures."""
    predictor = Predictor(path)
    ours = np.concatenate([predictor.probabilities(batch) for batch in _batches(pictures)])
    return float(np.abs(ours - every_class(predictor.task, expected)).max())


def _batches(pictures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]


@contextmanager
def _quiet() -> Iterator[None]:
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
