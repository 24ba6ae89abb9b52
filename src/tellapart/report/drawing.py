"""Charts that Python by hand gets: an SVG that a notebook shows and that can be saved.

Drawn by what draws the report's: the confusion matrix, the training curves; and the images of a catalog.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tellapart.data.catalog import SPLITS
from tellapart.files import harmless, write_text
from tellapart.report.charts import HEIGHT, WIDTH, standalone
from tellapart.report.confusion import confusion_svg
from tellapart.report.learning import learning_chart
from tellapart.runs.history import HistoryRow
from tellapart.words import counted

MOST_BARS = 40
_ROW, _BAR, _NAMES, _NUMBERS = 24, 14, 150, 60  # pixels
_LONGEST_NAME = 22


@dataclass(frozen=True, repr=False)
class Drawing:
    """An SVG file's text, in light colours. A notebook shows it; `save` writes it.

    >>> Drawing("Dots", '<svg viewBox="0 0 20 10"></svg>')
    <Drawing 'Dots': save('dots.svg') writes it; a notebook shows it>
    """

    title: str
    svg: str

    def __repr__(self) -> str:
        name = re.sub(r"\W+", "-", self.title.lower()).strip("-")
        return f"<Drawing {self.title!r}: save('{name}.svg') writes it; a notebook shows it>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write the SVG file, whole or not at all."""
        write_text(Path(path), self.svg)


def confusion_drawing(confusion: Any, classes: Sequence[str]) -> Drawing:
    """The matrix of an evaluation: rows are the truth, columns the names given."""
    return _drawing("Confusion matrix", confusion_svg(confusion, classes))


def curves_drawing(history: Sequence[HistoryRow], best_epoch: int) -> Drawing:
    """Accuracy and loss of a run with at least one row of history, training beside validation."""
    parts = []
    for number, quantity in enumerate(("accuracy", "loss")):
        svg = learning_chart(history, quantity, best_epoch).svg(quantity)  # type: ignore[arg-type]
        parts.append(svg.replace("<svg ", f'<svg x="{number * (WIDTH + 40)}" width="{WIDTH}" height="{HEIGHT}" ', 1))
    return _drawing("Training", f'<svg viewBox="0 0 {2 * WIDTH + 40} {HEIGHT}">{"".join(parts)}</svg>')


def counts_drawing(counts: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Images by split, then class, as Catalog.counts gives them: a bar a class, a part of it a split."""
    classes = list(next(iter(counts.values())))
    rows = [(_short(name), [counts[split][name] for split in SPLITS]) for name in classes[:MOST_BARS]]
    if rest := classes[MOST_BARS:]:
        mean = [round(sum(counts[split][name] for name in rest) / len(rest)) for split in SPLITS]
        rows.append((f"{counted(len(rest), 'other')}, mean", mean))
    most = max((sum(values) for _, values in rows), default=0) or 1
    reach, height = WIDTH - _NAMES - _NUMBERS, _ROW * (len(rows) + 1) + 6
    parts, across = [], float(_NAMES)
    for split in SPLITS:
        parts.append(f'<rect class="{split}" x="{across}" y="6" width="10" height="10"/>')
        parts.append(f'<text class="legend" x="{across + 15}" y="15">{split}</text>')
        across += 30 + 7 * len(split)
    for number, (name, values) in enumerate(rows, start=1):
        top, left = number * _ROW + 6, float(_NAMES)
        parts.append(f'<text class="tick" x="{_NAMES - 8}" y="{top + 11}" text-anchor="end">{escape(name)}</text>')
        for split, value in zip(SPLITS, values, strict=True):
            width = round(reach * value / most, 1)
            parts.append(f'<rect class="{split}" x="{left}" y="{top}" width="{width}" height="{_BAR}"/>')
            left += width
        parts.append(f'<text class="tick" x="{left + 6}" y="{top + 11}">{sum(values):,}</text>')
    style = ".train{fill:var(--training)}.validation{fill:var(--validation)}.test{fill:#2a9470}"
    box = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}">'
    return _drawing("Images", f"{box}{''.join(parts)}</svg>", style)


def _drawing(title: str, svg: str, style: str = "") -> Drawing:
    """As a file of its own; of names that hold what XML cannot, the controls are escaped."""
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert box is not None
    sized = svg.replace("<svg ", f'<svg width="{box[1]}" height="{box[2]}" ', 1)
    rules = (Path(__file__).parent / "charts.css").read_text(encoding="utf-8")
    return Drawing(title, harmless(standalone(sized, rules + style)))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
