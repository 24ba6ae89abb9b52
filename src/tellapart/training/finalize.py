"""A fitted network -> a finished run: calibrated, saved, exported and verified, then evaluated once on the test split.

In: Fitting and Fitted. Needs the extra `train`.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tellapart.data.catalog import Catalog, Split
from tellapart.data.duplicates import leaks, seen_before
from tellapart.evaluation.calibration import reliability, sharpened
from tellapart.evaluation.evidence import evidence_of
from tellapart.evaluation.judge import judged
from tellapart.evaluation.overfitting import kept
from tellapart.inference.evaluate_split import measure, measure_rows, said_of, without_leaks, write_predictions
from tellapart.inference.onnx_export import export_onnx
from tellapart.inference.predictor import Metadata, Predictor, every_class
from tellapart.models.build import summary
from tellapart.models.classifier import Classifier
from tellapart.progress import Phase
from tellapart.runs.run import CLEAN_PART
from tellapart.training.calibrate import Trust, calibrate, calibrate_head, head_logits
from tellapart.training.feature_rows import blocks
from tellapart.training.fitting import Fitted, Fitting
from tellapart.training.head import some_of

VERIFIED_IMAGES = 16
TRIED_IMAGES = 4
MOST_CALIBRATED = 5000
"""Images of a split whose features are in memory at once."""


def finish(state: Fitting, fitted: Fitted) -> None:
    """The best weights, in float32, as Keras and as a verified ONNX file; then the test split, once."""
    run, progress, catalog, spec = state.run, state.progress, state.catalog, state.cache.spec
    final = fitted.classifier
    if final.network.dtype_policy.name != "float32":
        final = final.in_float32()
    trust = _trust(state, final, fitted)
    final = final.calibrated(trust.calibration)
    progress.line(kept(run.history, fitted.best.epoch, fitted.stop))
    progress.update(Phase.SAVING, 0, 2)
    with run.replacing(run.model_file) as neighbour:
        final.network.save(neighbour)
    if trust.calibration.means is not None:
        run.write_means(trust.calibration.means)
    progress.update(Phase.SAVING, 1, 2)
    held = state.images["validation"]
    images = held.take(np.arange(min(VERIFIED_IMAGES, len(held))))
    metadata = Metadata(catalog.task, spec, trust.thresholds, trust.calibration.temperature)
    difference = export_onnx(final, metadata, run.onnx_file, images, replacing=run.replacing)
    progress.update(Phase.SAVING, 2, 2)
    split = _judged(catalog)
    if fitted.examples is None:
        evaluation, predictions = measure(
            Predictor(run.onnx_file, device="cpu"),
            catalog,
            split,
            cache=state.cache,
            bounds=state.config.data,
            progress=progress,
        )
    else:
        # The backbone has seen these images.
        head, said_rows, distances = final.head_network(), [], []
        for part in blocks(fitted.examples[split].features):
            features = part.astype(np.float32)
            said_rows.append(head.predict(features, verbose=0))
            distances.append(trust.distances(features, head_logits(final, features)))
        rows = every_class(catalog.task, np.concatenate(said_rows))
        evaluation, predictions = measure_rows(metadata, catalog, split, rows, np.concatenate(distances))
    said = said_of(catalog.task, catalog.split(split), predictions)
    before = reliability(said.truth, sharpened(said.probabilities, trust.calibration.temperature)).error
    leaking = leaks(catalog.split(split).images, seen_before(catalog.images, split))
    clean = without_leaks(catalog.task, catalog.split(split), split, predictions, leaking)
    clean_part = {} if clean is None else {f"{split}{CLEAN_PART}": clean.to_dict()}
    ended = {
        "status": "interrupted" if fitted.stop.reason.goes_on else "done",
        **fitted.stop.to_dict(),
        "best_epoch": fitted.best.epoch,
        "parameters": final.network.count_params(),
        "calibration": trust.to_dict()
        | {"split": split, "error_before": before, "error_after": evaluation.calibration.error},
        "onnx_difference": difference,
        "verified_images": len(images),
        "network": summary(final.network),
    }
    evaluation = judged(evidence_of(run, run.record.changed(**ended), evaluation, said, clean=clean))
    run.write_metrics({split: evaluation.to_dict(), **clean_part})
    write_predictions(run, catalog, predictions)
    run.update(reported=False, **ended)
    if not fitted.stop.reason.goes_on:
        run.clear_checkpoints()


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


def _trust(state: Fitting, final: Classifier, fitted: Fitted) -> Trust:
    """Calibrates `final` on the validation split."""
    target, progress = state.config.train.sure_accuracy, state.progress
    if fitted.examples is not None:
        seen, held = (some_of(fitted.examples[split], MOST_CALIBRATED) for split in ("train", "validation"))
        return calibrate_head(final, seen, held, target)
    progress.update(Phase.CALIBRATING, 0, 1)
    trust = calibrate(final, state.images, state.labels, target)
    progress.update(Phase.CALIBRATING, 1, 1)
    return trust
