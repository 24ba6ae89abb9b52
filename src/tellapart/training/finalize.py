"""A fitted network -> a finished run: calibrated, saved, exported and verified, then evaluated once on the test split.

In: Fitting and Fitted. Needs the extra `train`.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from tellapart.data.catalog import Catalog, Split
from tellapart.data.corruptions import CORRUPTIONS
from tellapart.data.duplicates import leaks, seen_before
from tellapart.data.looks import measure_looks
from tellapart.evaluation.calibration import probabilities_of, reliability, sharpened
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.evidence import evidence_of
from tellapart.evaluation.judge import judged
from tellapart.evaluation.overfitting import kept
from tellapart.evaluation.shift import Reference, compare, learn_reference, some, traits_of
from tellapart.inference.evaluate_split import (
    as_predictions,
    measure,
    measure_rows,
    with_shift,
    without_leaks,
    write_predictions,
)
from tellapart.inference.onnx_export import export_linear, export_onnx
from tellapart.inference.prediction import Prediction
from tellapart.inference.predictor import Metadata, Predictor
from tellapart.models.build import summary
from tellapart.models.classifier import Classifier
from tellapart.models.linear import LinearClassifier
from tellapart.parallel import cores, in_order
from tellapart.progress import Phase
from tellapart.runs.predictions import Predictions
from tellapart.runs.run import CLEAN_PART
from tellapart.training.calibrate import Trust, calibrate, calibrate_head, head_logits
from tellapart.training.feature_rows import blocks
from tellapart.training.fitting import Fitted, Fitting
from tellapart.training.head import some_of

VERIFIED_IMAGES = 16
TRIED_IMAGES = 4
MOST_AVERAGED = 5000
"""Training images that the class means are made of."""
LOOKED_AT_ONCE = 8
ANSWERED_AT_ONCE = 4
SPOILED_IMAGES = 16
"""Validation images that are corrupted in every way, to learn how accurate predictions are then."""


def finish(state: Fitting, fitted: Fitted) -> None:
    """The best weights, in float32, as a verified ONNX file, and as Keras where it trained them; then the test split,
    once."""
    run, progress, catalog, spec = state.run, state.progress, state.catalog, state.cache.spec
    final = fitted.classifier.in_float32().as_predicted(mirrored=state.config.model.mirrored)
    if state.config.model.mirrored:
        state.note("each prediction is from the average of an image and its mirror image, which doubles its cost")
    trust = _trust(state, final, fitted)
    final = final.calibrated(trust.calibration)
    progress.line(kept(run.history, fitted.best.epoch, fitted.stop))
    metadata = Metadata(catalog.task, spec, trust.thresholds, trust.calibration.temperature)
    difference, verified = _save(state, final, metadata)
    reference = _reference(state, trust)
    run.write_array(run.traits_file, reference.traits)
    split = _judged(catalog)
    evaluation, predictions = _evaluated(state, fitted, final, trust, reference)
    said = as_predictions(catalog.task, catalog.split(split), predictions)
    uncalibrated = sharpened(said.probabilities, trust.calibration.temperature, several=catalog.task.several)
    before = reliability(said.truth, uncalibrated).error
    leaking = leaks(catalog.split(split).images, seen_before(catalog.images, split))
    clean = without_leaks(catalog.task, catalog.split(split), split, predictions, leaking)
    clean_part = {} if clean is None else {f"{split}{CLEAN_PART}": clean.to_dict()}
    ended = {
        "status": "interrupted" if fitted.stop.reason.goes_on else "done",
        **fitted.stop.to_dict(),
        "best_epoch": fitted.best.epoch,
        "parameters": final.parameters,
        "calibration": trust.to_dict()
        | {"estimate": reference.to_dict()}
        | {"split": split, "error_before": before, "error_after": evaluation.calibration.error},
        "onnx_difference": difference,
        "verified_images": verified,
        "network": summary(final.summary()),
    }
    evaluation = judged(evidence_of(run, run.record.changed(**ended), evaluation, said, clean=clean))
    run.write_metrics({split: evaluation.to_dict(), **clean_part})
    write_predictions(run, catalog, predictions)
    run.update(reported=False, **ended)
    if not fitted.stop.reason.goes_on:
        run.clear_checkpoints()


def _evaluated(
    state: Fitting, fitted: Fitted, final: Classifier | LinearClassifier, trust: Trust, reference: Reference
) -> tuple[Evaluation, list[Prediction]]:
    """On the test split, where its images are compared with the reference too; else on the validation split."""
    run, catalog = state.run, state.catalog
    split = _judged(catalog)
    if fitted.examples is None:
        return measure(
            Predictor(run.onnx_file, device="cpu", bounds=state.config.data),
            catalog,
            split,
            cache=state.cache,
            progress=state.progress,
            reference=reference if split == "test" else None,
        )
    # The features of these images are known already.
    given, distances = [], []
    for part in blocks(fitted.examples[split].features):
        features = part.astype(np.float32)
        logits = head_logits(final, features)
        given.append(probabilities_of(catalog.task, logits))
        distances.append(trust.distances(features, logits))
    rows, distance = np.concatenate(given), np.concatenate(distances)
    metadata = Metadata(catalog.task, state.cache.spec, trust.thresholds, trust.calibration.temperature)
    evaluation, predictions = measure_rows(metadata, catalog, split, rows, distance)
    if split == "test":
        said = _said(trust, rows, state.labels[split])
        evaluation = with_shift(evaluation, compare(reference, _traits(state, split, said.confidence, distance)))
    return evaluation, predictions


def _save(state: Fitting, final: Classifier | LinearClassifier, metadata: Metadata) -> tuple[float, int]:
    """The network as ONNX, and as Keras where it trained it; the largest difference of the file from what was trained,
    and on how many images."""
    run, progress = state.run, state.progress
    progress.update(Phase.SAVING, 0, 2)
    if isinstance(final, Classifier):
        with run.replacing(run.model_file) as neighbour:
            final.network.save(neighbour)
    if final.calibration.means is not None:
        run.write_array(run.means_file, final.calibration.means)
    progress.update(Phase.SAVING, 1, 2)
    held = state.images["validation"]
    images = held.take(np.arange(min(VERIFIED_IMAGES, len(held))))
    if isinstance(final, LinearClassifier):
        difference = export_linear(final, metadata, run.onnx_file, images, replacing=run.replacing)
    else:
        difference = export_onnx(final, metadata, run.onnx_file, images, replacing=run.replacing)
    progress.update(Phase.SAVING, 2, 2)
    return difference, len(images)


def require_exportable(classifier: Classifier, state: Fitting) -> None:
    """Raises ExportError for a network that cannot be exported with the same predictions: tried with random weights,
    before hours of training."""
    held = state.images["validation"]
    images = held.take(np.arange(min(TRIED_IMAGES, len(held))))
    trial = Phase.EXPORTING.named("trying the export")
    state.progress.update(trial, 0, 1)
    with TemporaryDirectory() as folder:
        metadata = Metadata(classifier.task, classifier.spec)
        export_onnx(classifier.in_float32(), metadata, Path(folder) / "model.onnx", images)
    state.progress.update(trial, 1, 1)


def _judged(catalog: Catalog) -> Split:
    """The split that the run is evaluated on: without a test split, the validation split, which the report states."""
    return "test" if len(catalog.split("test")) else "validation"


def _reference(state: Fitting, trust: Trust) -> Reference:
    """What new images are compared with. How long an image takes on its way through the network is measured meanwhile,
    for run.json."""
    rows, truth, images = trust.probabilities, state.labels["validation"], state.images["validation"]
    right = _said(trust, rows, truth).right
    plain = _traits(state, "validation", _said(trust, rows, truth).confidence, trust.seen)
    places, generator = some(len(images), SPOILED_IMAGES), np.random.default_rng(state.config.seed)
    predictor, pixels = Predictor(state.run.onnx_file, device="cpu"), images.take(places)
    seen, correct = [plain], [right[some(len(rows))]]
    sides = np.full(len(places), min(state.cache.spec.height, state.cache.spec.width))
    taken: list[float] = []

    def answer(few: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
        started = time.perf_counter()
        said = predictor.answer(few)
        taken.append((time.perf_counter() - started) / len(few))
        return said

    for corrupt in CORRUPTIONS:
        spoiled = np.stack([corrupt(image, generator) for image in pixels])
        # A few at a time: of all at once, the arithmetic would need more memory than anything before.
        parts = [answer(few) for few in np.array_split(spoiled, -(-len(spoiled) // ANSWERED_AT_ONCE))]
        said, distances = (np.concatenate(each) for each in zip(*parts, strict=True))
        answers = _said(trust, said, truth[places])
        seen.append(traits_of(measure_looks(spoiled), sides, answers.confidence, distances))
        correct.append(answers.right)
    accuracy = float(right.mean())
    state.run.update(image_seconds=round(statistics.median(taken), 6))
    return learn_reference(plain, np.concatenate(seen), np.concatenate(correct), accuracy, trust.thresholds)


def _said(trust: Trust, rows: NDArray[np.float64], truth: NDArray[np.int64]) -> Predictions:
    """What is predicted of images, from their probabilities (n, classes)."""
    return Predictions((), truth, rows, labels=trust.thresholds.predicted(rows))


def _traits(
    state: Fitting, split: Split, confidence: NDArray[np.float64], distances: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Of some images of a split. confidence: the probability of what is predicted of all; distances: of all."""
    places, images = some(len(confidence)), state.images[split]
    parts = np.array_split(places, -(-len(places) // LOOKED_AT_ONCE))
    looks = np.concatenate(list(in_order(lambda part: measure_looks(images.take(part)), parts, workers=cores())))
    records = state.catalog.split(split).images
    sides = np.array([min(records[place].width, records[place].height) for place in places])
    return traits_of(looks, sides, confidence[places], distances[places])


def _trust(state: Fitting, final: Classifier | LinearClassifier, fitted: Fitted) -> Trust:
    """Calibrates `final` on the validation split."""
    target, progress = state.config.train.sure_accuracy, state.progress
    if isinstance(final, LinearClassifier) or fitted.examples is not None:
        assert fitted.examples is not None
        seen = some_of(fitted.examples["train"], MOST_AVERAGED)
        return calibrate_head(final, seen, fitted.examples["validation"], target)
    progress.update(Phase.CALIBRATING, 0, 1)
    trust = calibrate(final, state.images, state.labels, target)
    progress.update(Phase.CALIBRATING, 1, 1)
    return trust
