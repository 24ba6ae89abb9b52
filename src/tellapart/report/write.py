"""A finished run's folder -> report.html, README.md and figures/ inside it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.batches import Batches, Images, catalogued, labels_of
from tellapart.data.catalog import Catalog
from tellapart.data.sources import open_row
from tellapart.errors import ExportError, ImageError, RunError, TellapartError
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.evidence import evaluations_of, predictions_of
from tellapart.evaluation.judge import verdict_of
from tellapart.evaluation.overfitting import kept
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.experiments.timed import TimedFolder
from tellapart.explain.heat import HeatMaker, overlay
from tellapart.inference.fast import cost_in_words
from tellapart.inference.predictor import Predictor
from tellapart.progress import SILENT, Phase, Progress
from tellapart.report.certainty import coverage_chart, reliability_chart
from tellapart.report.charts import chart_drawing
from tellapart.report.confusion import confusion_svg
from tellapart.report.input import ReportInput
from tellapart.report.learning import learning_chart
from tellapart.report.model_card import model_card, title_of, write_model_card
from tellapart.report.report import render
from tellapart.report.thumbnails import Thumbnails
from tellapart.runs.predictions import Predictions
from tellapart.runs.record import RunRecord
from tellapart.runs.run import TIME_FILE, RunFolder

BATCH_IMAGES = 16


def write_report(run: RunFolder, *, progress: Progress = SILENT) -> None:
    """Write report.html, the figures and the model card atomically. Raises RunError for a run without an evaluation."""
    stage, steps = Phase.REPORTING, 3
    progress.update(stage, 0, steps)
    try:
        report = _input(run)
        progress.update(stage, 1, steps)
        figures, page, card = _figures(report), render(report), model_card(run)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RunError(
            f"{run.path} lacks the data for a report ({error!r}): it is damaged, or from another version of "
            "tellapart. Train the run again."
        ) from error
    progress.update(stage, 2, steps)
    for name, svg in figures.items():
        run.write_text(run.figures / f"{name}.svg", svg)
    run.write_text(run.report_file, page)
    write_model_card(run, card)
    if run.record.reported is False:
        run.update(reported=True)
    progress.update(stage, steps, steps)


def _input(run: RunFolder) -> ReportInput:
    """The input of the report, from the files of the run."""
    evaluation, clean = evaluations_of(run)
    record, config, catalog = run.record, run.config, run.catalog
    batch = _training_batch(run, catalog)
    heat, no_heat = _heat(run, catalog)
    predictions, no_predictions = _predictions(run, evaluation)
    return ReportInput(
        title=config.title or title_of(catalog.task),
        command=record.command,
        config=config,
        catalog=catalog,
        history=run.history,
        best_epoch=record.best_epoch,
        evaluation=evaluation,
        read_thumbnail=Thumbnails(catalog, run.spec.channels),
        environment={**record.versions, "precision": record.precision},
        findings=catalog.findings,
        network=record.network,
        onnx_check={
            "largest difference in probability": f"{record.onnx_difference:.1e}",
            "images compared": record.verified_images,
            **_fast(record),
        },
        notes=[*_notes(record.decided, batch is not None), *no_heat, *no_predictions],
        batch=batch,
        predictions=predictions,
        clean=clean,
        calibration=record.calibration,
        heat=heat,
        verdict=verdict_of(run),
        kept=kept(run.history, record.best_epoch, record.stop),
        steps=TimedFolder.open(run.path).steps if run.place(TIME_FILE).exists() else None,
        name=run.path.resolve().name,
        source=record.source,
        created=record.created,
        index_there=(run.path.resolve().parent / "index.html").is_file(),
        link=partial(_link, catalog.root.absolute()),
    )


def _link(root: Path, path: str) -> str:
    """Where an image can be opened on this machine, or "" for one in an archive, or outside the folder."""
    place = root / path
    if ".." in place.parts or not place.is_relative_to(root) or not place.is_file():
        return ""
    return place.as_uri()


def _fast(record: RunRecord) -> dict[str, str]:
    """What `tellapart optimize` gained and cost, if it was asked and its record is intact."""
    with suppress(LookupError, TypeError, ValueError, ArithmeticError):
        return {} if record.fast is None else {"faster arithmetic": cost_in_words(record.fast)}
    return {}


def _notes(decided: Sequence[str], has_batch: bool) -> list[str]:
    notes = [text[0].upper() + text[1:] + "." for text in decided]
    if not has_batch:
        notes.append("The training images could not be read any more, so no batch is shown.")
    return notes


def _heat(run: RunFolder, catalog: Catalog) -> tuple[_Heat | None, list[str]]:
    """A function that overlays heat maps on images; or None and a note, if it would be slow or is not available."""
    if catalog.task.several:
        return None, []  # a mistake is of all labels together
    if not run.onnx_file.exists():
        return None, ["There is no model.onnx, so the mistakes have no heat maps."]
    try:
        predictor = Predictor(run.onnx_file)
    except ExportError as error:
        return None, [f"The mistakes have no heat maps: {error}"]
    if not predictor.tells_places:
        return None, [
            "This network has no class activation map. Occlusion gives a heat map of one "
            f"image, slowly: tellapart explain {run.path} IMAGE"
        ]
    return _Heat(predictor, catalog), []


def _predictions(run: RunFolder, evaluation: Evaluation) -> tuple[Predictions | None, list[str]]:
    """The predictions of each image; or None and a note, if they are not available."""
    found = predictions_of(run, evaluation)
    if found is not None:
        return found, []
    return None, [
        f"{run.predictions_file.name} is missing, or does not hold a probability for each of these images: likely "
        "label errors, the images behind each cell and coverage are left out."
    ]


def _figures(report: ReportInput) -> dict[str, str]:
    """The page's charts as separate files, by name."""
    found, drawn = report.evaluation, {}
    if report.history:
        for quantity in ("accuracy", "loss"):
            drawn[quantity] = learning_chart(report.history, quantity, report.best_epoch).svg(quantity)
    if not found.several:
        drawn["confusion"] = confusion_svg(found.confusion, report.catalog.task.classes)
    drawn["reliability"] = reliability_chart(found.calibration).svg("reliability")
    if report.predictions is not None:
        thresholds = Thresholds.from_dict(report.calibration["thresholds"]) if report.calibration else None
        drawn["coverage"] = coverage_chart(report.predictions, found.level, thresholds).svg("coverage")
    return {name: chart_drawing(name, svg).svg for name, svg in drawn.items()}


