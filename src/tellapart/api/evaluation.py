"""A run + its own images, or others -> Evaluation."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from tellapart.api.options import make_config
from tellapart.api.runs import Run, open_run
from tellapart.api.values import Evaluation, evaluation_of_plain
from tellapart.config import DataConfig
from tellapart.data.catalog import Catalog, Split
from tellapart.data.duplicates import seen_before
from tellapart.data.scan import scan
from tellapart.data.sources import read_source, refuse_unused
from tellapart.errors import ConfigError, ImageError, SourceError
from tellapart.evaluation.shift import Reference
from tellapart.inference.evaluate_split import measure, with_verdict
from tellapart.inference.predictor import Predictor
from tellapart.progress import BY_HAND, Progress
from tellapart.task import Task, labels_of


def evaluate(
    run: str | os.PathLike[str],
    data: Any = None,
    *,
    split: Split | None = None,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Evaluation:
    """Evaluate a run on a split of its own images (default: test), or on other data; classes are matched by name.

    data: as in `read`, or a Catalog; images of one class are enough. Every usable image counts, unless `split` names
    one of its splits or the source itself has a test split; `notes` then tells how many. options: fields of config.data
    that tell how the labels of `data` are found, such as label_column; by default, the run's own. Raises SourceError
    for a class that the run does not know or a split without images.

    >>> evaluation = ta.evaluate("runs/pets")
    >>> evaluation.n, evaluation.confusion.shape, evaluation.accuracy.low <= evaluation.accuracy.value
    (18, (3, 3), True)
    >>> ta.evaluate("runs/pets", ta.read("photos")).n
    90
    """
    folder = open_run(run)
    bounds = folder.config.data
    catalog: Catalog
    if data is None:
        if options:
            raise ConfigError(f"{', '.join(options)} applies to the labels of other images. Name those images too.")
        split, catalog = split or "test", folder.catalog
    else:
        catalog, split, bounds = _chosen(folder, data, split, options, progress)
    try:
        # Images are compared with the validation images, which the run was not trained on.
        reference = Reference.of_run(folder) if data is not None or split == "test" else None
        predictor = Predictor(folder.require(folder.onnx_file, "exported network"), bounds=bounds)
        evaluation, predictions = measure(predictor, catalog, split, reference=reference, progress=progress)
    except ImageError as error:
        moved = "" if data is not None else " If the images were moved, give their new location with --data PLACE."
        raise SourceError(f"{error}.{moved}") from None
    usable = sum(not image.error for image in catalog.images)
    if data is not None and evaluation.n < usable:
        note = f"{evaluation.n:,} of the {usable:,} images: those of the {split} split."
        evaluation = replace(evaluation, notes=(note, *evaluation.notes))
    seen = seen_before(folder.catalog.images, split if data is None else "test")
    return evaluation_of_plain(
        with_verdict(folder, evaluation, catalog.split(split), predictions, seen, own=data is None)
    )


def _chosen(
    folder: Run, data: Any, split: Split | None, options: dict[str, Any], progress: Progress
) -> tuple[Catalog, Split, DataConfig]:
    """Other images to evaluate on, the split that counts (all if none is requested), and their limits."""
    if isinstance(data, Catalog):
        if options:
            raise ConfigError(f"A Catalog has its labels: give {', '.join(options)} to read() instead.")
        root, images, given, bounds = data.root, data.images, split, folder.config.data
        several = data.task.several
    else:
        own = folder.config
        found_by = {"label_pattern": None, "path_column": None, "label_column": None} if options else {}
        config = make_config(
            config=own.model_copy(update={"data": own.data.model_copy(update={"root": None, **found_by})}), data=options
        )
        read_by = config.data.model_copy(update={"kind": "multilabel"}) if folder.task.several else config.data
        source = read_source(data, read_by, known=folder.task.classes)
        several = source.several or folder.task.several
        if options:
            refuse_unused(source, config.data, data)
        bounds = config.data
        root, images = source.root, scan(source, bounds, progress=progress)
        splits = {image.split for image in images} - {""}
        if split and not splits:
            raise ConfigError(f"{data} has no splits. Omit the {split} split to use all its images.")
        given = split or ("test" if "test" in splits else None)
    if given is None:
        images = tuple(replace(image, split="test") for image in images)
    # The images may be of one class; a class that the network does not know is reported when measuring.
    there = {name for image in images for name in labels_of(image.label, several)}
    unknown = sorted(there - set(folder.task.classes))
    return Catalog(root, Task((*folder.task.classes, *unknown), several), images), given or "test", bounds
