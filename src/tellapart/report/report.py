"""A finished run's values -> one self-contained HTML file for screen and paper, without network requests.

Takes plain values that the caller reads from a run. The page is report.html.jinja with report.css; its sections come
from verdict, learning, confusion, certainty, suspects and origin, and are put together here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tellapart.data.catalog import SPLITS
from tellapart.evaluation.class_metrics import ClassMetrics
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.overfitting import learning
from tellapart.report.certainty import certainty
from tellapart.report.confusion import (
    MOST_TABLE_CLASSES,
    Cell,
    cells_of,
    confusion_svg,
    opened,
    upright,
    with_images,
    worst_pairs,
)
from tellapart.report.input import ReportInput
from tellapart.report.labels import labels_section
from tellapart.report.learning import learning_chart
from tellapart.report.mistakes import mistakes_section
from tellapart.report.origin import origin
from tellapart.report.page import floor_tenth, render_page, shown_chart
from tellapart.report.thumbnails import Album, shrunk
from tellapart.report.time import time_section
from tellapart.runs.history import unit_of
from tellapart.words import between, counted, duration, percent

_MOST_BATCH_IMAGES = 16
_BATCH_SIDE = 112
_MOST_PATHS = 40
_MANY_ROWS = 60  # of more, a table scrolls in a box of its own
_FINDING_ORDER = ("error", "warning", "note")

_MEANINGS = {
    "accuracy": ("Accuracy", "Share of all images classified correctly."),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean of the classes' recall: a small class counts as much as a large one.",
    ),
    "macro_f1": ("Macro F1", "Mean of the classes' F1, the harmonic mean of recall and precision."),
    "top_5_accuracy": ("Top-5 accuracy", "Share of images whose class is among the five most probable."),
    "auc": (
        "Area under the ROC curve",
        "Chance that an image of {positive} scores higher for {positive} than one of {negative}.",
    ),
    "log_loss": (
        "Log loss",
        "Mean negative logarithm of the true class's probability: 0 is perfect, {guess} is guessing.",
    ),
}

_LABEL_MEANINGS = {
    "accuracy": ("Exact match", "Share of images of which every label is right, there or not."),
    "mean_average_precision": (
        "Mean average precision",
        "Mean of the labels' average precision: how well the images with a label are ranked above the others.",
    ),
    "micro_f1": ("Micro F1", "F1 of all labels of all images together: frequent labels count more."),
    "macro_f1": ("Macro F1", "Mean of the labels' F1: each label counts the same."),
    "log_loss": (
        "Log loss",
        "Mean negative logarithm of the probability that a label is as it is: 0 is perfect, {guess} is guessing.",
    ),
}
"""The same where images have several labels."""


def render(report: ReportInput) -> str:
    """The report as the text of one HTML file, typically 0.3 to 2 MB and under 5 MB, for any number of images."""
    album = Album(report.read_thumbnail)
    # In this order they share the album: what matters most comes first.
    parts = {
        **_verdict(report),
        **mistakes_section(report, album),
        **_images(report),
        **_training(report, album),
        **_time(report),
        **(labels_section(report) if report.evaluation.several else _confusion(report, album)),
        **_certainty(report),
        **origin(report),
    }
    return render_page("report.html.jinja", scripts=("sort.js", "report.js"), **parts)


def _verdict(report: ReportInput) -> dict[str, Any]:
    found = report.evaluation
    image = report.config.image
    size = [f"images of {image.height} × {image.width} pixels"] if image.height and image.width else []
    several = found.several
    return {
        "several": several,
        "title": report.title,
        "subtitle": ", ".join([report.config.model.name, *size]),
        "about": _about(report),
        "index_there": report.index_there,
        "link": report.link,
        "accuracy": found.accuracy,
        "verdict": report.verdict,
        "level": percent(found.level, None),
        "n": counted(found.n, "image"),
        "split": found.split,
        "figures": figure_rows(found, report.catalog.task.classes),
        "clean": report.clean if report.clean is not None and report.clean.n < found.n else None,
        "notes": [*found.notes, *report.notes],
        "sections": [
            ("figures", "Figures"),
            ("images", "Images"),
            ("training", "Training"),
            *([("time", "Time")] if report.steps else []),
            ("confusion", "Labels together" if several else "Confusion"),
            ("classes", "Labels" if several else "Classes"),
            ("mistakes", "Mistakes"),
            *([("suspects", "Likely label errors")] if report.predictions is not None and not several else []),
            ("certainty", "Calibration"),
            ("repeat", "Reproduce"),
        ],
    }


def _about(report: ReportInput) -> list[tuple[str, str]]:
    """What the page is about: the run, its images, and when it was begun."""
    day = report.created[:16].replace("T", " ")
    facts = [("Run", report.name), ("Images from", report.source), ("Begun", f"{day} UTC" if day else "")]
    return [(name, value) for name, value in facts if value]


def figure_rows(found: Evaluation, classes: Sequence[str]) -> list[dict[str, str]]:
    guess = math.log(2 if found.several else len(classes))
    words = {"positive": classes[-1], "negative": classes[0], "guess": f"{guess:.2f}"}
    rows = []
    for key, (name, meaning) in (_LABEL_MEANINGS if found.several else _MEANINGS).items():
        if key in found.metrics:
            estimate = found.metrics[key]
            loss = key == "log_loss"
            rows.append(
                {
                    "name": name,
                    "value": f"{estimate.value:.3f}" if loss else percent(estimate.value),
                    "interval": f"{estimate.low:.3f} to {estimate.high:.3f}" if loss else between(estimate),
                    "meaning": meaning.format(**words),
                }
            )
    return rows


def _images(report: ReportInput) -> dict[str, Any]:
    catalog = report.catalog
    counts = catalog.counts()
    broken = len(catalog.broken)
    layout = f"Read as {catalog.layout}." if catalog.layout else ""
    if broken:
        layout += f" {broken:,} of {len(catalog):,} could not be read and are in no split."
    return {
        "layout": layout.strip(),
        "classes": catalog.task.classes,
        "splits": SPLITS,
        "counts": [{"label": c, "counts": [counts[split][c] for split in SPLITS]} for c in catalog.task.classes],
        "totals": [catalog.sizes()[split] for split in SPLITS],
        "findings": sorted(report.findings, key=lambda finding: _FINDING_ORDER.index(finding.severity)),
        "most_paths": _MOST_PATHS,
        "many": _MANY_ROWS,
    }


def _training(report: ReportInput, album: Album) -> dict[str, Any]:
    history, best = report.history, report.best_epoch
    unit = unit_of(history)
    seconds = sum(row.seconds for row in history)
    speed = np.mean([row.images_per_second for row in history]) if history else 0.0
    curves = [
        shown_chart(learning_chart(history, quantity, best), f"{quantity} by {unit}, training and validation")
        for quantity in ("accuracy", "loss")
        if history
    ]
    batch = []
    if report.batch:
        pixels, labels = report.batch
        for image, label in zip(pixels[:_MOST_BATCH_IMAGES], labels, strict=False):
            thumbnail = album.add(label, shrunk(image, _BATCH_SIDE))
            batch += [thumbnail] if thumbnail else []
    return {
        "training": f"{counted(len(history), unit)} in {duration(seconds)}, {speed:,.0f} images a second. "
        f"{report.kept}",
        "learning": learning(history, report.config.train.monitor, best).sentence,
        "curves": curves,
        "batch": batch,
    }


def _time(report: ReportInput) -> dict[str, Any]:
    return time_section(report.steps) if report.steps else {"time_steps": []}


def _confusion(report: ReportInput, album: Album) -> dict[str, Any]:
    from markupsafe import Markup

    found, classes = report.evaluation, report.catalog.task.classes
    k = len(classes)
    cells = cells_of(found)
    behind = opened(found, cells)
    if report.predictions is not None:
        behind = with_images(behind, report.predictions, album)
    estimates = [e for row in found.per_class for e in (row.recall, row.precision, row.f1) if e is not None]
    # The tenth below every interval of every class, so that the lines use their room.
    start = floor_tenth([estimate.low for estimate in estimates])
    return {
        "cells": [[cells[i, j] for j in range(k)] for i in range(k)] if k <= MOST_TABLE_CLASSES else [],
        # Escapes the class names that it draws.
        "confusion_svg": "" if k <= MOST_TABLE_CLASSES else Markup(confusion_svg(found.confusion, classes)),
        "pairs": worst_pairs(cells)[: 10 if k <= MOST_TABLE_CLASSES else None] if k > 3 else [],
        "wrong": _by_class(behind),
        "upright": [upright(name) for name in classes],
        "behind": behind if report.predictions is not None else [],
        "opens": report.predictions is not None,
        "per_class": _worst_first([(row, _taken_for(found, place)) for place, row in enumerate(found.per_class)]),
        "scale": start,
        "scale_start": f"{100 * start:.0f}",
    }


def _by_class(cells: Sequence[Cell]) -> list[tuple[int, list[Cell]]]:
    """The mistakes among these cells: the class with the most first, and in it its most frequent ones."""
    found: dict[int, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: -cell.count):
        if cell.truth != cell.named:
            found.setdefault(cell.truth, []).append(cell)
    return sorted(found.items(), key=lambda item: -sum(cell.count for cell in item[1]))


def _worst_first(rows: list[tuple[ClassMetrics, str]]) -> list[tuple[ClassMetrics, str]]:
    """By recall; classes without images last."""
    return sorted(rows, key=lambda row: row[0].recall.value if row[0].recall else math.inf)


def _taken_for(found: Evaluation, place: int) -> str:
    """The class that this class was most often mistaken for, and how often."""
    counts = found.confusion[place].copy()
    counts[place] = 0
    other = int(counts.argmax())
    return f"{found.per_class[other].label} ({counts[other]:,})" if counts[other] else ""


def _certainty(report: ReportInput) -> dict[str, Any]:
    found = certainty(report.evaluation, report.predictions, report.calibration, report.evaluation.level)
    return {"certainty": found, "certainty_charts": [shown_chart(chart) for chart in found.charts]}
