"""A finished run's values -> one HTML file that holds everything: no script, no outside address, for screen and paper.

Reads: plain values that the caller takes from a run. Read by: training and `tellapart report`, which write the text.
The page is report.html.jinja with report.css; this module turns values into the words and shades it shows.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.catalog import SPLITS, Catalog
from tellapart.data.findings import Finding
from tellapart.errors import PictureError
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.intervals import Estimate
from tellapart.evaluation.mistakes import Mistake
from tellapart.report.figures import (
    STRONG_SHADE,
    confusion_figure,
    curve_figure,
    inline_svg,
    row_shares,
    shade,
)
from tellapart.report.overfitting import overfitting_sentence
from tellapart.runs.run import unit_of

_MOST_MISTAKES = 24
_MOST_BATCH_PICTURES = 16
_MOST_PAIRS = 10
_THUMBNAIL_SIDE = 160
_MOST_TABLE_CLASSES = 15

_MEANINGS = {
    "accuracy": ("Accuracy", "Share of all pictures named right."),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean of the classes' recall: a small class counts as much as a large one.",
    ),
    "macro_f1": ("Macro F1", "Mean of the classes' F1, which weighs recall and precision alike."),
    "top_5_accuracy": ("Top-5 accuracy", "Share of pictures whose class is among the five likeliest."),
    "auc": (
        "Area under the curve",
        "Chance that a picture of {positive} seems more like {positive} than one of {negative}.",
    ),
    "log_loss": (
        "Log loss",
        "Price of wrong probabilities: 0 is perfect, {guess} is guessing. Being sure and wrong costs most.",
    ),
}


@dataclass(frozen=True)
class ReportInput:
    """What a report is made of.

    history: rows of history.jsonl. best_epoch: the one whose weights were kept. read_thumbnail: path of a picture, as
    the evaluation names it, to uint8 (height, width, 1 or 3); it may raise PictureError or OSError, and the report then
    says so in the picture's place. environment, onnx_check: facts by name, shown as they are. network: the summary of
    the layers. batch: pixels uint8 (n, height, width, 1 or 3) of a training batch, and n labels.
    """

    title: str
    command: str
    config: Config
    catalog: Catalog
    history: Sequence[Mapping[str, Any]]
    best_epoch: int
    evaluation: Evaluation
    read_thumbnail: Callable[[str], NDArray[np.uint8]]
    environment: Mapping[str, Any]
    findings: Sequence[Finding]
    network: str
    onnx_check: Mapping[str, Any]
    notes: Sequence[str] = ()
    batch: tuple[NDArray[np.uint8], Sequence[str]] | None = None


def render(report: ReportInput) -> str:
    """The report as the text of one HTML file, some 100 KB to 1 MB; at most 24 mistakes are shown as pictures."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters.update(percent=percent, between=_between, thousands=lambda count: f"{count:,}")
    text = pages.get_template("report.html.jinja").render(
        **_verdict(report), **_pictures(report), **_training(report), **_outcome(report), **_origin(report)
    )
    # A file name that is not UTF-8 is held with lone surrogates, which no file can store.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def percent(share: float, unit: bool = True) -> str:
    """A share as percent with one decimal; with more where it would round to 100 and is not.

    >>> percent(0.9912), percent(0.99997, unit=False)
    ('99.1\N{NARROW NO-BREAK SPACE}%', '99.997')
    """
    text = f"{100 * share:.1f}"
    if text == "100.0":
        text = "100" if share == 1 else f"{100 * share:.3f}"
    return text + ("\N{NARROW NO-BREAK SPACE}%" if unit else "")


def _between(estimate: Estimate) -> str:
    return f"{percent(estimate.low, unit=False)} to {percent(estimate.high, unit=False)}"


