"""Predictor + a split of a Catalog -> Evaluation, with the prediction of each picture. Imports no TensorFlow."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tellapart.data.batches import Pictures
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.sources import open_row
from tellapart.errors import SourceError
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.files import replacing
from tellapart.inference.predictor import Prediction, Predictor
from tellapart.progress import SILENT, Progress

# Small: it runs beside a training library, whose memory is not free yet.
BATCH = 8


def measure(
    predictor: Predictor,
    catalog: Catalog,
    split: Split,
    *,
    cache: PixelCache | None = None,
    progress: Progress = SILENT,
) -> tuple[Evaluation, list[Prediction]]:
    """Predict every picture of a split and compare with its label; classes are matched by name.

    cache: of the predictor's spec; pictures that it holds are not decoded again.
    Raises SourceError where the split is empty, or where a picture cannot be read any more.
    """
    chosen = catalog.split(split)
    if not len(chosen):
        raise SourceError(f"The {split} split has no picture. It has: {catalog.counts()}.")
    unknown = sorted(set(chosen.task.classes) - set(predictor.task.classes))
    if unknown:
        raise SourceError(
            f"The model knows {', '.join(predictor.task.classes)}; the pictures are also labelled {', '.join(unknown)}."
        )
    store = Pictures(chosen.root, chosen.pictures, predictor.spec, open_row=open_row, cache=cache)
    named = ((p.path, store.take(np.array([row]))[0]) for row, p in enumerate(chosen.pictures))
    predictions = []
    for prediction in predictor.predict_named(named, batch_size=BATCH):
        if prediction.error:
            raise SourceError(f"{prediction.path} could be read before and cannot now: {prediction.error}.")
        predictions.append(prediction)
        progress.update(f"evaluating {split}", len(predictions), len(chosen))
    truth = np.array([predictor.task.index(p.label) for p in chosen.pictures])
    rows = np.array([[p.probabilities[name] for name in predictor.task.classes] for p in predictions])
    return evaluate(predictor.task, truth, rows, paths=[p.path for p in chosen.pictures], split=split), predictions


def write_predictions(path: Path, catalog: Catalog, predictions: list[Prediction]) -> None:
    """predictions.csv: path, true label, predicted label, its probability, then each class's probability."""
    truth = {p.path: p.label for p in catalog.pictures}
    with (
        replacing(path) as neighbour,
        neighbour.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "truth", "label", "probability", *catalog.task.classes])
        for p in predictions:
            values = [f"{p.probabilities[name]:.6f}" for name in catalog.task.classes]
            writer.writerow([p.path, truth[p.path], p.label, f"{p.probability:.6f}", *values])
