"""Predictor + a split of a Catalog -> Evaluation, with the prediction of each image. Does not import TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellapart.data.batches import Images
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, ImageRecord, Split
from tellapart.data.duplicates import leaks
from tellapart.data.sources import open_row
from tellapart.errors import ExportError, SourceError, some
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.evidence import evidence_of
from tellapart.evaluation.judge import judge, judged
from tellapart.evaluation.shift import Reference, Shift
from tellapart.files import write_csv
from tellapart.inference.prediction import Prediction
from tellapart.inference.predictor import NO_NUMBER, Metadata, Predictor, prediction
from tellapart.inference.shift_watch import ShiftWatch
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.predictions import Predictions
from tellapart.runs.run import RunFolder
from tellapart.task import Task
from tellapart.words import measured

# Small: it runs beside a training library whose memory is not yet freed.
BATCH = 8


def measure(
    predictor: Predictor,
    catalog: Catalog,
    split: Split,
    *,
    cache: PixelCache | None = None,
    reference: Reference | None = None,
    progress: Progress = SILENT,
) -> tuple[Evaluation, list[Prediction]]:
    """Predict every image of a split and compare with its label; classes are matched by name.

    cache: of the predictor's spec; images that it holds are not decoded again. reference: validation images to compare
    these with. The predictor's limits on an image's pixels and bytes apply. Raises SourceError if the split is empty or
    an image can no longer be read; ExportError if the network's output for an image is not a number, as metrics on the
    other images would be too optimistic.
    """
    chosen = _chosen(catalog, split)
    unknown = sorted(set(chosen.task.classes) - set(predictor.task.classes))
    if unknown:
        raise SourceError(
            f"The model knows {some(predictor.task.classes, 10)}; the images are also labelled {some(unknown, 10)}. "
            "A class must have the same name in both: rename the folders, or the labels in the table."
        )
    if chosen.task.several != predictor.task.several:
        gives, have = ("several labels", "one") if predictor.task.several else ("one label", "several")
        raise SourceError(f"The model gives {gives} an image, and these have {have}. Name images of the same kind.")
    spec = predictor.spec
    store = Images(chosen.root, chosen.images, spec, open_row=open_row, cache=cache, bounds=predictor.bounds)
    named = ((p.path, store.take(np.array([row]))[0]) for row, p in enumerate(chosen.images))
    predictions = []
    sides = {p.path: min(p.width, p.height) for p in chosen.images}
    watch = None if reference is None else ShiftWatch(reference, sides)
    for found in predictor.predict_named(named, batch_size=BATCH, watch=watch):
        if found.error and found.error != NO_NUMBER:
            raise SourceError(f"{found.path} could be read before but cannot be read now: {found.error}.")
        predictions.append(found)
        progress.update(Phase.EVALUATING.named(f"evaluating {split}"), len(predictions), len(chosen))
    evaluation = _compared(predictor.task, chosen, split, predictions)
    return with_shift(evaluation, None if watch is None else watch.shift()), predictions


def with_shift(evaluation: Evaluation, shift: Shift | None) -> Evaluation:
    """The evaluation with what its images differ in from the validation images, in its notes too."""
    if shift is None:
        return evaluation
    return replace(evaluation, shift=shift, notes=(*evaluation.notes, *shift.sentences))


def measure_rows(
    metadata: Metadata, catalog: Catalog, split: Split, rows: NDArray[np.float64], distances: NDArray[np.floating]
) -> tuple[Evaluation, list[Prediction]]:
    """The same for given probabilities (n, classes) and distances (n,), in the order of the split."""
    chosen = _chosen(catalog, split)
    parts = zip(chosen.images, rows, distances, strict=True)
    predictions = [prediction(metadata, p.path, row, distance) for p, row, distance in parts]
    return _compared(metadata.task, chosen, split, predictions), predictions


def _chosen(catalog: Catalog, split: Split) -> Catalog:
    chosen = catalog.split(split)
    if not len(chosen):
        held = ", ".join(f"{count:,} in {name}" for name, count in catalog.sizes().items() if count)
        raise SourceError(f"The {split} split has no images. Images per split: {held or 'none'}. Name another split.")
    return chosen


def as_predictions(task: Task, chosen: Catalog, predictions: list[Prediction]) -> Predictions:
    """The predictions for these images, in order, as arrays."""
    without = [p.path for p in predictions if p.error]
    if without:
        raise ExportError(
            f"For {len(without)} of {len(predictions)} images {NO_NUMBER} ({some(without, 3)}), so it cannot be "
            "evaluated. Training failed or the file is damaged; train it again."
        )
    truth = replace(chosen, task=task).class_indices()
    rows = np.array([[p.probabilities[name] for name in task.classes] for p in predictions])
    labels = [[name in (p.labels or ()) for name in task.classes] for p in predictions] if task.several else None
    paths = tuple(p.path for p in chosen.images)
    return Predictions(paths, truth, rows, labels=None if labels is None else np.array(labels))


def _compared(task: Task, chosen: Catalog, split: str, predictions: list[Prediction]) -> Evaluation:
    said = replace(as_predictions(task, chosen, predictions), verdicts=tuple(p.verdict for p in predictions))
    return evaluate(task, said, split=split)


def without_leaks(
    task: Task, chosen: Catalog, split: str, predictions: list[Prediction], leaking: Collection[str]
) -> Evaluation | None:
    """The same metrics without the images at these paths, which have a copy among the images that trained or selected
    the network; None if there are none, or if no others remain. predictions: for the images of the split, in order."""
    part, said = _part_without(leaking, chosen, predictions)
    return _compared(task, part, split, said) if leaking and said else None


def _part_without(
    leaking: Collection[str], chosen: Catalog, predictions: list[Prediction]
) -> tuple[Catalog, list[Prediction]]:
    """The images at other paths, with their predictions."""
    rows = [row for row, image in enumerate(chosen.images) if image.path not in leaking]
    part = replace(chosen, images=tuple(chosen.images[row] for row in rows))
    return part, [predictions[row] for row in rows]


def with_verdict(
    run: RunFolder,
    evaluation: Evaluation,
    chosen: Catalog,
    predictions: list[Prediction],
    seen: Sequence[ImageRecord],
    *,
    own: bool,
) -> Evaluation:
    """The evaluation with a note on how many of its images have a copy among the seen ones, and with its verdict unless
    it is of training images. own: whether the images are the run's own; for other images, the verdict is based on those
    without a copy, as the rest may be mostly training images."""
    split = evaluation.split
    leaking = leaks(chosen.images, seen)
    clean = without_leaks(run.task, chosen, split, predictions, leaking)
    if leaking:
        others = "" if clean is None else f"; the accuracy on the other {clean.n:,} is {measured(clean.accuracy)}"
        others += "" if clean is None or own else ", and the verdict is based on these"
        whose = "have a copy among those that trained or selected the network"
        note = f"{len(leaking)} of the {evaluation.n} images {whose}{others}."
        evaluation = replace(evaluation, notes=(*evaluation.notes, note))
    learned = split == "train" if own else bool(leaking) and clean is None
    if learned:
        return evaluation
    if clean is not None and not own:
        said = as_predictions(run.task, *_part_without(leaking, chosen, predictions))
        return replace(evaluation, verdict=judge(evidence_of(run, run.record, clean, said, own=False)))
    said = as_predictions(run.task, chosen, predictions)
    return judged(evidence_of(run, run.record, evaluation, said, own=own, clean=clean))


def write_predictions(run: RunFolder, catalog: Catalog, predictions: list[Prediction]) -> None:
    """predictions.csv: path, true label, predicted label, its probability, verdict, distance from the nearest class,
    then the probability of each class; names as files.as_cell writes them."""
    truth = {p.path: p.label for p in catalog.images}
    rows: list[list[str]] = [["path", "truth", "label", "probability", "verdict", "distance", *catalog.task.classes]]
    for p in predictions:
        values = [f"{p.probabilities[name]:.6f}" for name in catalog.task.classes]
        distance = "" if math.isnan(p.distance) else f"{p.distance:.6f}"
        rows.append([p.path, truth[p.path], p.label, f"{p.probability:.6f}", p.verdict, distance, *values])
    with run.replacing(run.predictions_file) as neighbour:
        write_csv(neighbour, rows)
