"""Numbers -> SVG charts: for the pages, whose colours they use, and as separate files.

This is our own code: of four charts with two lines each, measured on two cores (2026-11-27), it writes one in 0.2 ms.
matplotlib took 45 ms for one after 250 ms of import, and is 56 MB with dependencies that nothing else here needs; pygal
took 7 ms, but has no bands, no intervals and no colours set by the page, and writes scripts and external addresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from tellapart.svg import DASHES, SERIES, Drawing, drawing, series_colour, shortened, text, text_width
from tellapart.words import Interval

Point = tuple[float, float]
Kind = str | int
"""`training` and `validation` set the colour, `muted` is for reading aids; a number is one of several series."""

WIDTH, HEIGHT = 500, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 22, 50, 46
_GAP = 40  # between the charts of a grid
_ROW = 22  # of a legend below
MOST_ROWS = 40
"""Rows of the table of a chart."""


@dataclass(frozen=True)
class Axis:
    """low < high: its range, above 0 if logarithmic; ticks: (value, text); name: its label; shown: a value as text."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    name: str = ""
    logarithmic: bool = False
    shown: Callable[[float], str] = "{:g}".format

    def place(self, value: float, start: float, end: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log(each) for each in (max(value, low), low, high))
        return start + (value - low) / (high - low) * (end - start)

    def told(self, value: float) -> str:
        """A value as text, to four digits; what is nearly 1 stays below it."""
        rounded = float(f"{value:.4g}")
        return self.shown(value if rounded == 1 else rounded)


