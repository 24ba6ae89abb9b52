"""History, batch, evaluation -> figures: for a run's figures/ folder, and the curves of the report.

Reads: plain values. Read by: report, training (which saves them). Uses matplotlib's objects and never its global state,
so figures can be made in any thread and without a display. Save one with `figure.savefig(path)`: SVG or PNG.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.evaluate import Evaluation
from tellapart.runs.run import unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Quantity = Literal["accuracy", "loss"]

# Told apart by eyes of every kind, and in grey print (Okabe and Ito's blue and vermilion, darkened for white).
INK = "#1c2127"
MUTED = "#646d78"
RULE = "#e1e4e8"
PAPER = "#ffffff"
TRAINING = "#c4560f"
VALIDATION = "#1f63a8"

STRONG_SHADE = 0.6  # beyond it a cell's text is white
_MOST_CELL_TEXTS = 25  # classes; beyond it the numbers of a cell could not be read
_MOST_TICKS = 60
_LONGEST_NAME = 24
_MOST_BATCH_PICTURES = 16


def history_figure(history: Sequence[Mapping[str, Any]], best_epoch: int) -> Figure:
    """Accuracy and loss, training and validation, side by side; the best epoch is marked.

    history: rows with epoch, accuracy, loss and, where there was a validation split, val_accuracy, val_loss.
    """
    figure = _new_figure(9.2, 3.6)
    left, right = figure.subplots(1, 2)
    _draw_curves(left, history, "accuracy", best_epoch)
    _draw_curves(right, history, "loss", best_epoch)
    return figure


def curve_figure(history: Sequence[Mapping[str, Any]], quantity: Quantity, best_epoch: int) -> Figure:
    """One half of `history_figure`, for pages that set the halves side by side or below each other."""
    figure = _new_figure(4.6, 3.4)
    _draw_curves(figure.subplots(), history, quantity, best_epoch)
    return figure


def batch_figure(pixels: NDArray[np.uint8], labels: Sequence[str]) -> Figure:
    """The first 16 pictures of a training batch, as the network sees them: pixels (n, h, w, 1 or 3), n labels.

    Raises ValueError for another shape or no picture.
    """
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or len(pixels) != len(labels) or not len(pixels):
        raise ValueError(
            f"Given pixels {pixels.shape} and {len(labels)} labels; expected (n, height, width, 1 or 3) and n."
        )
    shown = min(len(pixels), _MOST_BATCH_PICTURES)
    columns = min(8, shown)
    rows = math.ceil(shown / columns)
    aspect = pixels.shape[1] / pixels.shape[2]
    figure = _new_figure(1.1 * columns, rows * (1.0 * aspect + 0.3))
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if index < shown:
            picture = pixels[index]
            axes.imshow(picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=255)
            _plain(axes.set_title(textwrap.shorten(labels[index], 18, placeholder="…"), fontsize=8, color=INK, pad=3))
    return figure


def confusion_figure(evaluation: Evaluation, classes: Sequence[str]) -> Figure:
    """The confusion matrix: rows are the truth, columns the prediction; hits are blue, mistakes orange.

    Shaded by the share of the row. Each cell shows count and share up to 25 classes, shading alone beyond; names are
    thinned out beyond 60.
    """
    counts = evaluation.confusion
    k = len(counts)
    shares = row_shares(counts)
    names = [_short(name) for name in classes]
    cell = 0.95 if k <= 6 else 0.6 if k <= _MOST_CELL_TEXTS else 9 / k
    margin = 0.6 + 0.085 * max(len(name) for name in names)
    figure = _new_figure(max(3.2, k * cell + margin), max(2.8, k * cell + margin))
    axes = figure.subplots()
    axes.imshow(_shades(shares), aspect="equal", interpolation="nearest")
    _name_ticks(axes, names)
    if k <= _MOST_CELL_TEXTS:
        _write_cells(axes, counts, shares)
        axes.set_xticks(np.arange(0.5, k - 1), minor=True)
        axes.set_yticks(np.arange(0.5, k - 1), minor=True)
        axes.grid(which="minor", color=RULE, linewidth=0.6)
        axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    return figure


def row_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each cell's share of its row, 0..1; 0 in the row of a class without pictures."""
    return np.asarray(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))


def shade(share: float, hit: bool) -> float:
    """How strongly a cell is coloured, 0..1: a hit in proportion, a mistake by the root, so that rare ones are seen."""
    return share if hit else math.sqrt(share)


