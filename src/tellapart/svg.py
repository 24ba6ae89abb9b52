"""Drawings as SVG text: colours, shortened names, embedded images, and standalone files.

The drawings are made by report.charts, report.confusion and explain.figures.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.files import terminal_safe, write_text

# Distinguishable with colour blindness, and in grey print (Okabe and Ito's blue and vermilion, darkened for white).
INK = "#1c2127"
MUTED = "#646d78"
RULE = "#e1e4e8"
PAPER = "#ffffff"
TRAINING = "#c4560f"
VALIDATION = "#1f63a8"
# Each has a contrast of at least 3 to white and to the dark page; beyond eight, dashes tell them apart.
SERIES = ("#2f78c4", "#d0611c", "#2a9470", "#a85fb0", "#9a7b0a", "#d1495b", "#1c8ea3", "#7b7f87")
DASHES = ("", "6 3", "1 4", "9 3 1 4")

LONGEST_NAME = 22
MARGIN = 10
"""Margin of a drawing in a file of its own, in pixels."""
_LETTER = 0.56  # mean width of a character in font sizes
_STYLE = f"""
svg{{--ink:{INK};--muted:{MUTED};--rule:{RULE};--training:{TRAINING};--validation:{VALIDATION};--card:{PAPER};
background:{PAPER};font-family:system-ui,sans-serif}}
"""


def shortened(name: str, most: int = LONGEST_NAME) -> str:
    """A name of at most so many characters, cut in the middle: long names often differ at the end. A character of
    double width, such as Chinese ones, counts twice.

    >>> shortened("American Staffordshire terrier"), shortened("Bengal")
    ('American S…ire terrier', 'Bengal')
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= most:
        return name
    half = most // 2
    head, tail = set_cell_size(name, most - half - 1), set_cell_size(name[::-1], half)[::-1]
    return f"{head.rstrip()}…{tail.lstrip()}"


def series_colour(number: int) -> str:
    """The colour of a run or series by its position, from 0."""
    return SERIES[number % len(SERIES)]


def text_width(text: str, size: float = 12.5) -> float:
    """Approximate width of a text in pixels; size: of the font."""
    from rich.cells import cell_len

    return _LETTER * size * (cell_len(text) + 0.3 * sum(letter.isupper() for letter in text))


def data_url(pixels: NDArray[np.uint8], quality: int | None = None) -> str:
    """uint8 (h, w, 1, 3 or 4) -> a data URL with the image: PNG, or JPEG of a quality, 1..95."""
    kind = "png" if quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded(pixels, quality)).decode('ascii')}"


def encoded(pixels: NDArray[np.uint8], quality: int | None = None) -> bytes:
    """uint8 (h, w, 1, 3 or 4) -> the bytes of an image file: PNG, or JPEG of a quality, 1..95."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, format="PNG", optimize=True)
    else:
        image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


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
        """Write the SVG file atomically."""
        write_text(Path(path), self.svg)


def drawing(title: str, svg: str, style: str) -> Drawing:
    """An <svg> element with a viewBox as a separate file, in light colours; style: the rules for its classes.
    Characters that are not allowed in XML are escaped."""
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert box is not None
    width, height = (float(side) + 2 * MARGIN for side in box.groups())
    head, _, rest = svg.replace(box[0], f'viewBox="{-MARGIN} {-MARGIN} {width:g} {height:g}"', 1).partition(">")
    opening = f'{head} xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}">'
    return Drawing(title, terminal_safe(f"{opening}<style>{_STYLE}{style}</style>{rest}\n"))


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """A <text> element, escaped; kind: its class; anchor: start, middle or end."""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{place}>{escape(words)}</text>'
