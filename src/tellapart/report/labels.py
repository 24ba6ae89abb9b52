"""Evaluation of images with several labels -> the report's sections on the labels, in place of confusion and classes.

There is no matrix of confusions, as an image is not taken for another: each label is there or not, and predicted or
not.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from tellapart.evaluation.class_metrics import ClassMetrics
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.report.input import ReportInput
from tellapart.report.page import floor_tenth
from tellapart.runs.predictions import Predictions
from tellapart.words import percent, probability

MOST_PAIRS = 20


def labels_section(report: ReportInput) -> dict[str, Any]:
    """What the template shows: counts, metrics and threshold of each label, and the labels that come together."""
    found = report.evaluation
    thresholds = Thresholds.from_dict(report.calibration["thresholds"]) if report.calibration else None
    least = None if thresholds is None else thresholds.labels
    rows = [
        {
            "row": row,
            "table": found.confusion[place].tolist(),
            "least": "" if least is None else probability(least[place]),
        }
        for place, row in enumerate(found.per_class)
    ]
    estimates = [estimate for row in found.per_class for estimate in figures_of(row) if estimate is not None]
    start = floor_tenth([estimate.low for estimate in estimates])
    return {
        "labels": sorted(rows, key=lambda row: _recall(row["row"])),
        "figures_of": figures_of,
        "together": [] if report.predictions is None else pairs_of(found, report.predictions)[:MOST_PAIRS],
        "scale": start,
        "scale_start": f"{100 * start:.0f}",
    }


def figures_of(row: ClassMetrics) -> tuple[Any, ...]:
    """Of a label, in the order of the table."""
    return row.recall, row.precision, row.f1, row.average_precision


def pairs_of(found: Evaluation, said: Predictions) -> list[dict[str, Any]]:
    """The labels that come together, the most frequent first: on how many images, and on how many both are found."""
    if said.labels is None:
        return []
    truth, names = said.truth == 1, [row.label for row in found.per_class]
    both = truth.T.astype(np.int64) @ truth.astype(np.int64)
    hits = (truth & said.labels).astype(np.int64)
    found_both = hits.T @ hits
    rows = [
        {
            "labels": (names[one], names[other]),
            "count": int(both[one, other]),
            "found": int(found_both[one, other]),
            "share": percent(float(found_both[one, other] / both[one, other])),
        }
        for one, other in combinations(range(len(names)), 2)
        if both[one, other]
    ]
    return sorted(rows, key=lambda row: -int(str(row["count"])))


def _recall(row: ClassMetrics) -> float:
    """By which the weakest come first; labels without images last."""
    return row.recall.value if row.recall else math.inf
