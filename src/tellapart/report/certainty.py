"""Evaluation and predictions -> the calibration and selective-prediction section of the report.

Gives charts, rows of tables and plain sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tellapart.evaluation.calibration import Reliability
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.judge import meaning
from tellapart.evaluation.selective_prediction import Thresholds, coverage
from tellapart.report.charts import Axis, Chart, nice_axis
from tellapart.runs.predictions import Predictions
from tellapart.words import between, counted, percent, probability

TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_MOST_POINTS = 160
_FEWEST = 10
"""Fewest predictions for which an accuracy is drawn: with fewer, one mistake would be a tenth or more of them."""
_TOLD = 0.25
_VERDICTS = {
    "sure": "confident enough for the target accuracy of sure predictions",
    "unsure": "below that threshold: for a person to review",
    "unlike": "out-of-distribution: unlike the training images, so the prediction means little",
}


def reliability_chart(found: Reliability) -> Chart:
    """Accuracy against probability; a dot's size grows with its images, the diagonal is perfect calibration."""
    share = Axis(0, 1, [(tick / 4, percent(tick / 4, 0)) for tick in range(5)], "confidence")
    chart = Chart("Reliability", share, Axis(0, 1, share.ticks, "accuracy"))
    chart.line([(0, 0), (1, 1)], "muted")
    most = max(part.n for part in found.bins)
    for part in found.bins:
        chart.interval(part.confidence, part.accuracy.low, part.accuracy.high, "validation")
    for part in found.bins:
        tip = (
            f"{counted(part.n, 'prediction')} with a mean probability of {probability(part.confidence)}: "
            f"{percent(part.accuracy.value)} right ({between(part.accuracy)})"
        )
        chart.dot(part.confidence, part.accuracy.value, "validation", tip, radius=2.5 + 4 * (part.n / most) ** 0.5)
    return chart


def coverage_chart(found: Predictions, level: float, thresholds: Thresholds | None) -> Chart:
    """Accuracy against coverage, with its interval; the threshold of sure predictions is marked."""
    shares, accuracies, confidences = coverage(found)
    n = len(shares)
    first = min(_FEWEST, n) - 1
    chosen = np.unique(np.linspace(first, n - 1, min(n, _MOST_POINTS)).round().astype(int)).tolist()
    points = [(float(shares[i]), proportion(round(accuracies[i] * (i + 1)), i + 1, level)) for i in chosen]
    # The first few predictions tell nothing: they must not set the scale.
    low = min(estimate.low for share, estimate in points if share >= _TOLD)
    x = Axis(
        0,
        1,
        [(tick / 4, percent(tick / 4, 0)) for tick in range(5)],
        "coverage: share of images predicted",
        shown=percent,
    )
    y = nice_axis(low, 1, lambda value: percent(value, None), "accuracy of these predictions")
    chart = Chart("Accuracy against coverage", x, y)
    chart.band([(s, e.low) for s, e in points], [(s, e.high) for s, e in points], "validation")
    chart.line([(s, e.value) for s, e in points], "validation", told="accuracy")
    answered = int((confidences >= thresholds.sure).sum()) if thresholds else 0
    if thresholds and answered:
        share, right = float(shares[answered - 1]), float(accuracies[answered - 1])
        chart.rule(share)
        tip = f"from {probability(thresholds.sure)}: {percent(share)} predicted, {percent(right)} of these correct"
        chart.dot(share, right, "training", tip, "sure predictions")
    return chart


@dataclass(frozen=True)
class Certainty:
    """The content of the section; empty strings and lists if there is nothing to show."""

    sentence: str
    charts: tuple[Chart, ...]
    verdicts: list[dict[str, str]]
    targets: list[dict[str, str]]
    notes: list[str]


def certainty(
    found: Evaluation, predictions: Predictions | None, calibration: Mapping[str, Any] | None, level: float
) -> Certainty:
    """calibration: as in run.json, or None."""
    thresholds = Thresholds.from_dict(calibration["thresholds"]) if calibration else None
    charts = [reliability_chart(found.calibration)]
    if predictions is not None:
        charts.append(coverage_chart(predictions, level, thresholds))
    return Certainty(
        f"{meaning(found.calibration)[1]} Dots on the line would be perfect; bars are {percent(level, None)} "
        "intervals.",
        tuple(charts),
        _verdict_rows(found),
        _target_rows(predictions, level) if predictions is not None else [],
        _notes(calibration, thresholds),
    )


def _verdict_rows(found: Evaluation) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "meaning": _VERDICTS[name],
            "count": f"{row.n:,}",
            "share": percent(row.n / found.n),
            "accuracy": percent(row.accuracy.value) if row.accuracy else "",
            "between": between(row.accuracy) if row.accuracy else "",
        }
        for name, row in found.verdicts.items()
    ]


def _target_rows(found: Predictions, level: float) -> list[dict[str, str]]:
    """For each accuracy above that of all predictions: the possible coverage."""
    shares, accuracies, confidences = coverage(found)
    rows: list[dict[str, str]] = []
    for target in TARGETS:
        if accuracies[-1] >= target:
            continue
        reached = np.flatnonzero(accuracies >= target)
        reached = reached[reached >= min(_FEWEST, len(shares)) - 1]
        if len(reached):
            last = int(reached[-1])
            right: Estimate = proportion(round(accuracies[last] * (last + 1)), last + 1, level)
            share, least = percent(float(shares[last])), probability(float(confidences[last]))
            if rows and rows[-1]["share"] == share:
                rows.pop()  # the higher target is reached at no further cost
            rows.append({"target": percent(target, None), "share": share, "least": least, "between": between(right)})
        else:
            rows.append({"target": percent(target, None), "share": "none", "least": "", "between": ""})
            break
    return rows


def _notes(calibration: Mapping[str, Any] | None, thresholds: Thresholds | None) -> list[str]:
    if not calibration or not thresholds:
        return []
    temperature = calibration["temperature"]
    change = "sharpened" if temperature < 1 else "softened"
    notes = [
        f"The probabilities were {change} by temperature scaling on the validation split ({temperature:.2f}), which "
        f"changes no prediction: their calibration error on the {calibration['split']} split went from "
        f"{100 * calibration['error_before']:.1f} to {100 * calibration['error_after']:.1f} points."
    ]
    if thresholds.sure <= 1:
        notes.append(
            f"A prediction is sure from {probability(thresholds.sure)} on, a threshold chosen on the validation split "
            f"for {percent(thresholds.target, None)} accuracy of the sure predictions."
        )
    else:
        notes.append(
            f"No threshold reaches the requested accuracy of {percent(thresholds.target, None)} on the validation "
            "split: none is called sure."
        )
    return notes
