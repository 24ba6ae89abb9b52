"""The head over the features of a frozen backbone; then, where it is wished, the top of the backbone as well.

In: Fitting, whose configuration names a row of models.pretrained. Out: Fitted. Needs the extra `train`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from tellapart.config import AUGMENTATIONS
from tellapart.data.batches import Batches, labels_of
from tellapart.data.catalog import Split
from tellapart.data.duplicates import groups_of
from tellapart.models.backend import has_gpu, start_keras
from tellapart.models.classifier import Classifier
from tellapart.models.pretrained import PretrainedBackbone
from tellapart.models.pretrained_weights import BUNDLED_DIGESTS, bundled_graph, load_pretrained, weights_digest
from tellapart.progress import Phase
from tellapart.runs.history import HistoryRow, best_row, is_better
from tellapart.runs.record import Stop, StopReason
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.features import (
    CachedFeatures,
    FeatureEngine,
    Views,
    backbone_key,
    bundled_engine,
    choose_engine,
    extract,
    feature_cache,
)
from tellapart.training.fitting import Fitted, Fitting, epochs_of, epochs_on_images
from tellapart.training.head import REPEATS, Examples, fit_linear, fold_count, repeated_folds
from tellapart.words import measured

FEATURES_AT_ONCE = 1024
COMPARED_IMAGES = 8
FEW = 200
"""Test images: with fewer of them their interval is wide, and folds over the others tell more."""
MOST_FOLDED = 500
"""Training and validation images: with more of them, twenty heads take more time than they tell."""


def fit_on_backbone(state: Fitting, pretrained: PretrainedBackbone) -> Fitted:
    """The weights of the backbone, its features, the head, and the top of the backbone where that is wished."""
    config = state.config
    engine = _bundled(state, pretrained)
    early = _beside_keras(state, pretrained, engine) if engine is not None and not config.train.fine_tune else None
    state.start()
    classifier = state.build("float32")
    loaded = load_pretrained(classifier.backbone, pretrained, config.model.weights)
    classifier.backbone.unfreeze(config.train.fine_tune)  # more blocks than there are is told now, not after the head
    classifier.backbone.freeze()
    state.progress.line(f"{classifier.network.count_params():,} parameters; {loaded}")
    state.note(f"the backbone has {loaded}")
    examples = early or _with_keras(state, classifier, engine)
    best, stop = _fit_head(state, classifier, examples)
    fitted = Fitted(classifier, best, stop, examples)
    return _fine_tune(state, fitted) if config.train.fine_tune else fitted


def _bundled(state: Fitting, pretrained: PretrainedBackbone) -> FeatureEngine | None:
    """What computes the features without Keras, where the backbone ships as a graph."""
    ours = state.config.model.weights in ("auto", "imagenet")
    return (
        bundled_engine(pretrained.name) if ours and bundled_graph(pretrained.name).exists() and not has_gpu() else None
    )


def _beside_keras(state: Fitting, pretrained: PretrainedBackbone, engine: FeatureEngine) -> dict[Split, Examples]:
    """The features, while Keras starts, which takes one core as long as they take two."""
    with ThreadPoolExecutor(1) as beside:
        started = beside.submit(start_keras)
        examples = _examples(
            state, backbone_key(pretrained.name, BUNDLED_DIGESTS[pretrained.name], state.cache.spec), engine
        )
        started.result()
    return examples


def _with_keras(state: Fitting, classifier: Classifier, engine: FeatureEngine | None) -> dict[Split, Examples]:
    """The features; without an engine, by the fastest that gives what Keras gives."""
    backbone, some = classifier.backbone, state.images["train"]
    compared = np.arange(min(COMPARED_IMAGES, len(some)))
    taken = classifier.features.declared
    key = backbone_key(backbone.name, weights_digest(backbone), state.cache.spec, taken)
    engine = engine or choose_engine(classifier, key, lambda: some.take(compared), state.progress)
    return _examples(state, key, engine)


def _examples(state: Fitting, key: str, engine: FeatureEngine) -> dict[Split, Examples]:
    """The features of each split; of the training images in every view."""
    config = state.config
    augmented = Views(config.train.views or 1, config.augment or AUGMENTATIONS["none"], config.seed)
    examples: dict[Split, Examples] = {}
    with feature_cache(key, engine.width, state.cache.limit_bytes) as cache:
        for split, images in state.images.items():
            digests = [image.digest for image in state.catalog.split(split).images]
            views, stage = augmented if split == "train" else Views(), Phase.FEATURES.named(f"features, {split}")
            found = extract(engine, images, digests, cache, views, partial(state.told, stage))
            examples[split] = Examples(found, np.tile(state.labels[split], views.count))
    return examples


def _fit_head(state: Fitting, classifier: Classifier, examples: dict[Split, Examples]) -> tuple[HistoryRow, Stop]:
    """A linear head to convergence; one with dense layers, dropout or label smoothing in epochs. The best row of
    history, and why it ended."""
    run, train, task = state.run, state.config.train, state.catalog.task
    if len(classifier.head.layers) == 1 and not train.label_smoothing:
        linear, best, rows = fit_linear(
            examples["train"], examples["validation"], state.class_weights, train, state.progress
        )
        classifier.head.set_linear(linear.kernel, linear.bias)
        # What a fine-tuning before Ctrl-C added stays: it goes on from there.
        run.write_history([*rows, *run.history[len(rows) :]])
        for row in rows:
            state.watch(row)
        _report_folds(state, examples, best.figure("regularization"))
        words = f"regularisation chosen on the validation split from {len(rows)} strengths"
        return best, Stop(StopReason.CONVERGED, words)
    training, validation = (
        Batches(
            CachedFeatures(part.features), labels_of(task, part.labels), size, shuffle=shuffle, seed=state.config.seed
        )
        for part, size, shuffle in (
            (examples["train"], train.batch_size, True),
            (examples["validation"], FEATURES_AT_ONCE, False),
        )
    )
    checkpoint = Checkpoint(run, "head")
    epochs = epochs_of(state, train, classifier.head_network(), (training, validation), checkpoint)
    stop = epochs.go()
    rows = [row for row in run.history if row.phase == "head"]
    return best_row(rows, train.monitor), stop


def _report_folds(state: Fitting, examples: dict[Split, Examples], regularization: float) -> None:
    """Where few images are left to test, what repeated folds over the others say; into run.json."""
    run, catalog = state.run, state.catalog
    splits: tuple[Split, ...] = ("train", "validation")
    rows = [image for split in splits for image in catalog.split(split).images]
    if len(catalog.split("test")) >= FEW or len(rows) > MOST_FOLDED:
        return
    parts = [(examples[split], len(catalog.split(split))) for split in splits]
    # The plain views alone, which come first.
    plain = Examples(
        np.concatenate([part.features[:count] for part, count in parts]),
        np.concatenate([part.labels[:count] for part, count in parts]),
    )
    groups = np.array(groups_of(rows, list(range(len(rows)))))
    try:
        found = repeated_folds(plain, groups, 1 / regularization, state.class_weights, state.config.seed)
    except ValueError:
        return
    note = (
        f"{REPEATS} times {fold_count(plain.labels, groups)} stratified folds over the {len(rows)} training and "
        f"validation images: accuracy {measured(found)}, 95 % interval"
    )
    run.update(folds=asdict(found) | {"n": len(rows)})
    state.note(note)


def _fine_tune(state: Fitting, frozen: Fitted) -> Fitted:
    """The top of the backbone learns too; kept only where the validation split is no worse for it."""
    run, train = state.run, state.config.train
    if frozen.stop.reason.goes_on:
        return frozen
    before = tuple(row for row in run.history if row.phase == "head")
    classifier = state.build(train.precision)
    classifier.network.set_weights(frozen.classifier.network.get_weights())
    free = classifier.backbone.unfreeze(train.fine_tune)
    state.progress.line(f"fine-tuning {train.fine_tune} blocks: {free} layers learn, batch normalisation does not")
    epochs = epochs_on_images(
        state,
        classifier.network,
        Checkpoint(run, "fine-tune"),
        before=before,
        learning_rate=train.fine_tune_learning_rate,
    )
    stop = epochs.go()
    rows = run.history[len(before) :]
    best = best_row(rows, train.monitor) if rows else frozen.best
    gained = is_better(best.figure(train.monitor), frozen.best.figure(train.monitor), train.monitor)
    if gained and best.val_accuracy >= frozen.best.val_accuracy:
        return Fitted(classifier, best, stop)
    return replace(frozen, stop=stop)
