"""A finished run -> the fastest arithmetic that keeps its labels, in a file of its own. Needs `onnx` (extra `int8`).

Candidates are float32, int8 and, in OpenVINO, bfloat16. One half of the validation images gives the ranges of int8, the
temperature and the thresholds; the other takes no part in that, and tells what the arithmetic costs. The test split
takes no part at all.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ConfigError, ExportError, RunError, TellapartError, require_extra
from tellapart.evaluation.calibration import fit_temperature
from tellapart.evaluation.selective_prediction import choose_thresholds
from tellapart.files import to_json
from tellapart.inference.fast import FLOAT32, INT8
from tellapart.inference.predictor import BATCH, BFLOAT16, METADATA_KEY, Predictor, require_numbers
from tellapart.inference.run_images import Held, images_of
from tellapart.models import quantize
from tellapart.models.openvino_runtime import has_bfloat16
from tellapart.models.runtime import processor
from tellapart.parallel import cores, in_order
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.run import RunFolder
from tellapart.task import require_one_label
from tellapart.words import percent

if TYPE_CHECKING:
    import onnx

KEPT = 0.998
"""Share of the validation images whose label must stay the same, of all and of the half that chose nothing, unless the
user asks for another."""
LEAST_KEPT = 0.9
FEWEST = 20
"""Validation images: with fewer, nothing can be said."""
MOST, MOST_BYTES = 1000, 300_000_000
"""Validation images that are looked at."""
RANGES = 200
"""Images that the ranges of int8 are from."""
ROUNDS = 5
TIMED = 64
"""Images of a round."""
GAIN = 0.95
"""Share of the time of float32 that a candidate must stay below: less is not worth another file."""
_LEAST = 1e-12


@dataclass(frozen=True)
class Trial:
    """An arithmetic that was tried. milliseconds: of processor time an image, for the network alone. kept, kept_rest:
    images with the same label as in float32, of all and of the rest. right, sure: of the rest, how many are labelled
    rightly, and sure. temperature: what its logits are divided by beyond that of the run. refused: why it was not
    taken, if so."""

    arithmetic: str
    milliseconds: float
    kept: int
    kept_rest: int
    right: int
    sure: int
    temperature: float = 1.0
    refused: str = ""


@dataclass(frozen=True)
class Optimized:
    """arithmetic: chosen, `float32` if nothing else was faster and kept the labels. images: of the validation split;
    rest: those of them that chose nothing. processor: on which it was measured."""

    arithmetic: str
    images: int
    rest: int
    trials: tuple[Trial, ...]
    processor: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def speed(self) -> float:
        """How many times as fast as float32."""
        times = {trial.arithmetic: trial.milliseconds for trial in self.trials}
        return times[FLOAT32] / times[self.arithmetic]


@dataclass(frozen=True)
class _Said:
    """Of each image: probabilities (n, classes) and distance (n,)."""

    probabilities: NDArray[np.float64]
    distance: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.intp]:
        return np.asarray(self.probabilities.argmax(axis=1))


def optimize_run(run: RunFolder, *, keep: float = KEPT, progress: Progress = SILENT) -> Optimized:
    """Try, choose and write: see api.runs.optimize."""
    require_extra("tellapart optimize", "int8", "onnx")
    if not LEAST_KEPT <= keep <= 1:
        raise ConfigError(f"The share of labels to keep is {LEAST_KEPT:g} to 1; given {keep:g}.")
    require_one_label(run.task.several, "optimize", "tellapart export RUN --quantize int8 writes a smaller file.")
    if run.status != "done":
        raise RunError(f"{run.path} is not finished. Finish it with: tellapart train --resume {run.path}")
    held = _validation(run)
    fitting = _halves(held.labels)
    exact = Predictor(run.require(run.onnx_file, "exported network"), device="cpu")
    before = _said(exact, held.images)
    made: dict[str, Predictor] = {FLOAT32: exact}
    with tempfile.TemporaryDirectory() as temporary:
        names = [INT8, *([BFLOAT16] if has_bfloat16() else [])]
        for number, arithmetic in enumerate(names):
            progress.update(Phase.EXPORTING, number, len(names) + 1)
            made[arithmetic] = _write(arithmetic, exact, held, fitting, Path(temporary))
        progress.update(Phase.EXPORTING, len(names), len(names) + 1)
        times = _times(made, held.images)
        rest = ~fitting
        trials = []
        for predictor in made.values():
            said = before if predictor is exact else _said(predictor, held.images)
            trials.append(_trial(predictor, exact, times, (said, before), (held.labels, rest), keep))
        best = min((trial for trial in trials if not trial.refused), key=lambda trial: trial.milliseconds)
        found = Optimized(best.arithmetic, len(held.labels), int(rest.sum()), tuple(trials), processor())
        _keep(run, found, made[best.arithmetic].path)
    progress.update(Phase.EXPORTING, len(names) + 1, len(names) + 1)
    return found


def undo_optimize(run: RunFolder) -> Optimized | None:
    """Predict as trained again. Returns None, as nothing is optimized then."""
    run.update(fast=None)
    run.remove([run.fast_file])
    return None


def _keep(run: RunFolder, found: Optimized, file: Path) -> None:
    # A record never names a file that is not there.
    undo_optimize(run)
    if found.arithmetic != FLOAT32:
        with run.replacing(run.fast_file) as neighbour:
            neighbour.write_bytes(file.read_bytes())
    run.update(fast=found.to_dict())


def _validation(run: RunFolder) -> Held:
    count = len(run.catalog.split("validation"))
    if count < FEWEST:
        raise ExportError(f"{run.path} has {count} validation images; at least {FEWEST} tell whether labels are kept.")
    most = max(FEWEST, min(MOST, MOST_BYTES // prod(run.spec.shape)))
    try:
        return images_of(run, "validation", most)
    except (TellapartError, OSError) as error:
        raise ExportError(
            f"The arithmetic is chosen on the run's validation images, and one cannot be read: {error}. "
            f"Restore them at {run.catalog.root}."
        ) from None


def _halves(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image is of the half that chooses: every second of its class."""
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[::2]] = True
    return chosen