def _verdict(report: ReportInput) -> dict[str, Any]:
    found = report.evaluation
    accuracy = found.accuracy
    level = f"{100 * found.level:g}\N{NARROW NO-BREAK SPACE}%"
    pictures = "1 picture" if found.n == 1 else f"{found.n:,} pictures"
    largest = max(found.per_class, key=lambda row: row.support)
    weakest = min(
        (row for row in found.per_class if row.recall), key=lambda row: row.recall.value if row.recall else 1.0
    )
    beside = f"Always answering {largest.label} would be right for {percent(largest.support / found.n)}."
    if weakest.recall and weakest.recall.value < 1:
        beside += (
            f" The weakest class is {weakest.label}: {percent(weakest.recall.value)} of its pictures are named right."
        )
    return {
        "title": report.title,
        "subtitle": ", ".join([report.config.model.name, *_picture_size(report.config)]),
        "accuracy": accuracy,
        "verdict": (
            f"It names {percent(accuracy.value)} of {pictures} of the {found.split} split right; with {level} "
            f"certainty the true share lies between {percent(accuracy.low)} and {percent(accuracy.high)}."
        ),
        "overfitting": overfitting_sentence(report.history, report.config.train.monitor, report.best_epoch),
        "beside": beside,
        "level": level,
        "n": f"{found.n:,}",
        "split": found.split,
        "figures": _figure_rows(found, report.catalog.task.classes),
        "notes": [*found.notes, *report.notes],
        "sections": [
            ("figures", "Figures"),
            ("pictures", "Pictures"),
            ("curves", "Training"),
            ("confusion", "Confusion"),
            ("classes", "Classes"),
            ("mistakes", "Mistakes"),
            ("repeat", "Do it again"),
        ],
    }


def _picture_size(config: Config) -> list[str]:
    image = config.image
    return [f"pictures of {image.height} × {image.width} pixels"] if image.height and image.width else []


def _figure_rows(found: Evaluation, classes: Sequence[str]) -> list[dict[str, str]]:
    words = {"positive": classes[-1], "negative": classes[0], "guess": f"{math.log(len(classes)):.2f}"}
    rows = []
    for key, (name, meaning) in _MEANINGS.items():
        if key in found.metrics:
            estimate = found.metrics[key]
            loss = key == "log_loss"
            rows.append(
                {
                    "name": name,
                    "value": f"{estimate.value:.3f}" if loss else percent(estimate.value),
                    "interval": f"{estimate.low:.3f} to {estimate.high:.3f}" if loss else _between(estimate),
                    "meaning": meaning.format(**words),
                }
            )
    return rows


def _pictures(report: ReportInput) -> dict[str, Any]:
    catalog = report.catalog
    counts = catalog.counts()
    broken = len(catalog.broken)
    layout = catalog.layout
    if broken:
        layout += f" {broken:,} of {len(catalog):,} could not be read and stand in no split."
    return {
        "layout": layout.strip(),
        "classes": catalog.task.classes,
        "splits": SPLITS,
        "counts": [{"label": c, "counts": [counts[split][c] for split in SPLITS]} for c in catalog.task.classes],
        "totals": [sum(counts[split].values()) for split in SPLITS],
        "findings": sorted(report.findings, key=lambda finding: ("error", "warning", "note").index(finding.severity)),
    }


def _training(report: ReportInput) -> dict[str, Any]:
    from markupsafe import Markup

    history, best = report.history, report.best_epoch
    seconds = sum(row["seconds"] for row in history)
    unit = unit_of(history)
    epochs = f"1 {unit}" if len(history) == 1 else f"{len(history)} {unit}s"
    speed = np.mean([row["pictures_per_second"] for row in history]) if history else 0.0
    descriptions = {
        "accuracy": f"Accuracy by {unit}, training and validation",
        "loss": f"Loss by {unit}, training and validation",
    }
    curves = []
    if history:
        curves = [
            # Made by inline_svg, which escapes; no text of the user is drawn in it.
            Markup(inline_svg(curve_figure(history, "accuracy", best), descriptions["accuracy"])),
            Markup(inline_svg(curve_figure(history, "loss", best), descriptions["loss"])),
        ]
    batch = []
    if report.batch:
        pixels, labels = report.batch
        batch = [
            {"source": _data_address(picture), "label": label}
            for picture, label in zip(pixels[:_MOST_BATCH_PICTURES], labels[:_MOST_BATCH_PICTURES], strict=True)
        ]
    return {
        "training": f"{epochs} in {_duration(seconds)}, {speed:,.0f} pictures a second. Kept: {unit} {best}.",
        "curves": curves,
        "batch": batch,
    }


def _outcome(report: ReportInput) -> dict[str, Any]:
    found, classes = report.evaluation, report.catalog.task.classes
    shares = row_shares(found.confusion)
    as_table = len(classes) <= _MOST_TABLE_CLASSES
    start = _scale_start(found)
    return {
        "confusion_rows": _confusion_rows(found.confusion, shares, classes) if as_table else [],
        "confusion_svg": "" if as_table else _confusion_svg(found, classes),
        "pairs": _pairs(found.confusion, shares, classes) if len(classes) > 3 else [],
        "per_class": found.per_class,
        "scale": lambda value: round(100 * (value - start) / (1 - start), 2),
        "scale_start": f"{100 * start:.0f}",
        "mistakes": [_shown_mistake(mistake, report) for mistake in found.mistakes[:_MOST_MISTAKES]],
        "mistakes_sentence": _mistakes_sentence(found),
    }


