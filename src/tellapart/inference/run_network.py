"""A finished run -> its network: as plain values, or in Keras, made of model.onnx where Keras did not train it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import RunError
from tellapart.inference.onnx_export import BOUND, largest_difference
from tellapart.inference.run_images import compared_images
from tellapart.models.backend import require_keras
from tellapart.models.classifier import PROBABILITIES, Calibration, Classifier
from tellapart.models.compute import outputs
from tellapart.models.keras_needs import needs_keras
from tellapart.models.linear import LinearClassifier
from tellapart.runs.run import RunFolder


def is_plain(run: RunFolder) -> bool:
    """Whether Keras took no part in its training, so that model.onnx holds all of the network, and model.keras is not
    there."""
    return not run.model_file.exists() and run.onnx_file.exists() and not needs_keras(run.config)


def linear_of(run: RunFolder) -> LinearClassifier:
    """The network of such a run. Raises RunError for a damaged model.onnx."""
    calibration = Calibration.from_record(run.record.calibration, run.means)
    return LinearClassifier.from_graph(run.task, run.spec, run.config.model, run.onnx_file, calibration)


def in_keras(run: RunFolder, images: NDArray[np.uint8] | None = None) -> Classifier:
    """The network of any finished run in Keras.

    images: those that a network made of model.onnx is compared with that file on; None: a few of the run. Raises
    RunError for a run without a network, a file that tellapart did not write, or a network that does not say what
    model.onnx does; MissingExtraError without Keras.
    """
    require_keras("The network of a run as Keras has it")
    if is_plain(run):
        made = linear_of(run).in_keras()
        _compare(run, made, compared_images(run).images if images is None else images)
        return made
    calibration = Calibration.from_record(run.record.calibration, run.means)
    file = run.require(run.model_file, "trained network")
    return Classifier.from_file(run.task, run.spec, run.config.model, file, calibration, run.record.own_layers)


def _compare(run: RunFolder, made: Classifier, images: NDArray[np.uint8]) -> None:
    (said,) = outputs(made.network, images)
    difference = largest_difference(run.onnx_file, images, {PROBABILITIES: said})
    if not difference < BOUND:
        raise RunError(
            f"The network of {run.path} in Keras differs from its model.onnx by {difference:.2g}: the weights of "
            f"{run.config.model.name} in this version of tellapart are others. Use the version that trained the run, "
            f"{run.record.versions.get('tellapart', 'which run.json names')}, or train again."
        )
