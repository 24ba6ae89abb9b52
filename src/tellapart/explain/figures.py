"""Heat maps, feature maps and filters -> figures. Plain arrays in, matplotlib objects out, without its global state."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.explain.feature_maps import FeatureMap, Filters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, PAPER = "#1c2127", "#646d78", "#ffffff"

SHOWN = 8
"""Channels of a feature map in a row."""
ROWS = 16
"""Layers in one figure."""
MOST_FILTERS = 64
_TILE, _GAP = 96, 6
_INCH = 110  # pixels


def heat_figure(panels: Sequence[tuple[str, NDArray[np.uint8]]], words: Sequence[str]) -> Figure:
    """Images beside each other, each (title, uint8 (h, w, 1 or 3)) with its title above; sentences below."""
    height, width = panels[0][1].shape[:2]
    side = 2.7
    lines = [line for sentence in words for line in textwrap.wrap(sentence, width=42 * len(panels))]
    figure = _new_figure(side * len(panels), side * height / width + 0.3 + 0.18 * len(lines))
    for axes, (title, image) in zip(_all_axes(figure, 1, len(panels)), panels, strict=True):
        axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
        _title(axes, textwrap.shorten(title, 40, placeholder="…"))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=9, color=MUTED, parse_math=False)
    return figure


def maps_figure(maps: Sequence[FeatureMap]) -> Figure:
    """A row of channels for each layer, at most ROWS of them; bright is a large value, on a scale for each channel."""
    figure = _new_figure(SHOWN * 1.05, len(maps) * 1.33)
    for axes, one in zip(_all_axes(figure, len(maps), 1), maps, strict=True):
        low, high = np.percentile(one.values, (0.5, 99.5), axis=(0, 1))
        scaled = np.clip((one.values - low) / np.maximum(high - low, 1e-12), 0, 1)
        axes.imshow(_mosaic(np.moveaxis(scaled, -1, 0)[..., None], SHOWN)[..., 0], cmap="viridis", vmin=0, vmax=1)
        _title(axes, one.words)
    return figure


def filters_figure(filters: Filters) -> Figure:
    """Each filter as a small image, on a scale of its own: middle grey is a weight of 0."""
    values = filters.values[:MOST_FILTERS]
    largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    scaled = 0.5 + 0.5 * values / np.maximum(largest, 1e-12)
    columns = min(len(scaled), 2 * SHOWN)
    rows = math.ceil(len(scaled) / columns)
    figure = _new_figure(max(3.4, columns * 0.55), rows * 0.55 + 0.4)
    axes = next(iter(_all_axes(figure, 1, 1)))
    mosaic = _mosaic(scaled.astype(np.float32), columns)
    axes.imshow(np.nan_to_num(mosaic, nan=1) if mosaic.shape[-1] == 3 else mosaic[..., 0], cmap="gray", vmin=0, vmax=1)
    count = len(filters.values)
    which = f"{len(scaled)} of {count}" if len(scaled) < count else f"{count}"
    _title(axes, f"{filters.layer}: {which} filters of {values.shape[1]}x{values.shape[2]}")
    return figure


def _mosaic(tiles: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """(n, rows, columns, channels), 0..1 -> one image of them, each enlarged without smoothing; between them nothing,
    which is not a number."""
    n, rows, wide, channels = tiles.shape
    height, width = _TILE, max(1, round(_TILE * wide / rows))
    lines = math.ceil(n / columns)
    out = np.full((lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels), np.nan, np.float32)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + _GAP), place % columns * (width + _GAP)
        large = cv2.resize(np.ascontiguousarray(tile), (width, height), interpolation=cv2.INTER_NEAREST)
        out[top : top + height, left : left + width] = large.reshape(height, width, channels)
    return out


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_INCH, layout="constrained", facecolor=PAPER)


def _all_axes(figure: Figure, rows: int, columns: int) -> list[Any]:
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in found:
        axes.set_axis_off()
    return found


def _title(axes: Any, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=9, color=INK, pad=4, parse_math=False)
