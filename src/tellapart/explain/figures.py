"""Heat maps, feature maps and filters -> drawings: images with captions. Plain arrays in, SVG text out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.explain.feature_maps import FeatureMap, Filters
from tellapart.svg import INK, MUTED, Drawing, data_url, drawing, text, text_width

SHOWN = 8
"""Channels of a feature map per row."""
ROWS = 16
"""Layers per figure."""
MOST_FILTERS = 64
_TILE, _GAP, _PANEL = 96, 6, 280  # pixels
_TITLE, _LINE = 24, 20  # heights
_FEW = 90  # of so few pixels a side each is shown as a square
_STYLE = f"text{{font-size:12.5px;fill:{INK}}}.muted{{fill:{MUTED}}}.squares{{image-rendering:pixelated}}"


def heat_figure(panels: Sequence[tuple[str, NDArray[np.uint8]]], words: Sequence[str]) -> Drawing:
    """Images side by side, each (title, uint8 (h, w, 1 or 3)) with its title above; sentences below."""
    high = round(_PANEL * panels[0][1].shape[0] / panels[0][1].shape[1])
    width = (_PANEL + _GAP) * len(panels) - _GAP
    parts = []
    for number, (title, image) in enumerate(panels):
        left = number * (_PANEL + _GAP)
        parts += [text(left, 16, title, "title"), _image(image, left, _TITLE, _PANEL, high)]
    lines = [line for sentence in words for line in textwrap.wrap(sentence, max(20, int(width / text_width("n"))))]
    foot = _TITLE + high + 8
    parts += [text(0, foot + 14 + number * _LINE, line, "muted") for number, line in enumerate(lines)]
    return _drawing("Heat", width, foot + _LINE * len(lines) + 4, parts)


def maps_figure(maps: Sequence[FeatureMap]) -> Drawing:
    """A row of channels for each layer, at most ROWS layers; bright is a large value, scaled per channel."""
    parts, top = [], 0
    for one in maps:
        low, high = np.percentile(one.values, (0.5, 99.5), axis=(0, 1))
        scaled = np.clip((one.values - low) / np.maximum(high - low, 1e-12), 0, 1)
        coloured = [
            cv2.applyColorMap(np.round(255 * channel).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
            for channel in np.moveaxis(scaled, -1, 0)
        ]
        mosaic = _mosaic(np.stack(coloured), SHOWN)
        parts += [text(0, top + 16, one.words, "title"), _image(mosaic, 0, top + _TITLE)]
        top += _TITLE + mosaic.shape[0] + 8
    return _drawing("Feature maps", SHOWN * (_TILE + _GAP) - _GAP, top, parts)


def filters_figure(filters: Filters) -> Drawing:
    """Each filter as a small image, scaled separately: middle grey is a weight of 0."""
    values = filters.values[:MOST_FILTERS]
    largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.round(255 * (0.5 + 0.5 * values / np.maximum(largest, 1e-12))).astype(np.uint8)
    mosaic = _mosaic(scaled, min(len(scaled), 2 * SHOWN), _TILE // 2)
    count = len(filters.values)
    which = f"{len(scaled)} of {count}" if len(scaled) < count else f"{count}"
    words = f"{filters.layer}: {which} filters of {values.shape[1]}x{values.shape[2]}"
    width = max(mosaic.shape[1], math.ceil(1.2 * text_width(words)))
    return _drawing(
        "Filters", width, _TITLE + mosaic.shape[0], [text(0, 16, words, "title"), _image(mosaic, 0, _TITLE)]
    )


def _mosaic(tiles: NDArray[np.uint8], columns: int, height: int = _TILE) -> NDArray[np.uint8]:
    """uint8 (n, rows, columns, 1 or 3) -> RGBA of all, each of the given height, small ones enlarged without
    smoothing; the gaps are transparent."""
    n, rows, wide, _ = tiles.shape
    width = max(1, round(height * wide / rows))
    lines = math.ceil(n / columns)
    out = np.zeros((lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 4), np.uint8)
    how = cv2.INTER_AREA if rows > height else cv2.INTER_NEAREST
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + _GAP), place % columns * (width + _GAP)
        large = cv2.resize(np.ascontiguousarray(tile), (width, height), interpolation=how)
        out[top : top + height, left : left + width, :3] = large.reshape(height, width, -1)
        out[top : top + height, left : left + width, 3] = 255
    return out


def _image(pixels: NDArray[np.uint8], left: int, top: int, width: int = 0, height: int = 0) -> str:
    kind = ' class="squares"' if max(pixels.shape[:2]) < _FEW else ""
    height, width = height or pixels.shape[0], width or pixels.shape[1]
    return (
        f'<image{kind} x="{left}" y="{top}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{data_url(pixels)}"/>'
    )


def _drawing(title: str, width: int, height: int, parts: Sequence[str]) -> Drawing:
    opening = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    return drawing(title, f"{opening}{''.join(parts)}</svg>", _STYLE)