@dataclass(frozen=True)
class ChartTable:
    """What a chart shows, to be read: a head and rows of text, and sentences about single points."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    points: tuple[str, ...]


@dataclass
class Chart:
    """A title, two axes and the series between them, drawn in order."""

    title: str
    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = HEIGHT
    _parts: list[str] = field(default_factory=list)
    _legend: list[tuple[str, Kind, str]] = field(default_factory=list)
    _series: dict[str, dict[float, float]] = field(default_factory=dict)
    _tips: list[str] = field(default_factory=list)

    def line(self, points: Iterable[Point], kind: Kind, name: str = "", told: str = "") -> None:
        """A line through finite points; a single one is drawn as a dot. told: its name in the table alone."""
        places = [self._at(*point) for point in self._finite(points, name or told)]
        if places and name and name not in [known for _, _, known in self._legend]:
            self._legend.append(("line", kind, name))
        if len(places) == 1:
            self._parts.append(f'<circle {_look("dot", kind)} cx="{places[0][0]}" cy="{places[0][1]}" r="3.5"/>')
        elif places:
            self._parts.append(f'<polyline {_look("line", kind)} points="{_points(places)}"/>')

    def marks(self, points: Iterable[Point], kind: Kind, name: str = "", told: str = "") -> None:
        """Finite points that no line joins, as no time passes between them."""
        places = [self._at(*point) for point in self._finite(points, name or told)]
        if places and name and name not in [known for _, _, known in self._legend]:
            self._legend.append(("dot", kind, name))
        self._parts += [f'<circle {_look("dot", kind)} cx="{x}" cy="{y}" r="3.5"/>' for x, y in places]

    def _finite(self, points: Iterable[Point], name: str) -> list[Point]:
        """The finite points, noted for the table."""
        found = [point for point in points if all(map(math.isfinite, point))]
        if found and name:
            self._series.setdefault(name, {}).update(found)
        return found

    def band(self, low: Sequence[Point], high: Sequence[Point], kind: Kind) -> None:
        """The area between two lines."""
        places = [self._at(*point) for point in (*low, *reversed(high))]
        self._parts.append(f'<polygon {_look("band", kind)} points="{_points(places)}"/>')

    def interval(self, x: float, low: float, high: float, kind: Kind) -> None:
        (across, bottom), (_, top) = self._at(x, low), self._at(x, high)
        self._parts.append(f'<path {_look("interval", kind)} d="M{across} {bottom}V{top}"/>')

    def dot(self, x: float, y: float, kind: Kind, tip: str, name: str = "", radius: float = 4.5) -> None:
        """tip: the tooltip."""
        if name:
            self._legend.append(("dot", kind, name))
        self._tips.append(tip)
        across, down = self._at(x, y)
        self._parts.append(
            f'<circle {_look("dot", kind)} cx="{across}" cy="{down}" r="{radius:g}">'
            f"<title>{escape(tip)}</title></circle>"
        )

    def rule(self, x: float, words: str = "") -> None:
        """A dotted vertical line with a label at its top."""
        across, _ = self._at(x, self.y.low)
        self._parts.append(f'<path class="guide" d="M{across} {_TOP}V{self.height - _BOTTOM}"/>')
        if words:
            beyond = across + 5 + text_width(words) > self.width
            anchor, shift = ("end", -5) if beyond else ("start", 5)
            self._parts.append(text(across + shift, _TOP + 11, words, "small", anchor))

    def table(self) -> ChartTable:
        """The same as text, at most MOST_ROWS rows, evenly chosen."""
        places = sorted({x for values in self._series.values() for x in values})
        if len(places) > MOST_ROWS:
            last = len(places) - 1
            places = [places[round(number * last / (MOST_ROWS - 1))] for number in range(MOST_ROWS)]
        rows = tuple(
            (self.x.told(x), *(self.y.told(v[x]) if x in v else "" for v in self._series.values())) for x in places
        )
        return ChartTable(self.title, (self.x.name or "at", *self._series), rows, tuple(self._tips))

    def svg(self, description: str) -> str:
        """An <svg> element without external references, for a page that defines the colours."""
        return element(self.width, self.height, self.body(), description)

    def body(self) -> str:
        """The content of that element."""
        return f"{self._frame()}{''.join(self._parts)}{self._names()}"

    def _at(self, x: float, y: float) -> Point:
        across = self.x.place(x, _LEFT, self.width - _RIGHT)
        down = self.y.place(min(max(y, self.y.low), self.y.high), self.height - _BOTTOM, _TOP)
        return round(across, 1), round(down, 1)

    def _frame(self) -> str:
        foot, right = self.height - _BOTTOM, self.width - _RIGHT
        parts = [text(0, 16, self.title, "title")]
        for value, words in self.y.ticks:
            down = round(self.y.place(value, foot, _TOP), 1)
            parts.append(f'<path class="grid" d="M{_LEFT} {down}H{right}"/>')
            parts.append(text(_LEFT - 8, down + 4, words, "tick", "end"))
        for value, words in self.x.ticks:
            parts.append(text(round(self.x.place(value, _LEFT, right), 1), foot + 18, words, "tick", "middle"))
        parts.append(text((_LEFT + right) / 2, self.height - 6, self.x.name, "tick", "middle"))
        if self.y.name:
            parts.append(text(0, _TOP - 14, self.y.name, "tick"))
        return "".join(parts)

    def _names(self) -> str:
        """The legend, to the right of the title."""
        parts, across = [], float(self.width - _RIGHT)
        for form, kind, name in reversed(self._legend):
            across -= round(text_width(name), 1) + (25 if form == "line" else 16)
            parts.append(_entry(across, 16, form, kind, name))
            across -= 15
        return "".join(parts)


def grid(charts: Sequence[Chart], description: str, columns: int = 2, legend: Sequence[tuple[Kind, str]] = ()) -> str:
    """A grid of charts of the same size with one legend, as one <svg> element."""
    width, height = charts[0].width + _GAP, charts[0].height + 10
    parts = [
        f'<g transform="translate({place % columns * width} {place // columns * height})">{chart.body()}</g>'
        for place, chart in enumerate(charts)
    ]
    whole, foot = columns * width - _GAP, math.ceil(len(charts) / columns) * height
    names = [(kind, shortened(name, 40)) for kind, name in legend]
    if names:
        entry = 55 + max(text_width(name) for _, name in names)
        beside = max(1, int((whole + 30) // entry))
        rows = math.ceil(len(names) / beside)
        for place, (kind, name) in enumerate(names):
            parts.append(_entry(place // rows * entry, foot + 16 + place % rows * _ROW, "line", kind, name))
        foot += rows * _ROW + 4
    return element(whole, foot, "".join(parts), description)


def chart_drawing(title: str, svg: str) -> Drawing:
    """An <svg> element of this module or of confusion as a separate file."""
    return drawing(title, svg, (Path(__file__).parent / "charts.css").read_text(encoding="utf-8"))


def interval_mark(estimate: Interval, start: float, end: float, zero: bool = False) -> Any:
    """An interval on a line from start to end, for a cell of a table: a bar, a dot at the value, a mark at 0."""
    from markupsafe import Markup

    low, value, high, none = (place(each, start, end) for each in (estimate.low, estimate.value, estimate.high, 0))
    mark = f'<line class="none" x1="{none}%" x2="{none}%" y2="12"/>' if zero else ""
    return Markup(
        f'<svg class="range" aria-hidden="true"><line class="rail" x2="100%" y1="6" y2="6"/>{mark}'
        f'<line class="bar" x1="{low}%" x2="{high}%" y1="6" y2="6"/><circle cx="{value}%" cy="6" r="4.5"/></svg>'
    )


def place(value: float, start: float, end: float) -> float:
    """The position of a value on a line from start to end, 0..100.

    >>> place(0.75, 0.5, 1)
    50.0
    """
    return round(min(100.0, max(0.0, 100 * (value - start) / (end - start))), 2)


def nice_axis(
    low: float, high: float, shown: Callable[[float], str], name: str = "", most: int = 5, whole: bool = False
) -> Axis:
    """An axis over low..high, widened to round ticks; `whole`: only whole numbers, and not widened.

    >>> [text for _, text in nice_axis(0, 0.93, lambda value: f"{value:g}").ticks]
    ['0', '0.2', '0.4', '0.6', '0.8', '1']
    """
    if not whole and high - low < 1e-6 * max(abs(high), 1):  # a single value is drawn at the top
        low, high = (low - 0.02 * abs(high), high) if high else (0.0, 1.0)
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= most + 1e-9)
    if whole:
        step = max(1.0, float(math.ceil(step)))
        ticks = [value for value in _steps(math.ceil(low / step), math.floor(high / step), step) if value >= low]
        ticks = ticks if len(ticks) > 1 else sorted({low, high})
        margin = 0.02 * (high - low) or 0.5
        return Axis(low - margin, high + margin, [(value, shown(value)) for value in ticks], name, shown=shown)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = _steps(first, last, step)
    return Axis(ticks[0], ticks[-1], [(value, shown(value)) for value in ticks], name, shown=shown)


def log_axis(low: float, high: float, name: str = "", most: int = 6) -> Axis:
    """An axis over 0 < low..high by powers of ten.

    >>> [text for _, text in log_axis(0.2, 900).ticks]
    ['0.1', '1', '10', '100', '1000']
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    powers = range(first, last + 1, math.ceil((last - first) / most))
    ticks = [(10.0**power, f"{10.0**power:g}") for power in powers]
    return Axis(10.0**first, 10.0**last, ticks, name, logarithmic=True)


