"""Classifier -> model.onnx with its Task and ImageSpec, rejected unless it predicts what Keras predicts.

A network that Keras trained is compared with Keras, for which the extra `train` is needed; a linear head on a bundled
backbone with the same computed in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.evaluation.calibration import probabilities_of
from tellapart.files import replacing, to_json
from tellapart.inference.class_activation import MAP, addition, addition_to, maps_of, places_of
from tellapart.inference.predictor import ADDITION_KEY, METADATA_KEY, Metadata
from tellapart.models.bundled_graph import BundledGraph
from tellapart.models.classifier import CLASS_ACTIVATION, PROBABILITIES, SIMILARITY, Classifier
from tellapart.models.compute import outputs
from tellapart.models.feature_engine import bundled_engine
from tellapart.models.features import root_of
from tellapart.models.linear import LinearClassifier
from tellapart.models.onnx_by_keras import graph_of
from tellapart.models.runtime import open_session

BOUND = 1e-3
BATCH = 4


def export_onnx(
    classifier: Classifier,
    metadata: Metadata,
    path: Path,
    images: NDArray[np.uint8],
    *,
    replacing: Callable[[Path], AbstractContextManager[Path]] = replacing,
) -> float:
    """Write the file and return the largest difference of any of its outputs from Keras, on `images`.

    classifier: in float32. images: real images, uint8 (n, height, width, channels), n > 0. replacing: files.replacing,
    or a run's. Raises ExportError, and keeps the previous content of `path`, if the difference is not below BOUND.
    """
    import onnx

    whole, names = classifier.outputs()
    expected = outputs(whole, images)
    places = None if CLASS_ACTIVATION in names else places_of(classifier)
    maps = [] if places is None else maps_of(classifier)
    inside = {f"{MAP}_{number}": found for number, found in enumerate(maps)}
    graph = graph_of(whole, names, inside)
    entries = {METADATA_KEY: to_json(metadata.to_dict())}
    if places is not None:
        entries[ADDITION_KEY] = addition(places, [value.name for value in graph.graph.initializer])
    for key, value in entries.items():
        graph.metadata_props.add(key=key, value=value)
    with replacing(path) as neighbour:
        onnx.save(graph, str(neighbour))
        del graph  # as large as the network, which the comparison holds in memory twice
        return _verified(neighbour, images, dict(zip(names, expected, strict=True)))


def export_linear(
    classifier: LinearClassifier,
    metadata: Metadata,
    path: Path,
    images: NDArray[np.uint8],
    *,
    replacing: Callable[[Path], AbstractContextManager[Path]] = replacing,
) -> float:
    """The same for a linear head on a bundled backbone: the difference is that from the head in NumPy on the features
    of the backbone's own graph. Needs neither Keras nor the onnx package."""
    expected = linear_answers(classifier, images)
    with replacing(path) as neighbour:
        write_linear(classifier, neighbour, {METADATA_KEY: to_json(metadata.to_dict())})
        return _verified(neighbour, images, expected)


def write_linear(classifier: LinearClassifier, path: Path, entries: Mapping[str, str] = MappingProxyType({})) -> None:
    """The ONNX file of such a network, which nothing is compared with. entries: of its metadata."""
    backbone = BundledGraph.of(classifier.pretrained.name)
    added = (
        {}
        if classifier.averages_top or classifier.config.mirrored
        else {ADDITION_KEY: addition_to(classifier, backbone)}
    )
    with path.open("wb") as file:
        file.writelines(classifier.graph({**entries, **added}, backbone).parts())


def linear_answers(classifier: LinearClassifier, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The outputs of LinearClassifier.graph that are no maps, by name, computed in NumPy from the features of the
    backbone's own graph."""
    taken = classifier.features
    engine = bundled_engine(classifier.pretrained.name, taken)
    parts = [images[start : start + engine.batch] for start in range(0, len(images), engine.batch)]
    features = np.concatenate([engine.compute(part) for part in parts])
    if classifier.config.mirrored:
        features = (features + np.concatenate([engine.compute(part[:, :, ::-1]) for part in parts])) / 2
    if taken.root:
        features = root_of(features)
    kernel, bias = classifier.head.weights()
    said = probabilities_of(classifier.task, features @ kernel + bias)
    answers = {PROBABILITIES: (said[:, 1:] if len(bias) == 1 else said).astype(np.float32)}
    if classifier.calibration.means is not None:
        logits, offset = classifier.head.linear()
        first = features[:, : classifier.compared_width]
        answers[SIMILARITY] = classifier.calibration.similarity(first, features @ logits + offset)
    return answers


def _verified(path: Path, images: NDArray[np.uint8], expected: Mapping[str, NDArray[np.float32]]) -> float:
    difference = largest_difference(path, images, expected)
    if not difference < BOUND:
        raise ExportError(
            f"The exported ONNX file differs from the trained network by {difference:.2g} on "
            f"{len(images)} images; the tolerance is {BOUND:g}. It was not written. Please report this with the "
            "run's config.toml."
        )
    return difference


def largest_difference(path: Path, images: NDArray[np.uint8], expected: Mapping[str, NDArray[np.float32]]) -> float:
    """Largest difference between outputs of an ONNX file and those expected for the same images."""
    session = open_session(path)
    name = session.get_inputs()[0].name
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    rows = [session.run(list(expected), {name: batch}) for batch in batches]
    ours = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return differences(dict(zip(expected, ours, strict=True)), expected)


def differences(ours: Mapping[str, NDArray[np.float32]], theirs: Mapping[str, NDArray[np.float32]]) -> float:
    """The largest absolute difference over all outputs; nan if one is not a number.

    For class activation it is relative to the largest value, as it has no fixed range. Raises ExportError if an output
    is missing or has another shape.
    """
    found = []
    for answer, expected in theirs.items():
        if answer not in ours or ours[answer].shape != expected.shape:
            shapes = {name: values.shape for name, values in ours.items()}
            raise ExportError(
                f"The file has no output {answer} {expected.shape}; it has {shapes}, so it cannot be used."
            )
        scale = float(np.abs(expected).max()) if answer == CLASS_ACTIVATION else 1.0
        found.append(float(np.abs(ours[answer] - expected).max()) / (scale or 1.0))
    return float(np.max(found))