def inline_svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element for a page: no outside reference, text stays text in the page's font and colours.

    The page styles it by the custom properties --ink, --muted, --rule, --training, --validation and --card.
    """
    import io
    import re
    from html import escape

    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        # Every entry None: no creation date, so equal figures are equal text, and no metadata with outside addresses.
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    svg = re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    # A page has one of each id: those that nothing refers to go, the others are made from the salt above.
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match.group(0) if match.group(1) in referred else "", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    box = re.search(r'viewBox="([^"]*)"', svg)
    if box is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox; expected one.")
    opening = f'<svg viewBox="{box.group(1)}" role="img" aria-label="{escape(description)}">'
    svg = opening + svg[svg.index(">") + 1 :].replace("xlink:href", "href")
    named = {INK: "ink", MUTED: "muted", RULE: "rule", TRAINING: "training", VALIDATION: "validation", PAPER: "card"}
    for colour, name in named.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor=PAPER)


def _axis_name(history: Sequence[Mapping[str, Any]]) -> str:
    if unit_of(history) == "fit":
        return "fit, from strong to weak regularisation"
    head = sum(row.get("phase") == "head" for row in history)
    return f"epoch (to {head}: the head on the frozen base)" if 0 < head < len(history) else "epoch"


def _draw_curves(axes: Axes, history: Sequence[Mapping[str, Any]], quantity: Quantity, best_epoch: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_title("Accuracy" if quantity == "accuracy" else "Loss", loc="left", fontsize=11, color=INK, pad=10)
    marker = "o" if len(history) < 3 else None
    for key, name, colour, style in (
        (quantity, "training", TRAINING, (0, (4, 1.6))),
        (f"val_{quantity}", "validation", VALIDATION, "-"),
    ):
        points = [(row["epoch"], row[key]) for row in history if key in row]
        if points:
            axes.plot(
                *zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.8, label=name, marker=marker
            )
    axes.axvline(best_epoch, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0)
    kept = [row for row in history if row["epoch"] == best_epoch and f"val_{quantity}" in row]
    for row in kept:
        value = row[f"val_{quantity}"]
        label = f"{100 * value:.1f} %" if quantity == "accuracy" else f"{value:.3f}"
        axes.plot(
            [best_epoch],
            [value],
            "o",
            markersize=6,
            color=VALIDATION,
            markeredgecolor=PAPER,
            zorder=4,
            label=f"{unit_of(history)} {best_epoch}: {label}",
        )
    if quantity == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    else:
        axes.set_ylim(bottom=0, top=1.08 * axes.dataLim.ymax)
    axes.set_xlabel(_axis_name(history), fontsize=9, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.01, 1.0),
        ncols=3,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1.8,
        handletextpad=0.5,
        columnspacing=1.2,
        borderaxespad=0.3,
    )


def _name_ticks(axes: Axes, names: Sequence[str]) -> None:
    k = len(names)
    step = math.ceil(k / _MOST_TICKS)
    places = range(0, k, step)
    size = 9 if k <= _MOST_CELL_TEXTS else 7
    axes.set_xticks(
        places, [names[i] for i in places], rotation=45 if k <= 8 else 90, ha="right" if k <= 8 else "center"
    )
    axes.set_yticks(places, [names[i] for i in places])
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        _plain(text)
        text.set(fontsize=size, color=INK)
        text.set_rotation_mode("anchor" if k <= 8 and text in axes.get_xticklabels() else "default")
    axes.tick_params(length=0)
    axes.set_xlabel("named", fontsize=9, color=MUTED)
    axes.set_ylabel("truth", fontsize=9, color=MUTED)


def _shades(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Paper mixed with the colour of hits on the diagonal and of mistakes elsewhere, shape (k, k, 3)."""
    from matplotlib.colors import to_rgb

    paper, hit, mistake = (np.array(to_rgb(colour)) for colour in (PAPER, VALIDATION, TRAINING))
    diagonal = np.eye(len(shares), dtype=bool)[..., None]
    strength = np.where(diagonal, shares[..., None], np.sqrt(shares)[..., None])
    return np.asarray(paper + strength * (np.where(diagonal, hit, mistake) - paper))


def _write_cells(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 9 if len(counts) <= 6 else 7
    for row, column in np.argwhere(counts).tolist():
        count, share = int(counts[row, column]), float(shares[row, column])
        strong = shade(share, row == column) > STRONG_SHADE
        text = f"{count:,}\n{100 * share:.0f} %"
        colour = PAPER if strong else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, linespacing=1.25, color=colour)


def _plain(text: Any) -> None:
    """A class name is shown as it is: a dollar sign starts no formula."""
    text.set_parse_math(False)


def _short(name: str) -> str:
    """Shortened in the middle: long names often differ at the end."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"
