"""Histories of several runs -> one figure with all learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tellapart.report.theme import INK, MUTED, PAPER, RULE
from tellapart.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each keeps a contrast of at least 3 to white and to the dark page; beyond eight runs the dashes tell them apart.
COLOURS = ("#2f78c4", "#d0611c", "#2a9470", "#a85fb0", "#9a7b0a", "#d1495b", "#1c8ea3", "#7b7f87")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_LONGEST_NAME = 40
_LARGEST_RATIO = 50


@dataclass(frozen=True)
class Curve:
    """One run: its rows of history.jsonl, and the epoch that was kept."""

    name: str
    history: Sequence[Mapping[str, Any]]
    best_epoch: int | None


_MARGIN = 0.004
"""Of accuracy, beyond 0 and 100 %: a line along the edge is drawn whole."""


def colour(index: int) -> str:
    """The colour of the run at this position."""
    return COLOURS[index % len(COLOURS)]


def curves_figure(curves: Sequence[Curve]) -> Figure:
    """Validation accuracy and loss of every run, side by side; a dot marks the epoch that was kept."""
    from matplotlib.figure import Figure

    columns = 2 if len(curves) <= 4 else 3
    legend_rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(9.2, 3.5 + 0.22 * legend_rows), dpi=110, layout="constrained", facecolor=PAPER)
    axes = figure.subplots(1, 2)
    for index, curve in enumerate(curves):
        dash = _DASHES[index // len(COLOURS) % len(_DASHES)]
        for place, key in zip(axes, ("val_accuracy", "val_loss"), strict=True):
            _draw(place, curve, key, colour(index), dash)
    _finish(axes[0], "Validation accuracy", curves)
    _finish(axes[1], "Validation loss", curves)
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=2.4,
    )
    for text in legend.get_texts():
        # A name is shown as it is: a dollar sign starts no formula.
        text.set_parse_math(False)
    return figure


def _draw(axes: Axes, curve: Curve, key: str, shade: str, dash: Any) -> None:
    points = [(row["epoch"], row[key]) for row in curve.history if key in row]
    name = curve.name if len(curve.name) <= _LONGEST_NAME else f"…{curve.name[-_LONGEST_NAME:]}"
    # A line without points still stands in the legend. An underscore before a name would hide it there.
    axes.plot(
        [epoch for epoch, _ in points],
        [value for _, value in points],
        color=shade,
        linestyle=dash,
        linewidth=1.7,
        marker="o" if len(points) < 3 else None,
        markersize=4,
        label=name if not name.startswith("_") else f"\u200b{name}",
    )
    kept = [point for point in points if point[0] == curve.best_epoch]
    for epoch, value in kept:
        axes.plot([epoch], [value], "o", markersize=6, color=shade, markeredgecolor=PAPER, zorder=4)


def _finish(axes: Axes, title: str, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=8)
    if title.endswith("accuracy"):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, None)))
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -_MARGIN), min(high, 1 + _MARGIN))  # a grid line at 102 % would mean nothing
    else:
        values = [row["val_loss"] for curve in curves for row in curve.history if row.get("val_loss", 0) > 0]
        if values and max(values) > _LARGEST_RATIO * min(values):
            # One run that went astray would press all others onto the axis.
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.minorticks_off()
    fits = any("regularization" in row for curve in curves for row in curve.history)
    axes.set_xlabel("epoch, or fit of a linear head" if fits else "epoch", fontsize=9, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
