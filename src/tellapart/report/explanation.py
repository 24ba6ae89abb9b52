"""Explanation + similar training images -> explain.html: heat with its scale, occlusion, probabilities, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from tellapart.explain.explanation import Explanation
from tellapart.files import printable
from tellapart.report.page import render_page
from tellapart.report.thumbnails import Album, Thumbnails
from tellapart.runs.run import RunFolder
from tellapart.svg import data_url
from tellapart.training.similar import Similar
from tellapart.words import probability

FILE = "explain.html"
_SIDE = 176  # pixels of a neighbour
_QUALITY = 90
_TOP = 8
_COLOURS = 12  # of the scale


def explanation_page(found: Explanation, run: RunFolder, near: Sequence[Similar], compared: str) -> str:
    """The page as text. compared: among how many images the neighbours were found, or why there are none."""
    thumbnails = Album(Thumbnails(run.catalog)).take([each.path for each in near], _SIDE) if near else []
    probabilities = found.prediction.top(_TOP)
    return render_page(
        "explain.html.jinja",
        name=printable(Path(found.image).name),
        label=found.label,
        words=found.words,
        panels=[(title, data_url(pixels, _QUALITY), max(pixels.shape[:2]) < _SIDE) for title, pixels in found.panels],
        scale=", ".join(_scale()),
        probabilities=[(name, probability(value), round(100 * value, 2)) for name, value in probabilities],
        rest=len(found.prediction.probabilities) - len(probabilities),
        near=[
            {"label": each.label, "path": printable(each.path), "cosine": f"{each.similarity:.2f}", "image": thumbnail}
            for each, thumbnail in zip(near, thumbnails, strict=False)
        ],
        compared=compared,
        files=[(path.stem.replace("-", " "), quote(path.name)) for path in found.files if path.suffix == ".svg"],
    )


def _scale() -> list[str]:
    """The colours of the heat, from none to the strongest."""
    values = np.linspace(0, 255, _COLOURS).round().astype(np.uint8)[None]
    colours = cv2.applyColorMap(values, cv2.COLORMAP_INFERNO)[0, :, ::-1]
    return [f"rgb({red} {green} {blue})" for red, green, blue in colours.tolist()]
