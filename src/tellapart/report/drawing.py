"""Charts of the public API: SVG that a notebook shows and that can be saved.

They use the report's chart code: the confusion matrix, the training curves; and the images of a catalog.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tellapart.data.catalog import SPLITS
from tellapart.report.charts import WIDTH, chart_drawing, element, grid
from tellapart.report.confusion import confusion_svg
from tellapart.report.learning import learning_chart
from tellapart.runs.history import HistoryRow
from tellapart.svg import Drawing, shortened, text, text_width
from tellapart.words import counted

MOST_BARS = 40
_ROW, _BAR, _NUMBERS = 24, 14, 60  # pixels


def confusion_drawing(confusion: Any, classes: Sequence[str]) -> Drawing:
    """The matrix of an evaluation: rows are true classes, columns predicted ones."""
    return chart_drawing("Confusion matrix", confusion_svg(confusion, classes))


def curves_drawing(history: Sequence[HistoryRow], best_epoch: int) -> Drawing:
    """Accuracy and loss of a run with at least one row of history, for training and validation."""
    charts = [learning_chart(history, "accuracy", best_epoch), learning_chart(history, "loss", best_epoch)]
    return chart_drawing("Training", grid(charts, "Accuracy and loss"))


def counts_drawing(counts: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Images by split, then class, as returned by Catalog.counts: a bar per class, a segment per split."""
    classes = list(next(iter(counts.values())))
    rows = [(shortened(name), [counts[split][name] for split in SPLITS]) for name in classes[:MOST_BARS]]
    if rest := classes[MOST_BARS:]:
        mean = [round(sum(counts[split][name] for name in rest) / len(rest)) for split in SPLITS]
        rows.append((f"{counted(len(rest), 'other')}, mean", mean))
    most = max((sum(values) for _, values in rows), default=0) or 1
    names = round(max((text_width(name) for name, _ in rows), default=0)) + 16
    reach, parts, across = WIDTH - names - _NUMBERS, [], float(names)
    for split in SPLITS:
        parts.append(f'<rect class="{split}" x="{across:g}" y="6" width="10" height="10"/>')
        parts.append(text(across + 15, 15, split, "legend"))
        across += 30 + text_width(split)
    for number, (name, values) in enumerate(rows, start=1):
        top, left = number * _ROW + 6, float(names)
        parts.append(text(names - 8, top + 11, name, "tick", "end"))
        for split, value in zip(SPLITS, values, strict=True):
            width = round(reach * value / most, 1)
            parts.append(f'<rect class="{split}" x="{left:g}" y="{top}" width="{width}" height="{_BAR}"/>')
            left += width
        parts.append(text(left + 6, top + 11, f"{sum(values):,}", "tick"))
    return chart_drawing("Images", element(WIDTH, _ROW * (len(rows) + 1) + 6, "".join(parts), "Images of each class"))
