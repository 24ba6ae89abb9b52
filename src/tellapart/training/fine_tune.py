"""Fine-tuning the top blocks of a backbone: from cached activations where the learning part begins, or on images.

What lies below the cut is computed once for each view of an image, so that an epoch costs the learning part alone. What
an epoch will cost is measured by `cost_of`. Needs the extra `train`.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from typing import Any

import numpy as np

from tellapart.config import AUGMENTATIONS, TrainConfig
from tellapart.data.batches import Batches, labels_of
from tellapart.data.cache import ArrayCache
from tellapart.models.classifier import Classifier
from tellapart.models.compute import feeders, stepping, to_device
from tellapart.models.cut import Cut, cut_of
from tellapart.models.feature_engine import FeatureEngine, choose_engine
from tellapart.models.pretrained_weights import weights_digest
from tellapart.parallel import cores, in_order
from tellapart.progress import Phase
from tellapart.runs.history import best_row, is_better
from tellapart.runs.record import Stop, StopReason
from tellapart.training.averaging import Line
from tellapart.training.calibrate import calibrated_losses, calibrated_probabilities
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.epochs import Epochs, compile_model
from tellapart.training.features import CachedViews, ViewBatches, Views, backbone_key, feature_cache, keep
from tellapart.training.fitting import Fitted, Fitting, batches_of_images
from tellapart.training.head import judge
from tellapart.training.interruption import TimeUp

COMPARED_IMAGES = 8
TIMED_STEPS = 3


@dataclass(frozen=True)
class Cost:
    """Seconds that fine-tuning takes. once: before the first epoch: networks, compilation and the activations that the
    cache lacks. epoch: each epoch, with its validation. cached: whether it learns from activations."""

    once: float
    epoch: float
    cached: bool

    def epochs_in(self, seconds: float) -> int:
        """Whole epochs that end within so many seconds from now.

        >>> Cost(once=20, epoch=8, cached=True).epochs_in(60)
        5
        """
        return max(0, int((seconds - self.once) / self.epoch))


def fine_tune(state: Fitting, before: Fitted, train: TrainConfig | None = None) -> Fitted:
    """Fine-tune the top `train.fine_tune` blocks from what was fitted before; kept only if on the validation split
    `train.monitor` gained and accuracy is not lower by more than its standard error.

    train: the settings; None: those of the run's configuration. Ctrl-C and the end of the time end it with the best
    epoch so far, or with `before`; the checkpoint is there to go on from.
    """
    train = train or state.config.train
    if before.stop.reason.goes_on:
        return before
    earlier = tuple(row for row in state.run.history if row.phase == "head")
    fitted = before.classifier.in_keras()
    checkpoint = Checkpoint(state.run, "fine-tune")
    with ExitStack() as opened:
        opened.enter_context(state.devices.used())
        learner = _Learner.of(state, fitted, train)
        try:
            model, batches = learner.model_and_batches(opened)
        except KeyboardInterrupt as stop:
            return replace(before, stop=_stopped(stop))
        _compile(state, learner, model, batches, train)
        reached = Epochs(
            state.run,
            train.model_copy(update={"learning_rate": train.fine_tune_learning_rate}),
            model,
            *batches,
            state.class_weights,
            checkpoint,
            state.progress,
            state.ctrl_c,
            state.watch,
            earlier,
            learner.classifier.network,
            state.devices,
        ).go()
    rows = state.run.history[len(earlier) :]
    best = best_row(rows, train.monitor) if rows else before.best
    gained = is_better(best.figure(train.monitor), before.best.figure(train.monitor), train.monitor)
    right = before.best.val_accuracy
    noise = sqrt(right * (1 - right) / len(state.images["validation"]))
    gained = gained and best.val_accuracy >= right - noise
    found = Fitted(learner.alone(), best, reached) if gained else replace(before, stop=reached)
    return learner.averaged(found, gained, checkpoint) if train.fine_tune_average and rows else found


def cost_of(state: Fitting, before: Fitted, train: TrainConfig | None = None) -> Cost:
    """What `fine_tune` with the same arguments would cost, from a few steps that are timed; nothing is learned or kept.

    It takes the time of building and compiling the networks and of a few steps, which `once` counts again. Raises
    KeyboardInterrupt as state.told does.
    """
    train = train or state.config.train
    started = time.perf_counter()
    learner = _Learner.of(state, before.classifier.in_keras(), train)
    with ExitStack() as opened:
        engine, _, lacking = learner.engine_and_cache(opened) if learner.cached else (None, None, 0)
        model = learner.cut.above() if learner.cached else learner.classifier.network
        batches = batches_of_images(state, train)
        _compile(state, learner, model, batches, train)
        epoch = sum(
            _pass_seconds(learner, model, part, learn) for part, learn in zip(batches, (True, False), strict=True)
        )
        once = time.perf_counter() - started
        if engine is not None and lacking:
            once += lacking * _engine_seconds(engine, state)
    return Cost(once, epoch, learner.cached)


def _pass_seconds(learner: _Learner, model: Any, batches: Batches, learn: bool) -> float:
    """Of one pass over the batches, from a few steps. What makes the batches works beside the steps."""
    making = time.perf_counter()
    inputs, labels = batches.batch(0)
    made = (time.perf_counter() - making) / feeders()
    if learner.cached:
        inputs, made = np.zeros((len(inputs), learner.cut.width), np.float16), 0.0
    each = []
    with stepping(model, learn=learn) as step:
        given = to_device((inputs, labels, None))
        for _ in range(TIMED_STEPS + 1):
            learner.state.ctrl_c.check()
            started = time.perf_counter()
            float(step(given)["loss"])
            each.append(time.perf_counter() - started)
    # The first one compiles.
    return max(statistics.median(each[1:]), made) * len(batches)


def _engine_seconds(engine: FeatureEngine, state: Fitting) -> float:
    """For an image, where every core computes."""
    images = state.images["train"].take(np.arange(min(COMPARED_IMAGES, len(state.images["train"]))))
    pieces = [images[place : place + engine.batch] for place in range(0, len(images), engine.batch)]
    engine.compute(pieces[0])
    started = time.perf_counter()
    for _ in in_order(engine.compute, pieces, workers=cores() if engine.many else 1, ahead=len(pieces)):
        state.ctrl_c.check()
    return (time.perf_counter() - started) / len(images)


@dataclass(frozen=True, eq=False)
class _Learner:
    """classifier: the one that learns, in the precision of `train`, with the weights of `fitted`, which stays as it is
    and whose lower part, in float32, computes the activations. cut: in the one that learns."""

    state: Fitting
    fitted: Classifier
    classifier: Classifier
    cut: Cut
    train: TrainConfig

    @classmethod
    def of(cls, state: Fitting, fitted: Classifier, train: TrainConfig) -> _Learner:
        classifier = state.build(train.precision)
        classifier.network.set_weights(fitted.network.get_weights())
        classifier.backbone.unfreeze(train.fine_tune)
        return cls(state, fitted, classifier, cut_of(classifier, train.fine_tune), train)

    @property
    def cached(self) -> bool:
        """Whether it learns from activations: where they are asked for, no larger than the images themselves, and
        within the limit of the cache."""
        return self.train.fine_tune_on == "activations" and not self.too_large

    @property
    def too_large(self) -> str:
        size = self.cut.width * np.dtype(np.float16).itemsize
        images = self.state.images
        count = self.views.count * len(images["train"]) + len(images["validation"])
        if not size or size > np.prod(self.state.cache.spec.shape):
            return "they would be larger than the images"
        if size * count > self.state.cache.limit_bytes:
            return "they would not fit within the limit of the cache"
        return ""

    @property
    def views(self) -> Views:
        config = self.state.config
        return Views(self.train.views or 1, config.augment or AUGMENTATIONS["none"], config.seed)

    def pace(self, variable: Any) -> float:
        """The factor on the learning rate: 1 for the head and the top block, less from block to block below."""
        for below, block in enumerate(reversed(self.classifier.backbone.blocks)):
            if any(variable is own for layer in block for own in layer.weights):
                return float(self.train.fine_tune_layer_decay**below)
        return 1.0

    def averaged(self, found: Fitted, gained: bool, checkpoint: Checkpoint) -> Fitted:
        """With weights between those before and after, where the validation images prefer them; else `found`, which has
        those after if they `gained`. The checkpoint keeps what was chosen, so that it is chosen once."""
        state, network, usual = self.state, self.classifier.network, 100 if gained else 0
        if found.stop.reason.goes_on:
            return found
        held, labels = state.images["validation"], state.labels["validation"]
        line = Line(self.fitted.network.get_weights(), network.get_weights(), network.set_weights)
        share = checkpoint.state.get("share")
        if share is None:
            share, gain = line.best(usual, lambda: calibrated_losses(self.classifier, held, labels), state.ctrl_c)
            checkpoint.add(share=share)
            if share != usual:
                state.note(
                    f"weights averaged: {share} % of the way from those before fine-tuning to those after it, by which "
                    f"the validation loss is {gain:.3g} lower"
                )
        if share == usual:
            line.go_to(100)
            return found
        line.go_to(share)
        judged = judge(calibrated_probabilities(self.classifier, held, labels), labels)
        accuracy, loss = float(judged["accuracy"].mean()), float(judged["loss"].mean())
        best = replace(found.best, val_accuracy=accuracy, val_loss=loss)
        return Fitted(self.classifier, best, found.stop)

    def model_and_batches(self, opened: ExitStack) -> tuple[Any, tuple[Batches, Batches]]:
        """What learns, and its training and validation batches. opened: closes the cache. Raises KeyboardInterrupt."""
        state, train = self.state, self.train
        way = "on images"
        if self.cached:
            batches = self._cached_batches(opened)
            if batches:
                self._tell("from cached activations")
                return self.cut.above(), batches
            way = "on images, as the cache has no room for activations, or they are too large for float16"
        elif train.fine_tune_on == "activations":
            way = f"on images, as activations are not kept: {self.too_large}"
        self._tell(way)
        return self.classifier.network, batches_of_images(state, train)

    def alone(self) -> Classifier:
        """What learned, held by one device, as all that follows needs it."""
        if self.state.devices.count == 1:
            return self.classifier
        self.state.note(self.state.devices.told)
        found = self.state.build(self.train.precision)
        found.network.set_weights(self.classifier.network.get_weights())
        return found

    def _tell(self, way: str) -> None:
        free = len(self.classifier.backbone.learning(self.train.fine_tune))
        self.state.progress.line(
            f"fine-tuning {self.train.fine_tune} blocks {way}: {free} trainable layers, batch normalisation frozen"
        )

    def engine_and_cache(self, opened: ExitStack) -> tuple[FeatureEngine, ArrayCache, int]:
        """What computes activations, where they are kept, and how many are lacking there."""
        state, backbone = self.state, self.fitted.backbone
        taken = self.fitted.features.declared
        cut = cut_of(self.fitted, self.train.fine_tune)
        words = f"{self.train.fine_tune} {taken.key} {cut.widths}"
        which = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
        key = f"cut-{which}-{backbone_key(backbone.name, weights_digest(backbone), state.cache.spec, taken)}"
        some = state.images["train"]
        compared = np.arange(min(COMPARED_IMAGES, len(some)))
        names = [f"cut_{number}" for number in range(len(cut.tensors))]
        engine = choose_engine(cut.below(), names, key, lambda: some.take(compared), state.progress)
        cache = opened.enter_context(feature_cache(key, engine.width, state.cache.limit_bytes))
        lacking = 0
        for images, views in self._splits():
            keys = [views.key(digest, view) for view in range(views.count) for digest in images.digests]
            lacking += len(cache.missing(keys))
        return engine, cache, lacking

    def _splits(self) -> list[tuple[Any, Views]]:
        return [(self.state.images["train"], self.views), (self.state.images["validation"], Views())]

    def _cached_batches(self, opened: ExitStack) -> tuple[Batches, Batches] | None:
        """Of activations; None where the cache has no room for them, or they are too large for float16."""
        state, train, task = self.state, self.train, self.state.catalog.task
        engine, cache, _ = self.engine_and_cache(opened)
        rows = []
        for split, (images, views) in zip(("train", "validation"), self._splits(), strict=True):
            stage = Phase.FEATURES.named(f"activations, {split}")
            if not keep(engine, images, cache, views, partial(state.told, stage)):
                return None
            rows.append(CachedViews(engine, images, cache, views))
            if not np.isfinite(rows[-1].take(np.arange(min(COMPARED_IMAGES, len(images))))).all():
                return None
        training = ViewBatches(
            rows[0],
            labels_of(task, state.labels["train"]),
            train.batch_size,
            shuffle=True,
            seed=state.config.seed,
            steps=train.steps_per_epoch,
            views=self.views.count,
        )
        plain = batches_of_images(state, train)[1]
        return training, replace(plain, images=rows[1])


def _compile(
    state: Fitting, learner: _Learner, model: Any, batches: tuple[Batches, Batches], train: TrainConfig
) -> None:
    settings = train.model_copy(update={"learning_rate": train.fine_tune_learning_rate})
    pace = learner.pace if train.fine_tune_layer_decay < 1 else None
    compile_model(model, state.catalog.task, settings, len(batches[0]), pace)


def _stopped(stop: KeyboardInterrupt) -> Stop:
    reason = StopReason.TIME_UP if isinstance(stop, TimeUp) else StopReason.INTERRUPTED
    return Stop(reason, "interrupted before the first epoch of fine-tuning" + (f": {stop}" if str(stop) else ""))
