"""Catalog + Config -> Run: prepare, build, fit, keep the best, save, verify, evaluate. The story in order.

A network without pretrained weights is trained in epochs. On a pretrained backbone, first the head is fitted on
features that are computed once; then, on request, the top of the backbone is fine-tuned. A linear head on a backbone
that ships as a graph needs no Keras; everything else needs the extra `train`.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.batches import Images
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.checks import IMBALANCE
from tellapart.data.sources import open_row
from tellapart.errors import RunError, TellapartError, TrainingError
from tellapart.models.backend import has_keras
from tellapart.models.compute import inferring
from tellapart.models.devices import ONE, Devices
from tellapart.models.feature_engine import bundled_engine
from tellapart.models.keras_file import own_classes
from tellapart.models.keras_needs import require_what_trains
from tellapart.models.linear import LinearClassifier
from tellapart.models.own import is_own
from tellapart.models.registry import resolve
from tellapart.parallel import cores
from tellapart.progress import SILENT, Progress
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.run import RunFolder
from tellapart.training.calibrate import calibrated_losses
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.epochs import Watch, go_on
from tellapart.training.finalize import finish, require_exportable
from tellapart.training.fitting import Fitted, Fitting, batches_of_images, epochs_of
from tellapart.training.frozen import fit_on_backbone
from tellapart.training.interruption import CtrlC, TimeUp
from tellapart.training.memory import memory_told
from tellapart.training.plan import plan_of
from tellapart.training.sharded import FeatureSource

TIMED_IMAGES = 32
TOLD_WEIGHTS = 5
"""How many of the smallest and of the largest class weights are shown; more would be unreadable."""


def fit(
    run: RunFolder,
    cache: PixelCache,
    *,
    deadline: float | None = None,
    progress: Progress = SILENT,
    watch: Watch = go_on,
    source: FeatureSource | None = None,
) -> None:
    """Train a created or interrupted run to its end: afterwards it holds model.onnx, metrics.json, and
    model.keras if Keras trained it.

    Ctrl-C ends it cleanly with the best epoch so far, and so does the deadline, on the clock of time.monotonic. source:
    of the features of a frozen backbone, where they are not computed here. Raises
    TrainingError if it cannot start, the loss is not a number, memory runs out, or time runs out in the first epoch;
    ModelError for weights that are not available, ImageError for an image that was changed or removed.
    """
    with memory_told(run), _timed(run):
        finish(*_fitted(run, cache, _Given(("train", "validation", "test"), deadline, progress, watch, source)))


def fit_together(
    run: RunFolder,
    cache: PixelCache,
    devices: Devices,
    *,
    deadline: float | None = None,
    progress: Progress = SILENT,
    watch: Watch = go_on,
) -> None:
    """Like `fit`, of a network trained from scratch or fine-tuned, on several devices. Of several processes, the
    first one calls this, and the others call `take_part`."""
    with memory_told(run), _timed(run):
        given = _Given(("train", "validation", "test"), deadline, progress, watch, devices=devices)
        finish(*_fitted(run, cache, given))


def take_part(run: RunFolder, cache: PixelCache, devices: Devices) -> None:
    """Train with the other processes until they have the last epoch; what is learned is theirs to keep. run: a copy of
    theirs, in a folder of this process. Raises as `fit` does, and KeyboardInterrupt where it was stopped."""
    with memory_told(run):
        _fitted(run, cache, _Given(("train", "validation"), None, SILENT, go_on, devices=devices))


def learn(
    run: RunFolder,
    cache: PixelCache,
    *,
    deadline: float | None = None,
    progress: Progress = SILENT,
    watch: Watch = go_on,
) -> Learned:
    """Like `fit`, without its end: nothing is calibrated, exported or evaluated; no test image is used.

    The run is then interrupted, with the reason in `stopped`; `fit` resumes it.
    """
    with memory_told(run), _timed(run):
        state, fitted = _fitted(run, cache, _Given(("train", "validation"), deadline, progress, watch))
    run.update(status="interrupted", **fitted.stop.to_dict())
    return Learned(state, fitted)


@dataclass(frozen=True)
class Learned:
    """A network that was trained and is not finished yet."""

    state: Fitting
    fitted: Fitted

    @property
    def best(self) -> HistoryRow:
        """The row of history of its weights."""
        return self.fitted.best

    def validation_losses(self) -> NDArray[np.float64]:
        """(n,) log loss of each validation image, with calibrated probabilities."""
        state, fitted = self.state, self.fitted
        held = state.images["validation"] if fitted.examples is None else fitted.examples["validation"]
        classifier = fitted.classifier.as_predicted(mirrored=state.config.model.mirrored)
        return calibrated_losses(classifier, held, state.labels["validation"])

    def seconds_per_image(self) -> float:
        """Measured: the time of one image on its way up through the network, in the precision of training; without
        Keras, which every other step of the time needs, in that of the graph."""
        if isinstance(self.fitted.classifier, LinearClassifier) and not has_keras():
            return self._graph_seconds(self.fitted.classifier)
        network = self.state.build(self.state.config.train.precision).network
        infer, held = inferring(network), self.state.images["validation"]
        images = held.take(np.arange(min(TIMED_IMAGES, len(held))))
        infer(images)  # traced
        started = time.perf_counter()
        infer(images)
        return (time.perf_counter() - started) / len(images)

    def _graph_seconds(self, classifier: LinearClassifier) -> float:
        engine, held = bundled_engine(classifier.pretrained.name, classifier.features), self.state.images["validation"]
        images = held.take(np.arange(min(engine.batch, len(held))))
        engine.compute(images)
        started = time.perf_counter()
        engine.compute(images)
        return (time.perf_counter() - started) / len(images) / cores()


@contextmanager
def _timed(run: RunFolder) -> Iterator[None]:
    """Add the elapsed seconds to those of earlier calls in run.json."""
    started, earlier = time.monotonic(), run.record.seconds
    yield
    run.update(seconds=round(earlier + time.monotonic() - started, 1))


@dataclass(frozen=True)
class _Given:
    """As `fit` has them, and the splits whose images are used."""

    splits: tuple[Split, ...]
    deadline: float | None
    progress: Progress
    watch: Watch
    source: FeatureSource | None = None
    devices: Devices = ONE


def _fitted(run: RunFolder, cache: PixelCache, given: _Given) -> tuple[Fitting, Fitted]:
    """Everything except the end, with the images of these splits."""
    if run.status == "done":
        raise RunError(f"{run.path} is done: there is nothing to resume. Train again with another --out.")
    try:
        state = _prepare(run, cache, given)
        pretrained = resolve(state.config.model)[0].pretrained
        with state.ctrl_c:
            fitted = _from_nothing(state) if pretrained is None else fit_on_backbone(state, pretrained)
    except TellapartError as error:
        run.update(status="failed", error=str(error))
        raise
    except KeyboardInterrupt as stop:
        run.update(status="interrupted", error=f"stopped before the first epoch ended: {str(stop) or 'Ctrl-C'}")
        if isinstance(stop, TimeUp):
            raise TrainingError(
                f"The time was up before the first epoch of {run.path} ended. Resume with more time: "
                f"tellapart train --resume {shlex.quote(str(run.path))}"
            ) from None
        given.progress.line(f"Stopped. Resume with: tellapart train --resume {shlex.quote(str(run.path))}")
        raise
    return state, fitted


def _prepare(run: RunFolder, cache: PixelCache, given: _Given) -> Fitting:
    """Everything that the phases share; decisions on the way are recorded in run.json."""
    plan, catalog = plan_of(run), run.catalog
    require_what_trains(plan.config)
    given.devices.require_divides(plan.config.train)
    config, spec, precision = plan.config, plan.spec, plan.config.train.precision
    weights, weighting = class_weights(catalog.split("train"), config)
    run.update(status="training", precision=precision, class_weights=weighting, error="")
    given.progress.line(
        f"{config.model.name}: images {spec.height}x{spec.width}, {precision}; class weights: {weighting}"
    )
    if cache.problem:
        given.progress.line(cache.problem)
    images = {split: _images(catalog.split(split), cache, config) for split in given.splits}
    labels = {split: catalog.split(split).class_indices() for split in given.splits}
    ctrl_c = CtrlC(given.deadline, given.devices.any if given.devices.world > 1 else None)
    shared = (given.progress, ctrl_c, given.watch, given.source, given.devices)
    return Fitting(run, config, catalog, cache, images, labels, weights, *shared)


def _images(chosen: Catalog, cache: PixelCache, config: Config) -> Images:
    return Images(chosen.root, chosen.images, cache.spec, open_row=open_row, cache=cache, bounds=config.data)


def require_trainable(catalog: Catalog) -> None:
    """Raise TrainingError for images that cannot be trained on, before a run is made."""
    counts = catalog.counts()
    lacking = [label for label, count in counts["train"].items() if not count]
    if lacking:
        broken = Counter(image.label for image in catalog.images if image.error)
        lost = [f"{label} ({broken[label]:,} cannot be read)" if broken[label] else label for label in lacking]
        look = " `tellapart check` says why images cannot be read." if any(map(broken.get, lacking)) else ""
        raise TrainingError(f"No training image for {', '.join(lost)}. Add images, or remove the class.{look}")
    if not catalog.sizes()["validation"]:
        raise TrainingError(
            "The validation split has no image. Each class needs at least 3 usable images: one each to train, "
            "validate and test."
        )


def class_weights(train: Catalog, config: Config) -> tuple[NDArray[np.float32] | None, str]:
    """A weight for each class, mean 1 over the images, or None; and a description."""
    if train.task.several:
        if config.train.class_weights == "balanced":
            raise TrainingError(
                "train.class_weights=balanced weighs an image by its class, and these images have several labels. "
                "Leave it out: each label has its own threshold, chosen on the validation images."
            )
        return None, "none (several labels an image)"
    counts = np.bincount(train.class_indices(), minlength=len(train.task.classes))
    ratio = counts.max() / max(1, counts.min())
    if config.train.class_weights == "none" or (config.train.class_weights == "auto" and ratio <= IMBALANCE):
        sizes = "classes of equal size" if ratio == 1 else f"largest class {ratio:.2g} times the smallest"
        return None, f"none ({sizes})"
    weights = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
    order = np.argsort(weights, kind="stable")
    named = [f"{train.task.classes[place]} {weights[place]:.2f}" for place in order]
    if len(named) > 2 * TOLD_WEIGHTS:
        named = [*named[:TOLD_WEIGHTS], "...", *named[-TOLD_WEIGHTS:]]
    return weights, ", ".join(named)


def _from_nothing(state: Fitting) -> Fitted:
    """Train the whole network in epochs."""
    state.start()
    train, devices = state.config.train, state.devices
    checkpoint = Checkpoint(state.run, weights=devices.rank == 0)
    with devices.used():
        classifier = state.build(train.precision)
    if is_own(state.config.model.name) and devices.rank == 0:
        tried = classifier if devices.count == 1 else state.build(train.precision)
        state.run.update(own_layers=own_classes(tried.network))
        require_exportable(tried, state)
    with devices.used():
        state.progress.line(f"{classifier.network.count_params():,} parameters, all trainable")
        if devices.count > 1:
            state.note(devices.told)
        batches = batches_of_images(state, train)
        with devices.together():
            stop = epochs_of(state, train, classifier.network, batches, checkpoint).train_on()
    if devices.count > 1:
        # What follows is for one device: the same network, which no other holds.
        classifier = state.build(train.precision)
    if devices.rank == 0:
        checkpoint.restore_best(classifier.network)
    return Fitted(classifier, best_row(state.run.history, train.monitor), stop)
