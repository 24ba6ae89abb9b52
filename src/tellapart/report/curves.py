"""Histories of several runs -> validation accuracy and loss of all runs, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tellapart.report.charts import Axis, Chart, grid, log_axis, nice_axis
from tellapart.runs.history import HistoryRow, unit_of
from tellapart.words import percent

_LARGEST_RATIO = 50


@dataclass(frozen=True)
class Curve:
    """One run: its rows of history.jsonl, and the epoch that was kept."""

    name: str
    history: Sequence[HistoryRow]
    best_epoch: int | None


def curves_svg(curves: Sequence[Curve], description: str) -> str:
    """An <svg> element; a dot marks the epoch kept."""
    legend = [(number, curve.name) for number, curve in enumerate(curves)]
    return grid(curves_charts(curves), description, legend=legend)


def curves_charts(curves: Sequence[Curve]) -> list[Chart]:
    """Its two charts."""
    return [_chart(curves, "accuracy"), _chart(curves, "loss")]


def _chart(curves: Sequence[Curve], quantity: str) -> Chart:
    key, rows = f"val_{quantity}", [row for curve in curves for row in curve.history]
    values = [row.figure(key) for row in rows if math.isfinite(row.figure(key))] or [0.0, 1.0]
    above = [value for value in values if value > 0]
    if quantity == "accuracy":
        y = nice_axis(min(values), max(values), lambda value: percent(value, None))
    elif above and max(above) > _LARGEST_RATIO * min(above):
        # A diverging run would press all others onto the axis.
        y = log_axis(min(above), max(above))
    else:
        y = nice_axis(min(values), max(values), lambda value: f"{value:g}")
    chart = Chart(f"Validation {quantity}", _epochs(rows), y)
    lines = [[(float(row.epoch), row.figure(key)) for row in curve.history] for curve in curves]
    for number, (curve, points) in enumerate(zip(curves, lines, strict=True)):
        # Between fits of a linear head, which differ in their regularisation, no time passes.
        draw = chart.marks if curve.history and unit_of(curve.history) == "fit" else chart.line
        draw(points, number, told=curve.name)
    # Above the lines of all.
    for number, (curve, points) in enumerate(zip(curves, lines, strict=True)):
        for epoch, value in points:
            if epoch == curve.best_epoch and math.isfinite(value):
                shown = percent(value) if quantity == "accuracy" else f"{value:.3f}"
                chart.dot(epoch, value, number, f"{curve.name}, kept: {shown}")
    return chart


def _epochs(rows: Sequence[HistoryRow]) -> Axis:
    epochs = [row.epoch for row in rows] or [1]
    name = "epoch, or fit of a linear head" if any(row.regularization is not None for row in rows) else "epoch"
    return nice_axis(min(epochs), max(epochs), lambda value: f"{value:g}", name, 8, whole=True)