def _scale_start(found: Evaluation) -> float:
    """The tenth below every interval of every class, so that the lines use their room."""
    estimates = [e for row in found.per_class for e in (row.recall, row.precision, row.f1) if e is not None]
    return min(0.9, math.floor(10 * min(estimate.low for estimate in estimates)) / 10)


def _confusion_rows(
    confusion: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for i, label in enumerate(classes):
        cells = []
        for j in range(len(classes)):
            count, strength = int(confusion[i, j]), shade(float(shares[i, j]), i == j)
            kind = " none" if not count else " hit" if i == j else " mistake"
            kind += " strong" if count and strength > STRONG_SHADE else ""
            cells.append({"count": count, "share": percent(shares[i, j]), "shade": round(strength, 3), "kind": kind})
        rows.append({"label": label, "cells": cells})
    return rows


def _confusion_svg(found: Evaluation, classes: Sequence[str]) -> Any:
    from markupsafe import Markup

    # matplotlib escapes the class names it draws.
    return Markup(inline_svg(confusion_figure(found, classes), f"Confusion matrix of {len(classes)} classes"))


def _pairs(confusion: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]) -> list[dict[str, Any]]:
    wrong = confusion - np.diag(np.diagonal(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    places = [divmod(int(place), len(classes)) for place in order]
    return [
        {"truth": classes[i], "named": classes[j], "count": int(wrong[i, j]), "share": percent(shares[i, j])}
        for i, j in places
        if wrong[i, j]
    ]


def _mistakes_sentence(found: Evaluation) -> str:
    wrong = len(found.mistakes)
    if not wrong:
        return f"None among {found.n:,} pictures. That does not mean that there are none: see the interval above."
    shown = f"the {_MOST_MISTAKES} surest are shown" if wrong > _MOST_MISTAKES else "all are shown, the surest first"
    return (
        f"{wrong:,} of {found.n:,} pictures are named wrong; {shown}. The figure is how sure the network was. "
        "A look at them tells hard pictures from wrong labels."
    )


def _shown_mistake(mistake: Mistake, report: ReportInput) -> dict[str, Any]:
    shown = mistake.to_dict()
    try:
        return {**shown, "source": _data_address(report.read_thumbnail(mistake.path)), "missing": ""}
    except (PictureError, OSError) as error:
        reason = error.reason if isinstance(error, PictureError) else (error.strerror or str(error))
        return {**shown, "source": "", "missing": f"The picture cannot be read any more: {reason}."}


def _data_address(pixels: NDArray[np.uint8]) -> str:
    """A JPEG of at most 160 pixels a side, as an address that holds the picture itself."""
    from PIL import Image

    grey = pixels.ndim == 3 and pixels.shape[-1] == 1
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _origin(report: ReportInput) -> dict[str, Any]:
    from tellapart import __version__

    config, catalog = report.config, report.catalog
    texts = [("Configuration", config.to_toml()), ("Network", report.network), ("Epochs", _epochs(report.history))]
    return {
        "command": report.command,
        "made_from": [
            ("Seed", config.seed),
            ("Pictures", f"{len(catalog):,} under {catalog.root}"),
        ],
        "digests": [
            ("Digest of the pictures, labels and splits", catalog.digest),
            ("Digest of the configuration", config.digest),
        ],
        "environment": list(report.environment.items()),
        "onnx_check": [(name.replace("_", " ").capitalize(), value) for name, value in report.onnx_check.items()],
        "texts": [(name, text) for name, text in texts if text],
        "version": __version__,
    }


def _epochs(history: Sequence[Mapping[str, Any]]) -> str:
    """The history as a table of plain text."""
    if not history:
        return ""
    columns = list(dict.fromkeys(name for row in history for name in row))
    lines = ["  ".join(f"{name:>{max(len(name), 9)}}" for name in columns)]
    for row in history:
        cells = (_cell(row.get(name, "")) for name in columns)
        lines.append("  ".join(f"{cell:>{max(len(name), 9)}}" for name, cell in zip(columns, cells, strict=True)))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


def _duration(seconds: float) -> str:
    """
    >>> _duration(8.4), _duration(200), _duration(7300)
    ('8 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
