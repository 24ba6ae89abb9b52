"""A run + one image -> why the network predicts its class: heat map, its check by occlusion, feature maps, filters.

Heat needs ONNX Runtime alone; feature maps and filters the extra `train`, and are left out, with a note, without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.image_formats import SUFFIXES
from tellapart.data.sources import open_row
from tellapart.errors import (
    ConfigError,
    ImageError,
    MissingExtraError,
    MissingPluginError,
    SourceError,
    UntrustedCodeError,
    unknown,
)
from tellapart.explain.figures import ROWS, SHOWN, filters_figure, heat_figure, maps_figure
from tellapart.explain.heat import HeatMaker, normalised, overlay
from tellapart.explain.occlusion import occlusion
from tellapart.files import replacing
from tellapart.inference.prediction import Prediction
from tellapart.inference.predictor import Predictor, prediction, require_numbers
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.required_plugins import require_plugins
from tellapart.runs.run import RunFolder
from tellapart.svg import Drawing, shortened
from tellapart.words import percent
from tellapart.words import probability as shown

TOP = 3
"""Number of classes whose heat maps are shown."""
LEAST_SHOWN = 0.01
"""Least probability of a third class to be shown in addition to the two most probable."""
COVERED = 0.1
"""Share of the image that is covered to test its hottest regions."""
GRID = 16
"""Most rows and columns for comparing two heat maps."""
AGREE, AGREE_IN_PART = 0.5, 0.2


@dataclass(frozen=True)
class Explanation:
    """Why an image is predicted as it is. label: the explained class; probability: its probability.

    agreement: rank correlation of class activation and occlusion over the image, -1..1; None if the network has no
    class activation map, or one of the two is constant. covered: the probability with the hottest tenth of the image
    covered. words: the same as sentences. files: the written files. panels: the images of the heat figure, uint8
    (h, w, 1 or 3), with their titles.

    >>> explanation = ta.open_run("runs/pets").explain("photos/Bengal/Bengal_1.jpg")
    >>> explanation.words[0].startswith("Predicted Bengal"), explanation.files[0].suffix
    (True, '.svg')
    """

    image: str
    prediction: Prediction
    label: str
    probability: float
    method: str
    agreement: float | None
    covered: float
    words: tuple[str, ...]
    files: tuple[Path, ...]
    panels: tuple[tuple[str, NDArray[np.uint8]], ...] = field(default=(), repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "image": self.image,
            "verdict": self.prediction.verdict or None,
            "named": self.prediction.label,
            "label": self.label,
            "probability": round(self.probability, 6),
            "method": self.method,
            "agreement": None if self.agreement is None else round(self.agreement, 4),
            "probability_covered": round(self.covered, 6),
            "words": list(self.words),
            "files": [str(path) for path in self.files],
        }


def explain(
    run: RunFolder,
    image: str | os.PathLike[str],
    *,
    label: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
) -> Explanation:
    """Write the figures of one image into a folder, and describe them in sentences.

    label: the class to explain (default: the predicted one; of several labels, the most probable). out: the folder
    (default: explain/IMAGE-NAME inside the run). Raises RunError for an unfinished run, SourceError for a file that is
    not an image, ConfigError for an unknown class, ExportError if the network's output is not a number.
    """
    predictor = Predictor(run.require(run.onnx_file, "exported network"), bounds=run.config.data)
    name = os.fspath(image)
    seen = _read(Path(image), predictor)
    (row,), (distance,) = predictor.answer(seen[None])
    said = prediction(predictor.metadata, name, require_numbers(row), float(distance))
    if label is not None and label not in predictor.task.classes:
        raise ConfigError(unknown("class", label, predictor.task.classes))
    chosen = predictor.task.index(label or said.top(1)[0][0])
    folder = Path(out) if out is not None else run.place("explain", Path(image).name)
    placed = replacing if out is not None else run.replacing

    maker, one = HeatMaker(predictor), seen[None]
    own = maker.shares(one, np.array([chosen]))
    losses = occlusion(
        predictor, one, np.array([chosen]), done=lambda done, total: progress.update(Phase.EXPLAINING, done, total)
    )[0]
    agreement = None if own is None else rank_correlation(own[0], losses)
    heat = normalised(losses if own is None else own[0], losses.shape)
    covered = float(require_numbers(predictor.probabilities(_cover(seen, heat)[None]))[0, chosen])
    words = _words(said, predictor.task.classes[chosen], maker.method, agreement, heat, covered)
    panels = _panels(maker, seen, said, chosen, losses)
    figures = {"heat": heat_figure(panels, words[1:])}
    try:
        figures |= _network_figures(run, seen, progress)
    except (MissingExtraError, MissingPluginError, UntrustedCodeError) as error:
        words = (*words, f"Without feature maps and filters. {error}")
    return Explanation(
        name,
        said,
        predictor.task.classes[chosen],
        said.probabilities[predictor.task.classes[chosen]],
        maker.method,
        agreement,
        covered,
        words,
        tuple(_save(folder / f"{title}.svg", figure, placed) for title, figure in figures.items()),
        tuple(panels),
    )


def rank_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    """Spearman's rank correlation over a grid that both are averaged to, -1..1; None if one is constant."""
    from scipy.stats import spearmanr

    rows, columns = (min(GRID, *sides) for sides in zip(one.shape, other.shape, strict=True))
    if rows * columns < 2:
        return None
    small = [
        cv2.resize(np.asarray(values, np.float32), (columns, rows), interpolation=cv2.INTER_AREA).ravel()
        for values in (one, other)
    ]
    if any(np.ptp(values) == 0 for values in small):
        return None
    return float(spearmanr(*small).statistic)


