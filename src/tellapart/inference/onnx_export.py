"""Classifier -> model.onnx with its Task and ImageSpec, rejected unless it predicts what Keras predicts.

Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import replacing, to_json
from tellapart.inference.class_activation import MAP, addition, places_of
from tellapart.inference.predictor import ADDITION_KEY, METADATA_KEY, Metadata
from tellapart.models.classifier import CLASS_ACTIVATION, Classifier
from tellapart.models.compute import outputs
from tellapart.models.onnx_by_keras import graph_of
from tellapart.models.runtime import open_session

BOUND = 1e-3
BATCH = 8


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
    inside = {} if places is None else {f"{MAP}_{number}": part.map for number, part in enumerate(places.parts)}
    graph = graph_of(whole, names, inside)
    entries = {METADATA_KEY: to_json(metadata.to_dict())}
    if places is not None:
        entries[ADDITION_KEY] = addition(places, graph)
    for key, value in entries.items():
        graph.metadata_props.add(key=key, value=value)
    with replacing(path) as neighbour:
        onnx.save(graph, str(neighbour))
        del graph  # as large as the network, which the comparison holds in memory twice
        difference = largest_difference(neighbour, images, dict(zip(names, expected, strict=True)))
        if not difference < BOUND:
            raise ExportError(
                f"The exported ONNX file differs from the trained network by {difference:.2g} on "
                f"{len(images)} images; the tolerance is {BOUND:g}. It was not written. Please report this with the "
                "run's config.toml."
            )
    return difference


def largest_difference(path: Path, images: NDArray[np.uint8], expected: Mapping[str, NDArray[np.float32]]) -> float:
    """Largest difference between the outputs of an ONNX file and those of Keras for the same images."""
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
