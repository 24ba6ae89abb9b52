"""Confusion matrix -> a table whose cells open their images; with many classes, an image and the worst pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.evaluate import Evaluation
from tellapart.files import terminal_safe
from tellapart.report.thumbnails import Album, Thumbnail
from tellapart.runs.predictions import Predictions
from tellapart.svg import data_url, shortened, text, text_width
from tellapart.words import counted, percent, probability

MOST_TABLE_CLASSES = 20
MOST_PAIRS = 24
MOST_IN_CELL = 12
"""Images behind a cell of hits; a cell of mistakes holds all of its images, as far as the page has room."""
MOST_IN_CELLS = 480
MOST_LISTED = 1500
"""Mistakes without an image that are listed by their paths, in all cells."""
MOST_OPENED = 400
"""Cells that open, if the matrix is too large for a table."""
MOST_TOLD = 2500
"""Cells of a drawn matrix that tell their count, the largest first."""
SIDE = 104  # pixels
_STRONG_SHADE = 0.86  # beyond it a hit takes the other text: either stands out with a contrast of 4.5 and more
_HIT, _MISTAKE = (58, 127, 200), (214, 108, 40)  # seen on white and on black
_MOST_NAMES = 60
_LEAST_LETTER = 8  # pixels of a count


@dataclass(frozen=True)
class Cell:
    """Images of class `truth` that were predicted as `named`, both positions. images: some of them; listed: the paths
    of others; both with the probability."""

    truth: int
    named: int
    count: int
    share: str
    shade: float
    kind: str
    images: tuple[tuple[Thumbnail, str], ...] = ()
    listed: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        return f"cell-{self.truth}-{self.named}"

    @property
    def rest(self) -> int:
        return self.count - len(self.images) - len(self.listed)


def cells_of(found: Evaluation) -> dict[tuple[int, int], Cell]:
    """Every cell by its position, without images."""
    shares = row_shares(found.confusion)
    cells = {}
    for (i, j), count in np.ndenumerate(found.confusion):
        hit = i == j
        strength = shade(float(shares[i, j]), hit)
        kind = "none" if not count else "hit" if hit else "mistake"
        kind += " strong" if hit and strength > _STRONG_SHADE else ""
        cells[i, j] = Cell(i, j, int(count), percent(float(shares[i, j])), round(strength, 3), kind)
    return cells


def opened(found: Evaluation, cells: dict[tuple[int, int], Cell]) -> list[Cell]:
    """The cells that open: in a table, all that are not empty; in a drawn matrix, those of mistakes."""
    if len(found.confusion) <= MOST_TABLE_CLASSES:
        return [cell for cell in cells.values() if cell.count]
    return worst_pairs(cells, MOST_OPENED)


def worst_pairs(cells: dict[tuple[int, int], Cell], most: int = MOST_PAIRS) -> list[Cell]:
    """The most frequent mistakes, the most frequent first."""
    wrong = [cell for cell in cells.values() if cell.count and cell.truth != cell.named]
    return sorted(wrong, key=lambda cell: -cell.count)[:most]


def with_images(cells: Sequence[Cell], predictions: Predictions, album: Album) -> list[Cell]:
    """The cells with as many images as the album allows, in turn: each cell's first, then each cell's second.

    Of mistakes the most confident come first, of hits the least confident: those are the most informative. Mistakes
    that have no room as images are listed.
    """
    behind = {(cell.truth, cell.named): list(_behind(predictions, cell)) for cell in cells}
    turns = [
        (place, row)
        for number in range(max(map(len, behind.values()), default=0))
        # Mistakes first: they are fewer and tell more.
        for place in sorted(behind, key=lambda place: place[0] == place[1])
        for row in behind[place][number : number + 1]
    ][:MOST_IN_CELLS]
    taken = album.take([predictions.paths[row] for _, row in turns], SIDE)
    confidence = predictions.confidence
    shown: dict[tuple[int, int], list[tuple[Thumbnail, str]]] = {place: [] for place in behind}
    for (place, row), thumbnail in zip(turns, taken, strict=False):
        shown[place].append((thumbnail, probability(float(confidence[row]))))
    opening, room = [], MOST_LISTED
    for cell in cells:
        images = tuple(shown[cell.truth, cell.named])
        rest = behind[cell.truth, cell.named][len(images) :] if cell.truth != cell.named else []
        listed = tuple((predictions.paths[row], probability(float(confidence[row]))) for row in rest[:room])
        room -= len(listed)
        opening.append(replace(cell, images=images, listed=listed))
    return opening


def _behind(predictions: Predictions, cell: Cell) -> Iterator[int]:
    confidence = predictions.confidence
    rows = np.flatnonzero((predictions.truth == cell.truth) & (predictions.named == cell.named))
    sign = 1 if cell.truth == cell.named else -1
    most = MOST_IN_CELL if cell.truth == cell.named else len(rows)
    yield from rows[np.argsort(sign * confidence[rows], kind="stable")][:most].tolist()


def row_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each cell's fraction of its row, 0..1; 0 in the row of a class without images."""
    return np.asarray(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))


