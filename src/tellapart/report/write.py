"""A finished run's folder -> report.html and figures/ inside it. Read by: api."""

from __future__ import annotations

import warnings
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.batches import Batches, Pictures, labels_of
from tellapart.data.catalog import Catalog
from tellapart.data.sources import open_row
from tellapart.errors import PictureError, RunError
from tellapart.evaluation.evaluate import Evaluation
from tellapart.files import replacing, write_text
from tellapart.progress import SILENT, Progress
from tellapart.report.figures import batch_figure, confusion_figure, history_figure
from tellapart.report.report import ReportInput, render
from tellapart.runs.run import RunFolder, unit_of
from tellapart.task import ImageSpec

BATCH_PICTURES = 16
THUMBNAIL_SIDE = 160


def write_report(run: RunFolder, *, progress: Progress = SILENT) -> None:
    """Write report.html and the figures, each whole or not at all. Raises RunError for a run without an evaluation."""
    stage, steps = "writing the report", 5
    progress.update(stage, 0, steps)
    if not run.metrics:
        run.require(run.metrics_file, "evaluation")
        raise RunError(f"{run.metrics_file} holds no evaluation. Evaluate the run again.")
    record, config, catalog, history = run.record, run.config, run.catalog, run.history
    split, values = next(iter(run.metrics.items()))
    evaluation = Evaluation.from_dict(values)
    batch = _training_batch(run, catalog)
    figures = {
        "history": history_figure(history, record["best_epoch"]),
        "confusion": confusion_figure(evaluation, catalog.task.classes),
    }
    if batch is not None:
        figures["batch"] = batch_figure(*batch)
    for done, (name, figure) in enumerate(figures.items(), start=1):
        with replacing(run.figures / f"{name}.png") as neighbour, warnings.catch_warnings():
            # A class name in a script that no font here has is drawn as boxes; the page shows it right.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(neighbour, dpi=110)
        progress.update(stage, done, steps)
    notes = [
        record["stopped"][0].upper() + record["stopped"][1:] + f"; {unit_of(history)} {record['best_epoch']} is kept."
    ]
    notes += [text[0].upper() + text[1:] + "." for text in record["decided"]]
    if split != "test":
        notes.append(f"There is no test split: these are figures of the {split} split, which chose the epoch.")
    if batch is None:
        notes.append("The training pictures could not be read any more, so no batch is shown.")
    text = render(
        ReportInput(
            title=config.title or run.path.name,
            command=record["command"],
            config=config,
            catalog=catalog,
            history=history,
            best_epoch=record["best_epoch"],
            evaluation=evaluation,
            read_thumbnail=lambda path: _thumbnail(catalog, path),
            environment={
                **record["versions"],
                "precision": record["precision"],
            },
            findings=catalog.findings,
            network=record["network"],
            onnx_check={
                "largest difference in probability": f"{record['onnx_difference']:.1e}",
                "pictures compared": record["verified_pictures"],
            },
            notes=notes,
            batch=batch,
        )
    )
    write_text(run.report_file, text)
    progress.update(stage, steps, steps)


def _training_batch(run: RunFolder, catalog: Catalog) -> tuple[NDArray[np.uint8], list[str]] | None:
    """The first pictures of the first epoch as the network saw them, or None where they cannot be read any more."""
    train, config = catalog.split("train"), run.config
    batches = Batches(
        Pictures(train.root, train.pictures, run.spec, open_row=open_row),
        labels_of(train.task, train.class_indices()),
        BATCH_PICTURES,
        shuffle=True,
        augment=config.augment,
        seed=config.seed,
    )
    with suppress(PictureError):
        seen, _ = batches.batch(0)
        rows, _ = batches.rows(0)
        return seen, [train.pictures[row].label for row in rows]
    return None


def _thumbnail(catalog: Catalog, path: str) -> NDArray[np.uint8]:
    """The whole picture in its own proportions, at most THUMBNAIL_SIDE a side. Raises PictureError, OSError."""
    picture = next(p for p in catalog.pictures if p.path == path)
    scale = THUMBNAIL_SIDE / max(picture.width, picture.height)
    height, width = (max(1, round(side * scale)) for side in (picture.height, picture.width))
    return pixels.read(open_row(catalog.root, path), ImageSpec(height, width))
