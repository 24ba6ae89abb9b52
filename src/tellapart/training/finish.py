"""A fitted network -> what a run ends with: calibrated, saved, exported and verified, then the test split, once.

In: Fitting, what the phases of a fit share, and Fitted, what came out of them. Read by: fit. Needs the extra `train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.batches import Pictures
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.duplicates import leaks, seen_before
from tellapart.evaluation.calibration import reliability, sharpened
from tellapart.evaluation.evidence import evidence_of
from tellapart.evaluation.judge import judged
from tellapart.evaluation.overfitting import kept
from tellapart.inference.export import export_onnx
from tellapart.inference.measure import measure, measure_rows, said_of, without_leaks, write_predictions
from tellapart.inference.predictor import Metadata, Predictor, every_class
from tellapart.models.build import build, in_float32, summary
from tellapart.models.transfer import head_of
from tellapart.progress import Phase, Progress
from tellapart.runs.run import CLEAN_PART, RunFolder
from tellapart.training.epochs import Row, Watch
from tellapart.training.head import Examples
from tellapart.training.interruption import CtrlC, Stop
from tellapart.training.trust import Trust, calibrate, calibrate_head

if TYPE_CHECKING:
    import keras

VERIFIED_PICTURES = 16


@dataclass
class Fitting:
    """What the phases share. labels: class positions of the pictures of a split."""

    run: RunFolder
    config: Config
    catalog: Catalog
    cache: PixelCache
    pictures: dict[Split, Pictures]
    labels: dict[Split, NDArray[np.int64]]
    class_weights: NDArray[np.float32] | None
    precision: str
    progress: Progress
    ctrl_c: CtrlC
    watch: Watch

    def build(self, precision: str) -> keras.Model:
        return build(self.catalog.task, self.cache.spec, self.config.model, precision)


@dataclass(frozen=True)
class Fitted:
    """model: with the weights of `best`, a row of history. examples: on a frozen base, the features of each split, in
    the order of its pictures, plain views first."""

    model: keras.Model
    best: Row
    stop: Stop
    examples: dict[Split, Examples] | None = None


def finish(state: Fitting, fitted: Fitted) -> None:
    """The best weights, in float32, as Keras and as a verified ONNX file; then the test split, once."""
    run, progress, catalog, spec = state.run, state.progress, state.catalog, state.cache.spec
    final = fitted.model
    if final.dtype_policy.name != "float32":
        final = in_float32(final, catalog.task, spec, state.config.model)
    trust = _trust(state, final, fitted)
    progress.line(kept(run.history, {"best_epoch": fitted.best["epoch"], "stopped": fitted.stop.words}))
    progress.update(Phase.SAVING, 0, 2)
    with run.replacing(run.model_file) as neighbour:
        final.save(neighbour)
    if trust.means is not None:
        run.write_means(trust.means)
    progress.update(Phase.SAVING, 1, 2)
    held = state.pictures["validation"]
    pictures = held.take(np.arange(min(VERIFIED_PICTURES, len(held))))
    metadata = Metadata(catalog.task, spec, trust.thresholds, trust.temperature)
    difference = export_onnx(final, metadata, run.onnx_file, pictures, means=trust.means, replacing=run.replacing)
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
        # The base has seen these pictures.
        features = fitted.examples[split].features.astype(np.float32)
        rows = every_class(catalog.task, head_of(final).predict(features, verbose=0))
        evaluation, predictions = measure_rows(metadata, catalog, split, rows, trust.distances(features))
    said = said_of(catalog.task, catalog.split(split), predictions)
    before = reliability(said.truth, sharpened(said.probabilities, trust.temperature)).error
    leaking = leaks(catalog.split(split).pictures, seen_before(catalog.pictures, split))
    clean = without_leaks(catalog.task, catalog, split, predictions, leaking)
    clean_part = {} if clean is None else {f"{split}{CLEAN_PART}": clean.to_dict()}
    ended = {
        "status": "interrupted" if fitted.stop.reason.goes_on else "done",
        **fitted.stop.to_dict(),
        "best_epoch": fitted.best["epoch"],
        "parameters": final.count_params(),
        "calibration": trust.to_dict()
        | {"split": split, "error_before": before, "error_after": evaluation.calibration.error},
        "onnx_difference": difference,
        "verified_pictures": len(pictures),
        "network": summary(final),
    }
    evaluation = judged(evidence_of(run, run.record | ended, evaluation, said, clean=clean))
    run.write_metrics({split: evaluation.to_dict(), **clean_part})
    write_predictions(run, catalog, predictions)
    run.update(reported=False, **ended)
    if not fitted.stop.reason.goes_on:
        run.clear_checkpoints()


def _judged(catalog: Catalog) -> Split:
    """The split that the run is evaluated on: without a test split the validation split, and the report says so."""
    return "test" if len(catalog.split("test")) else "validation"


def _trust(state: Fitting, final: keras.Model, fitted: Fitted) -> Trust:
    """Calibrates `final` on the validation split."""
    target, progress = state.config.train.sure_accuracy, state.progress
    if fitted.examples is not None:
        return calibrate_head(final, fitted.examples["train"], fitted.examples["validation"], target)
    progress.update(Phase.CALIBRATING, 0, 1)
    trust = calibrate(final, state.pictures, state.labels, target)
    progress.update(Phase.CALIBRATING, 1, 1)
    return trust
