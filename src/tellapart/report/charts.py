"""Numbers -> line charts as SVG: for the page, whose colours they take, and as files of their own.

Reads: plain values. Written by hand: four charts of the
drawing library that pages elsewhere use took longer than all the rest of a report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from tellapart.report.theme import INK, MUTED, PAPER, RULE, TRAINING, VALIDATION

Point = tuple[float, float]

WIDTH, HEIGHT = 500, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 22, 50, 46
_LETTER = 6.4  # mean width of a letter of the legend

_STYLE = f"""
svg{{--ink:{INK};--muted:{MUTED};--rule:{RULE};--training:{TRAINING};--validation:{VALIDATION};--card:{PAPER};
background:{PAPER};font-family:system-ui,sans-serif}}
"""


@dataclass(frozen=True)
class Axis:
    """low < high: what it shows; ticks: (value, text); name: what is along it."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    name: str = ""

    def place(self, value: float, start: float, end: float) -> float:
        return start + (value - self.low) / (self.high - self.low) * (end - start)


@dataclass
class Chart:
    """A title, two axes and what is drawn between them, the first below. kind: `training` and `validation` give the
    colour, `muted` is for what only helps to read."""

    title: str
    x: Axis
    y: Axis
    _parts: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str, str]] = field(default_factory=list)

    def line(self, points: Iterable[Point], kind: str, name: str = "") -> None:
        """Through finite points; one alone is drawn as a dot."""
        places = [self._at(*point) for point in points if all(map(math.isfinite, point))]
        if places and name and name not in [known for _, _, known in self._legend]:
            self._legend.append(("line", kind, name))
        if len(places) == 1:
            self._parts.append(f'<circle class="dot {kind}" cx="{places[0][0]}" cy="{places[0][1]}" r="3.5"/>')
        elif places:
            self._parts.append(f'<polyline class="line {kind}" points="{_points(places)}"/>')

    def band(self, low: Sequence[Point], high: Sequence[Point], kind: str) -> None:
        """The area between two lines."""
        places = [self._at(*point) for point in (*low, *reversed(high))]
        self._parts.append(f'<polygon class="band {kind}" points="{_points(places)}"/>')

    def interval(self, x: float, low: float, high: float, kind: str) -> None:
        (across, bottom), (_, top) = self._at(x, low), self._at(x, high)
        self._parts.append(f'<path class="interval {kind}" d="M{across} {bottom}V{top}"/>')

    def dot(self, x: float, y: float, kind: str, tip: str, name: str = "", radius: float = 4.5) -> None:
        """tip: what a pointer that rests on it is told."""
        if name:
            self._legend.append(("dot", kind, name))
        across, down = self._at(x, y)
        self._parts.append(
            f'<circle class="dot {kind}" cx="{across}" cy="{down}" r="{radius:g}"><title>{escape(tip)}</title></circle>'
        )

    def rule(self, x: float, text: str = "") -> None:
        """A dotted upright line, with a word at its head."""
        across, _ = self._at(x, self.y.low)
        self._parts.append(f'<path class="guide" d="M{across} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        if text:
            beyond = across + 5 + _LETTER * len(text) > WIDTH
            anchor, shift = ("end", -5) if beyond else ("start", 5)
            self._parts.append(
                f'<text class="small" x="{across + shift}" y="{_TOP + 11}" text-anchor="{anchor}">{escape(text)}</text>'
            )

    def svg(self, description: str) -> str:
        """An <svg> element without an outside reference, to stand in a page that defines the colours."""
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
            f"{self._frame()}{''.join(self._parts)}{self._names()}</svg>"
        )

    def _at(self, x: float, y: float) -> Point:
        across = self.x.place(x, _LEFT, WIDTH - _RIGHT)
        down = self.y.place(min(max(y, self.y.low), self.y.high), HEIGHT - _BOTTOM, _TOP)
        return round(across, 1), round(down, 1)

    def _frame(self) -> str:
        foot, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        parts = [f'<text class="title" x="0" y="16">{escape(self.title)}</text>']
        for value, text in self.y.ticks:
            down = round(self.y.place(value, foot, _TOP), 1)
            parts.append(f'<path class="grid" d="M{_LEFT} {down}H{right}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{down + 4}" text-anchor="end">{escape(text)}</text>')
        for value, text in self.x.ticks:
            across = round(self.x.place(value, _LEFT, right), 1)
            parts.append(f'<text class="tick" x="{across}" y="{foot + 18}" text-anchor="middle">{escape(text)}</text>')
        middle = (_LEFT + right) / 2
        parts.append(
            f'<text class="tick" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x.name)}</text>'
        )
        if self.y.name:
            parts.append(f'<text class="tick" x="0" y="{_TOP - 14}">{escape(self.y.name)}</text>')
        return "".join(parts)

    def _names(self) -> str:
        """The legend, at the right of the title."""
        parts, across = [], float(WIDTH - _RIGHT)
        for form, kind, name in reversed(self._legend):
            across -= _LETTER * len(name)
            parts.append(f'<text class="legend" x="{across:.1f}" y="16">{escape(name)}</text>')
            if form == "line":
                parts.append(f'<path class="line {kind}" d="M{across - 25:.1f} 12h19"/>')
                across -= 40
            else:
                parts.append(f'<circle class="dot {kind}" cx="{across - 10:.1f}" cy="12" r="4"/>')
                across -= 30
        return "".join(parts)


def standalone(svg: str, style: str) -> str:
    """An <svg> element as a file of its own, in light colours; style: the rules that the page has for charts."""
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{_STYLE}{style}</style>{rest}\n'


def nice_axis(
    low: float, high: float, text: Callable[[float], str], name: str = "", most: int = 5, whole: bool = False
) -> Axis:
    """An axis over low..high, widened to round ticks; `whole`: only whole numbers, and not widened.

    >>> [text for _, text in nice_axis(0, 0.93, lambda value: f"{value:g}").ticks]
    ['0', '0.2', '0.4', '0.6', '0.8', '1']
    """
    span = max(high - low, 1e-9 * max(abs(high), 1))
    step = 10 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= most + 1e-9)
    if whole:
        step = max(1.0, float(math.ceil(step)))
        ticks = [value for value in _steps(math.ceil(low / step), math.floor(high / step), step) if value >= low]
        ticks = ticks if len(ticks) > 1 else sorted({low, high})
        margin = 0.02 * (high - low) or 0.5
        return Axis(low - margin, high + margin, [(value, text(value)) for value in ticks], name)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, [(value, text(value)) for value in _steps(first, last, step)], name)


def _steps(first: int, last: int, step: float) -> list[float]:
    return [round(number * step, 10) for number in range(first, last + 1)]


def _points(places: Iterable[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