def shade(share: float, hit: bool) -> float:
    """How strongly a cell is coloured, 0..1: hits in proportion, mistakes by the square root, to show rare ones."""
    return share if hit else math.sqrt(share)


def confusion_svg(confusion: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The matrix as a drawing, for any number of classes: an <svg> for the page, with names along both sides.

    Rows are true classes, columns predicted ones; with more than 60 classes, only some names are shown. Cells that are
    not empty show their counts, where these fit, and tell them to whoever points at them.
    """
    k = len(classes)
    side = 40 if k <= MOST_TABLE_CLASSES else max(8, round(900 / k))
    step = math.ceil(k / _MOST_NAMES)
    letter = min(13, side * step)
    names = [shortened(name) for name in classes]
    margin = 10 + round(1.2 * max(text_width(name, letter) for name in names))
    edge = margin + k * side
    parts = [
        f'<svg class="matrix" viewBox="0 0 {edge + 4} {edge + 4}" role="img" '
        f'aria-label="Confusion matrix of {counted(k, "class", "classes")}">',
        f'<rect class="frame" x="{margin}" y="{margin}" width="{k * side}" height="{k * side}"/>',
        f'<image x="{margin}" y="{margin}" width="{k * side}" height="{k * side}" href="{_shaded(confusion)}"/>',
        f'<g class="names" font-size="{letter}">',
    ]
    for i in range(0, k, step):
        middle = round(margin + (i + 0.5) * side + 0.35 * letter, 1)
        parts.append(text(margin - 6, middle, names[i], "left", "end"))
        if upright(names[i]):
            centre = round(margin + (i + 0.5) * side, 1)
            parts.append(f'<g writing-mode="vertical-rl">{text(centre, margin - 6, names[i], "top", "end")}</g>')
        else:
            turned = f"translate({middle:g} {margin - 6}) rotate(-90)"
            parts.append(f'<g transform="{turned}">{text(0, 0, names[i], "top")}</g>')
    return "".join([*parts, "</g>", *_told_cells(confusion, classes, margin, side), "</svg>"])


def upright(name: str) -> bool:
    """Whether most of a name is of signs that stand upright in a vertical line, as Chinese and Japanese ones do.

    >>> upright("制限速度30"), upright("speed limit 30")
    (True, False)
    """
    wide = sum(east_asian_width(letter) in "WF" for letter in name)
    return 2 * wide > len(name)


def _told_cells(confusion: NDArray[np.int64], classes: Sequence[str], margin: int, side: int) -> Iterator[str]:
    """For each of the fullest cells its count, if it fits, below an area that tells it."""
    shares = row_shares(confusion)
    filled = np.argwhere(confusion > 0)
    order = np.argsort(-confusion[tuple(filled.T)], kind="stable")[:MOST_TOLD]
    for i, j in filled[order].tolist():
        count, x, y = int(confusion[i, j]), margin + j * side, margin + i * side
        letter = min(11.0, 0.48 * side)
        if letter >= _LEAST_LETTER and text_width(f"{count:,}", letter) < side - 1:
            yield text(x + side / 2, round(y + side / 2 + 0.35 * letter, 1), f"{count:,}", "count", "middle").replace(
                "<text ", f'<text font-size="{letter:g}" ', 1
            )
        words = f"{counted(count, 'image')} of {classes[i]} predicted as {classes[j]}, {percent(float(shares[i, j]))}"
        yield (
            f'<rect class="told" x="{x}" y="{y}" width="{side}" height="{side}" data-cell="{i}-{j}">'
            f"<title>{escape(terminal_safe(words))}</title></rect>"
        )


def _shaded(confusion: NDArray[np.int64]) -> str:
    """One pixel per cell, enlarged: transparent if empty, so that it suits light and dark pages."""
    shares = row_shares(confusion)
    diagonal = np.eye(len(shares), dtype=bool)
    strength = np.where(diagonal, shares, np.sqrt(shares))
    colours = np.where(diagonal[..., None], np.array(_HIT), np.array(_MISTAKE))
    pixels = np.dstack([colours, np.round(255 * strength)[..., None]]).astype(np.uint8)
    return data_url(pixels)