def _steps(first: int, last: int, step: float) -> list[float]:
    return [round(number * step, 10) for number in range(first, last + 1)]


def _points(places: Iterable[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _look(form: str, kind: Kind) -> str:
    """Styled by the page for named kinds, by attributes for a series."""
    if isinstance(kind, str):
        return f'class="{form} {kind}"'
    colour, dashes = series_colour(kind), DASHES[kind // len(SERIES) % len(DASHES)]
    return (
        f'class="{form}" fill="{colour}"'
        if form == "dot"
        else (f'class="{form}" stroke="{colour}" stroke-dasharray="{dashes or "none"}"')
    )


def _entry(across: float, down: float, form: str, kind: Kind, name: str) -> str:
    """An entry of a legend: how it is drawn, and its name."""
    middle = down - 4
    if form == "line":
        return f'<path {_look("line", kind)} d="M{across:g} {middle}h19"/>{text(across + 25, down, name, "legend")}'
    mark = f'<circle {_look("dot", kind)} cx="{across + 5:g}" cy="{middle}" r="4"/>'
    return mark + text(across + 16, down, name, "legend")


def element(width: float, height: float, body: str, description: str) -> str:
    """An <svg> element in the style of charts.css; body: its content."""
    size = f'viewBox="0 0 {width:g} {height:g}"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(description)}">{body}</svg>'