def _read(path: Path, predictor: Predictor) -> NDArray[np.uint8]:
    if path.is_dir():
        inside = (
            each for each in sorted(path.iterdir()) if each.suffix[1:].lower() in SUFFIXES and each.name[0] != "."
        )
        raise SourceError(f"{path} is a folder; explain takes one image, such as {next(inside, path / 'image.jpg')}")
    try:
        bounds = predictor.bounds
        held = open_row(path.parent, path.name)  # a file, or a member such as train.parquet#17
        return pixels.read(held, predictor.spec, max_pixels=bounds.max_pixels, max_bytes=bounds.max_bytes)
    except (ImageError, SourceError) as error:
        raise SourceError(f"{path} cannot be explained, as it cannot be read: {error}.") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be explained, as it cannot be read: {error.strerror or error}.") from None


def _cover(seen: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image with its hottest tenth replaced by the mean colour."""
    count = max(1, round(COVERED * heat.size))
    hottest = np.unravel_index(np.argsort(-heat, axis=None, kind="stable")[:count], heat.shape)
    out = seen.copy()
    out[hottest] = np.round(seen.mean(axis=(0, 1))).astype(np.uint8)
    return out


def _words(
    said: Prediction, label: str, method: str, agreement: float | None, heat: NDArray[np.float32], covered: float
) -> tuple[str, ...]:
    probability = said.probabilities[label]
    named = said.label or "none of the labels"
    first = f"Predicted {named}, {shown(said.probability)}."
    if said.verdict == "unlike":
        first = "Out-of-distribution (unlike the training images); the nearest class is "
        first += f"{named}, {shown(said.probability)}."
    if label != said.label:
        first += f" Explained: {label}, {shown(probability)}."
    if not heat.any():
        return first, f"No region of the image supports {label}."
    words = [first, f"With the hottest tenth of the image covered, the probability of {label} "]
    if shown(covered) == shown(probability):
        words[1] += f"stays at {shown(probability)}."
    else:
        words[1] += f"{'falls' if covered < probability else 'rises'} to {shown(covered)}."
    ranked = np.sort(heat, axis=None)[::-1].cumsum()
    area = (int(np.searchsorted(ranked, ranked[-1] / 2)) + 1) / heat.size
    words.append(f"Half of the heat lies on {percent(area, 0)} of the image.")
    if method == "occlusion":
        words.append("The exported network has no class activation map: the heat map is by occlusion.")
    elif agreement is None:
        words.append("Class activation and occlusion cannot be compared: one of the two is constant.")
    elif agreement >= AGREE:
        words.append(f"Class activation and occlusion agree (rank correlation {agreement:.2f}).")
    elif agreement >= AGREE_IN_PART:
        words.append(f"Class activation and occlusion agree in part (rank correlation {agreement:.2f}).")
    else:
        words.append(f"Class activation and occlusion disagree (rank correlation {agreement:.2f}): trust occlusion.")
    return tuple(words)


def _panels(
    maker: HeatMaker, seen: NDArray[np.uint8], said: Prediction, chosen: int, losses: NDArray[np.float32]
) -> list[tuple[str, NDArray[np.uint8]]]:
    """The image, the heat of the explained class, its occlusion, then the heat of other likely classes."""
    classes = maker.predictor.task.classes
    panels = [("as the network sees it", seen)]
    likely = [name for place, (name, value) in enumerate(said.top(TOP)) if place < 2 or value >= LEAST_SHOWN]
    own = [chosen, *(number for number in map(classes.index, likely) if number != chosen)]
    occluded = (f"{shortened(classes[chosen])}, by occlusion", overlay(seen, normalised(losses, losses.shape)))
    if maker.method == "occlusion":
        panels.append(occluded)
    else:
        found = maker.heat(np.repeat(seen[None], len(own), axis=0), np.array(own))
        for number, heat in zip(own, found, strict=True):
            title = f"evidence for {shortened(classes[number])}, {shown(said.probabilities[classes[number]])}"
            panels.append((title, overlay(seen, heat)))
        panels.insert(2, occluded)
    return panels


def _network_figures(run: RunFolder, seen: NDArray[np.uint8], progress: Progress) -> dict[str, Drawing]:
    """Feature maps, in several figures if there are many layers, and the first layer's filters."""
    from tellapart.explain.feature_maps import feature_maps, first_filters
    from tellapart.inference.run_network import in_keras
    from tellapart.models.backend import require_keras, start_keras

    require_plugins(run)
    require_keras("Showing them")
    progress.update(Phase.STARTING, 0, 1)
    start_keras()
    progress.update(Phase.STARTING, 1, 1)
    classifier = in_keras(run, seen[None])
    maps = feature_maps(classifier, seen, SHOWN)
    figures: dict[str, Drawing] = {}
    for start in range(0, len(maps), ROWS):
        number = f"-{start // ROWS + 1}" if len(maps) > ROWS else ""
        figures[f"feature-maps{number}"] = maps_figure(maps[start : start + ROWS])
    filters = first_filters(classifier)
    return figures if filters is None else figures | {"filters": filters_figure(filters)}


def _save(path: Path, figure: Drawing, placed: Callable[[Path], AbstractContextManager[Path]]) -> Path:
    with placed(path) as neighbour:
        neighbour.write_text(figure.svg, encoding="utf-8")
    return path
