"""History -> its two charts: accuracy and loss, training and validation.

A row is an epoch, or a fit of a linear head. The fits have decreasing regularisation, and the strength of the
regularisation is then the horizontal axis. No line joins fits: each begins anew, and no time passes between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tellapart.report.charts import Axis, Chart, nice_axis
from tellapart.runs.history import HistoryRow, unit_of
from tellapart.words import percent

Quantity = Literal["accuracy", "loss"]
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def learning_chart(history: Sequence[HistoryRow], quantity: Quantity, best: int) -> Chart:
    """history: at least one row. best: the epoch kept, marked on the validation line."""
    linear = unit_of(history) == "fit"
    figures = [row.figure(key) for row in history for key in (quantity, f"val_{quantity}")]
    values = [value for value in figures if math.isfinite(value)] or [0.0, 1.0]
    if quantity == "accuracy":
        y = nice_axis(min(values), max(values), lambda value: percent(value, None))
    else:
        y = nice_axis(0, max(values), lambda value: f"{value:g}")
    chart = Chart(quantity.capitalize(), _strengths(history) if linear else _epochs(history), y)
    kept = next((row for row in history if row.epoch == best), None)
    if kept is not None:
        chart.rule(_across(kept, linear))
    for name, key in (("training", quantity), ("validation", f"val_{quantity}")):
        for part in _phases(history):
            draw = chart.marks if unit_of(part) == "fit" else chart.line
            draw([(_across(row, linear), row.figure(key)) for row in part], name, name)
    if kept is not None and math.isfinite(value := kept.figure(f"val_{quantity}")):
        text = percent(value) if quantity == "accuracy" else f"{value:.3f}"
        tip = f"{unit_of(history)} {best}, the one kept: {text} on the validation split"
        chart.dot(_across(kept, linear), value, "validation", tip, f"kept: {text}")
    second = next((i for i, part in enumerate(_phases(history)) if i), 0)
    if second:
        chart.rule(_phases(history)[1][0].epoch - 0.5, "fine-tuning")
    return chart


def _across(row: HistoryRow, linear: bool) -> float:
    return -math.log10(row.figure("regularization")) if linear else float(row.epoch)


def _phases(history: Sequence[HistoryRow]) -> list[list[HistoryRow]]:
    """The head on the frozen backbone, then fine-tuning: two lines, as they are separate trainings."""
    parts: dict[str, list[HistoryRow]] = {}
    for row in history:
        parts.setdefault(row.phase, []).append(row)
    return list(parts.values())


def _epochs(history: Sequence[HistoryRow]) -> Axis:
    name = "epoch"
    first = _phases(history)[0]
    if len(first) < len(history):
        name = f"to {len(first)}: {unit_of(first)}s of the head"
        name += " on the frozen backbone; then epochs of fine-tuning"
    return nice_axis(history[0].epoch, history[-1].epoch, lambda value: f"{value:g}", name, 8, whole=True)


def _strengths(history: Sequence[HistoryRow]) -> Axis:
    places = [_across(row, True) for row in history]
    low, high = min(places), max(places)
    step = max(1, round((high - low) / 6))
    ticks = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, step)
    margin = 0.02 * (high - low) or 0.5
    return Axis(
        low - margin,
        high + margin,
        [(tick, "10" + str(-tick).translate(_RAISED)) for tick in ticks],
        "regularisation path, from strong to weak",
        shown=lambda place: f"{10**-place:.3g}",
    )