def _training_batch(run: RunFolder, catalog: Catalog) -> tuple[NDArray[np.uint8], list[str]] | None:
    """The first images of the first epoch as the network saw them, or None if they can no longer be read."""
    train, config = catalog.split("train"), run.config
    batches = Batches(
        Images(train.root, train.images, run.spec, open_row=open_row, bounds=config.data),
        labels_of(train.task, train.class_indices()),
        BATCH_IMAGES,
        shuffle=True,
        augment=config.augment,
        seed=config.seed,
    )
    with suppress(ImageError):
        seen, _ = batches.batch(0)
        rows, _ = batches.rows(0)
        return seen, [train.images[row].label or "none" for row in rows]
    return None


class _Heat:
    """Paths and a class name for each -> the network's input images with the heat map of that class overlaid."""

    def __init__(self, predictor: Predictor, catalog: Catalog) -> None:
        self._predictor, self._root = predictor, catalog.root
        self._images = {image.path: image for image in catalog.images}

    def __call__(self, paths: Sequence[str], labels: Sequence[str]) -> list[NDArray[np.uint8] | None]:
        predictor = self._predictor
        found: dict[int, NDArray[np.uint8]] = {}
        for place, path in enumerate(paths):
            with suppress(TellapartError, OSError):
                if path in self._images:
                    content = catalogued(self._root, self._images[path], open_row)
                    found[place] = pixels.read(content, predictor.spec)
        if not found:
            return [None] * len(paths)
        classes = np.array([predictor.task.index(labels[place]) for place in found])
        heats = dict(zip(found, self._heats(np.stack(list(found.values())), classes), strict=True))
        return [
            None if (heat := heats.get(place)) is None else overlay(found[place], heat) for place in range(len(paths))
        ]

    def _heats(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> list[NDArray[np.float32] | None]:
        """None for an image whose output is not a number, or that has no prediction."""
        try:
            return list(HeatMaker(self._predictor).heat(images, classes))
        except ExportError:
            if len(images) == 1:
                return [None]
        alone = (slice(place, place + 1) for place in range(len(images)))
        return [heat for one in alone for heat in self._heats(images[one], classes[one])]