def _write(arithmetic: str, exact: Predictor, held: Held, fitting: NDArray[np.bool_], folder: Path) -> Predictor:
    """A file in the arithmetic, calibrated, with thresholds of its own."""
    import onnx

    graph, path = onnx.load(str(exact.path)), folder / f"{arithmetic}.onnx"
    metadata = quantize.entries(graph)
    if arithmetic == INT8:
        some = np.flatnonzero(fitting)
        quantize.int8(graph, held.images[some[:: -(-len(some) // RANGES)]], path)
        graph = onnx.load(str(path))
        # Nodes that the file could add to itself name values that are other ones now.
        metadata = {METADATA_KEY: metadata[METADATA_KEY]}
    open_it = partial(_opened, arithmetic, path)
    images, labels = held.images[fitting], held.labels[fitting]
    first = _said(open_it(graph, metadata), images)
    temperature = fit_temperature(np.log(np.maximum(first.probabilities, _LEAST)), labels)
    graph = quantize.cooled(graph, temperature)
    about = replace(exact.metadata, temperature=exact.metadata.temperature * temperature)
    if about.thresholds is not None:
        said = _said(open_it(graph, metadata), images)
        distance = None if np.isnan(said.distance).any() else said.distance
        found = choose_thresholds(labels, said.probabilities, distance, about.thresholds.target)
        about = replace(about, thresholds=found)
    return open_it(graph, {**metadata, METADATA_KEY: to_json(about.to_dict())})


def _opened(arithmetic: str, path: Path, graph: onnx.ModelProto, metadata: dict[str, str]) -> Predictor:
    import onnx

    quantize.put_entries(graph, metadata)
    onnx.save(graph, str(path))
    return Predictor(path, device="cpu", arithmetic=arithmetic)


def _said(predictor: Predictor, images: NDArray[np.uint8]) -> _Said:
    """Raises NoNumberError where there is no number."""
    parts = [predictor.answer(images[start : start + BATCH["cpu"]]) for start in range(0, len(images), BATCH["cpu"])]
    probabilities, distance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Said(require_numbers(probabilities), distance)


def _times(made: dict[str, Predictor], images: NDArray[np.uint8]) -> dict[str, float]:
    """Milliseconds of processor time an image, by turns, as `predict` works: each core with images of its own."""
    some = images[np.arange(TIMED) % len(images)]
    groups = [some[start : start + BATCH["cpu"]] for start in range(0, TIMED, BATCH["cpu"])]
    engines = {name: predictor.alone() for name, predictor in made.items()}
    rounds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS + 1):  # the first warms up
        for name, engine in engines.items():
            rounds[name].append(_spent(engine, groups))
    return {name: statistics.median(spent[1:]) for name, spent in rounds.items()}


def _spent(engine: Callable[[NDArray[np.uint8]], object], groups: list[NDArray[np.uint8]]) -> float:
    before = time.process_time()
    for _ in in_order(engine, groups, ahead=2 * cores()):
        pass
    return 1000 * (time.process_time() - before) / TIMED


def _trial(
    predictor: Predictor,
    exact: Predictor,
    times: dict[str, float],
    pair: tuple[_Said, _Said],
    truth: tuple[NDArray[np.int64], NDArray[np.bool_]],
    keep: float,
) -> Trial:
    """pair: what it said, and what float32 said. truth: labels (n,), and which images chose nothing (n,)."""
    (said, before), (labels, rest), arithmetic = pair, truth, predictor.arithmetic
    kept, right = said.labels == before.labels, said.labels == labels
    thresholds = predictor.metadata.thresholds
    sure = 0
    if thresholds is not None:
        pairs = zip(said.probabilities[rest].max(axis=1), said.distance[rest], strict=True)
        sure = sum(thresholds.verdict(float(best), float(far)) == "sure" for best, far in pairs)
    refused = ""
    if min(kept.mean(), kept[rest].mean()) < keep:
        refused = f"fewer labels kept than {percent(keep, None)}"
    elif predictor is not exact and times[arithmetic] > GAIN * times[FLOAT32]:
        refused = "not faster on this processor"
    temperature = predictor.metadata.temperature / exact.metadata.temperature
    return Trial(
        arithmetic, times[arithmetic], int(kept.sum()), int(kept[rest].sum()), int(right[rest].sum()), sure,
        temperature, refused,
    )  # fmt: skip
