"""Backbone, whole or up to a cut -> the fastest engine for what it gives, rejected unless that equals Keras.

A bundled backbone has its graph inside the package and needs no Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import cache_root, replacing
from tellapart.models.backend import has_gpu
from tellapart.models.compute import inferring, outputs
from tellapart.models.features import FeatureSet
from tellapart.models.onnx_graph import write_graph
from tellapart.models.pretrained_weights import bundled_graph
from tellapart.models.runtime import open_session
from tellapart.progress import Phase, Progress

if TYPE_CHECKING:
    import keras
    import onnxruntime

BOUND = 1e-3
"""Largest difference of a feature from Keras allowed for an engine, relative to the largest feature."""

BATCH = 2  # More images at once leave the cache of a core: EfficientNet-Lite0 was a seventh slower at 4.
GPU_BATCH = 64

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class FeatureEngine:
    """The engine that computes features. compute: uint8 (n, height, width, 3) -> (n, width). widths: of the output of
    each pool; the outputs are concatenated.

    many: several threads may compute at the same time, each on its own core. batch: images per call.
    """

    name: str
    compute: Compute
    widths: tuple[int, ...]
    many: bool = False
    batch: int = BATCH

    @property
    def width(self) -> int:
        return sum(self.widths)


def choose_engine(
    network: keras.Model, names: list[str], key: str, images: Callable[[], NDArray[np.uint8]], progress: Progress
) -> FeatureEngine:
    """The fastest engine whose features equal those of Keras: ONNX Runtime on CPUs, Keras on a GPU.

    network: in float32, image in, (n, width) out, one output or several. names: of the outputs. key: equal where the
    network is. images: returns some real images for comparison, when it is converted for the first time; if the
    features differ by BOUND or more, it runs in Keras.
    """
    if has_gpu():
        return _in_keras(network)
    file = graph_file(key)
    kept = _kept_engine(file, names)
    if kept is not None:
        return kept
    import onnx

    progress.update(Phase.PREPARING, 0, 2)
    compared = images()
    try:
        with replacing(file) as neighbour:
            theirs = np.concatenate(outputs(network, compared), axis=1)
            onnx.save(write_graph(network, names), str(neighbour))
            progress.update(Phase.PREPARING, 1, 2)
            engine = _in_onnxruntime(open_session(neighbour, threads=1), names)
            difference = float(np.abs(engine.compute(compared) - theirs).max() / max(float(np.abs(theirs).max()), 1e-9))
            if not difference < BOUND:
                raise ExportError(f"its features differ from Keras' by {difference:.1e} of the largest")
    except (ExportError, OSError) as error:
        progress.line(f"The backbone runs in Keras, which is slower: as an ONNX file it cannot be used ({error}).")
        return _in_keras(network)
    finally:
        progress.update(Phase.PREPARING, 2, 2)
    return engine


def bundled_engine(name: str, taken: FeatureSet) -> FeatureEngine:
    """A bundled backbone, by its graph, which outputs what each of its candidates takes and needs no Keras."""
    return _in_onnxruntime(open_session(bundled_graph(name), threads=1, ours=True), [pool.key for pool in taken.pools])


def _kept_engine(file: Path, names: list[str]) -> FeatureEngine | None:
    """The previously converted backbone, or None."""
    if not file.exists():
        return None
    try:
        return graph_engine(file, names)
    except ExportError:
        file.unlink(missing_ok=True)
        return None


def graph_engine(file: Path, names: list[str]) -> FeatureEngine:
    """A backbone by the file that `choose_engine` made of it, on another machine too. Raises ExportError."""
    return _in_onnxruntime(open_session(file, threads=1), names)


def graph_file(key: str) -> Path:
    """Where `choose_engine` keeps a backbone as ONNX."""
    return cache_root() / "backbones" / f"{key}.onnx"


def _in_keras(network: keras.Model) -> FeatureEngine:
    """Several threads, so that a GPU computes while its previous results are transferred."""
    infer, batch = inferring(network), GPU_BATCH if has_gpu() else BATCH
    widths = tuple(int(tensor.shape[-1]) for tensor in network.outputs)

    def compute(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate(infer(images), axis=1)

    return FeatureEngine("keras", compute, widths, many=has_gpu(), batch=batch)


def _in_onnxruntime(session: onnxruntime.InferenceSession, names: list[str]) -> FeatureEngine:
    (taken,) = session.get_inputs()
    widths = {given.name: int(given.shape[-1]) for given in session.get_outputs()}

    def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate(session.run(names, {taken.name: batch}), axis=1)

    return FeatureEngine("onnxruntime", compute, tuple(widths[name] for name in names), many=True)
