"""Few images -> k networks, each tested on the images that it was not trained on, and one file: their average."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.api.datasets import catalog_of, source_of
from tellapart.api.options import known_options, make_config
from tellapart.api.runs import Run, open_run
from tellapart.api.training import name_of, train
from tellapart.api.values import Catalog
from tellapart.config import Config
from tellapart.data.batches import Images
from tellapart.data.catalog import ImageRecord
from tellapart.data.duplicates import groups_of
from tellapart.data.sources import open_row
from tellapart.data.splits import assign_splits
from tellapart.errors import ConfigError, RunError
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.intervals import proportion
from tellapart.evaluation.selective_prediction import choose_thresholds
from tellapart.files import to_json, write_text
from tellapart.inference.averaged import write_average
from tellapart.inference.predictor import Metadata
from tellapart.progress import BY_HAND, Progress
from tellapart.report.folds import write_folds
from tellapart.runs.predictions import Predictions, read_predictions
from tellapart.task import require_one_label

MOST = 20
RESULT = "folds.json"
_COMPARED = 16


@dataclass(frozen=True, eq=False)
class Folds:
    """path: the folder. model: the average, as model.onnx. evaluation: of every image, by the network that was not
    trained on it: the figure to expect of the average, or a little less. runs: one a fold. difference: of the average
    from the mean of its networks. report: a page with all of this."""

    path: Path
    model: Path
    evaluation: Evaluation
    runs: tuple[Run, ...]
    difference: float
    report: Path


def train_folds(
    data: Any,
    *,
    folds: int = 5,
    out: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Folds:
    """Train `folds` networks, each on all but one part of the images, and average them into one file, OUT/model.onnx.

    Every image is a test image once, so that the accuracy has an interval as narrow as the images allow; images of a
    group, and those that look the same, are in one part. The same call goes on with a folder that was interrupted.
    data, config, options: as in `train`. out: default runs/NAME-folds. Raises ConfigError for images with a test split
    of their own, or fewer images of a class than parts; RunError if the folder holds folds of other images.

    >>> ta.train_folds("photos/", folds=3, out="runs/folds").evaluation.n  # doctest: +SKIP
    90
    """
    if not 2 <= folds <= MOST:
        raise ConfigError(f"--folds is 2 to {MOST}; given {folds}.")
    config = config or make_config(**known_options(options))
    source = source_of(data, config)
    require_one_label(source.several, "--folds", "Omit it: train keeps a test split.")
    if any(row.split == "test" for row in source.rows):
        raise ConfigError(
            "The images have a test split of their own; with --folds every image is tested. Omit --folds."
        )
    place = Path(out) if out is not None else Path("runs") / f"{name_of(data)}-folds"
    whole = catalog_of(source, config, None, progress)
    parts = _parts(whole.images, folds, config.seed)
    runs = []
    for number in range(folds):
        progress.line(f"fold {number + 1} of {folds}")
        runs.append(_trained(place / f"fold-{number + 1}", _catalog(whole, parts, number, config), config, progress))
    told = _told(runs)
    said = _pooled(told)
    task, first = whole.task, runs[0]
    kept = first.predictor().metadata.thresholds
    thresholds = choose_thresholds(said.truth, said.probabilities, said.distances, kept.target) if kept else None
    images = Images(
        whole.root, whole.split("train").images[:_COMPARED], first.spec, open_row=open_row, bounds=config.data
    )
    model = place / "model.onnx"
    files = [run.onnx_file for run in runs]
    pixels = images.take(np.arange(len(images)))
    metadata = Metadata(task, first.spec, thresholds)
    difference = write_average(files, model, metadata, pixels)
    found = evaluate(task, said, split="test")
    record = {"folds": [run.path.name for run in runs], "difference": difference, "evaluation": found.to_dict()}
    write_text(place / RESULT, to_json(record, indent=2) + "\n")
    own = [proportion(int((each.named == each.truth).sum()), len(each.truth)) for each in told]
    page = write_folds(
        model, metadata, found, list(zip(runs, own, (len(each.truth) for each in told), strict=True)), difference
    )
    return Folds(place, model, found, tuple(runs), difference, page)


def _parts(images: tuple[ImageRecord, ...], folds: int, seed: int) -> NDArray[np.int64]:
    """The part of each image, -1 for one that cannot be read: classes even, groups whole."""
    from sklearn.model_selection import StratifiedGroupKFold

    usable = [number for number, image in enumerate(images) if not image.error]
    labels = np.array([images[number].label for number in usable])
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise ConfigError(f"{names[counts.argmin()]} has {counts.min()} images; --folds is at most that.")
    groups = np.array(groups_of(images, usable))[usable]
    out = np.full(len(images), -1, np.int64)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for part, (_, tested) in enumerate(split):
        out[np.array(usable)[tested]] = part
    return out


def _catalog(whole: Catalog, parts: NDArray[np.int64], number: int, config: Config) -> Catalog:
    """The images with one part as the test split; a validation split is drawn from the others."""
    rows = [
        replace(image, split="" if part < 0 else "test" if part == number else "train")
        for image, part in zip(whole.images, parts, strict=True)
    ]
    images = assign_splits(rows, seed=config.seed, test_fraction=0, validation_fraction=config.data.validation_fraction)
    return replace(whole, images=images)


def _trained(place: Path, catalog: Catalog, config: Config, progress: Progress) -> Run:
    if (place / "run.json").exists():
        run = open_run(place)
        if run.catalog.digest != catalog.digest:
            raise RunError(f"{place} is of other images or another seed. Give another --out.")
        if run.status == "done":
            return run
        raise RunError(f"{place} is unfinished. Finish it first: tellapart train --resume {place}")
    return train(catalog, config=config, out=place, progress=progress)


def _told(runs: list[Run]) -> list[Predictions]:
    """What each network said of its own test images."""
    found = []
    for run in runs:
        said = read_predictions(run.require(run.predictions_file, "predictions"), run.task)
        if said is None:
            raise RunError(f"{run.predictions_file} is damaged. Train the fold again.")
        found.append(said)
    return found


def _pooled(found: list[Predictions]) -> Predictions:
    """All of it together."""
    distances = None if any(said.distances is None for said in found) else [said.distances for said in found]
    return Predictions(
        tuple(path for said in found for path in said.paths),
        np.concatenate([said.truth for said in found]),
        np.concatenate([said.probabilities for said in found]),
        tuple(verdict for said in found for verdict in said.verdicts),
        None if distances is None else np.concatenate([each for each in distances if each is not None]),
    )
