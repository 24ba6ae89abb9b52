"""Training on a frozen backbone: the head, then optional fine-tuning of the top blocks.

In: Fitting, whose configuration names a row of models.pretrained. Out: Fitted. A linear head on a backbone that ships
as a graph needs no Keras; everything else needs the extra `train`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tellapart.config import AUGMENTATIONS, AUTO, ModelConfig
from tellapart.data.batches import Batches, labels_of
from tellapart.data.catalog import Split
from tellapart.data.duplicates import groups_of
from tellapart.errors import ModelError
from tellapart.models.backend import has_gpu, start_keras
from tellapart.models.classifier import Classifier
from tellapart.models.devices import ONE
from tellapart.models.feature_engine import FeatureEngine, bundled_engine, choose_engine, graph_file
from tellapart.models.features import FeatureSet, union
from tellapart.models.keras_needs import is_linear, needs_keras, ships_as_graph
from tellapart.models.linear import LinearClassifier, LinearHead, weight_count
from tellapart.models.pretrained import HeadOptions, PretrainedBackbone, features, offered, options_of
from tellapart.models.pretrained_weights import BUNDLED_DIGESTS, load_pretrained, of_package, weights_digest
from tellapart.models.registry import resolve
from tellapart.progress import Phase
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.record import Stop, StopReason
from tellapart.training import feature_rows
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.features import (
    CachedFeatures,
    MirroredViews,
    Views,
    backbone_key,
    extract,
    feature_cache,
    mean_of_both,
)
from tellapart.training.fine_tune import fine_tune
from tellapart.training.fitting import Fitted, Fitting, epochs_of
from tellapart.training.head import (
    REPEATS,
    STRENGTHS,
    Examples,
    HeadFit,
    fit_linear,
    fold_count,
    repeated_folds,
    simplest,
    some_of,
)
from tellapart.training.sharded import Asked
from tellapart.training.sharded_head import SAMPLED, Whole, fit_sharded
from tellapart.training.span import Reading
from tellapart.words import measured

FEATURES_AT_ONCE = 1024
COMPARED_IMAGES = 8
FEW = 200
"""Test images: with fewer, their interval is wide, and cross-validation over the others is more precise."""
SHORTENED = 0.5
"""Of the long axes of the features, tried for the set of features that was chosen."""
FEW_TO_CHOOSE = 100
"""Validation images: with fewer, the training images help them to choose, by folds."""
MOST_FOLDED = 500
"""Images, in all views: with more, fitting a head for each fold is not worth the time."""


def fit_on_backbone(state: Fitting, pretrained: PretrainedBackbone) -> Fitted:
    """The weights of the backbone, its features, the head, and optionally the top of the backbone."""
    config = state.config
    sets, taken = _sets(state, pretrained)
    graph = ships_as_graph(config.model) and (state.source is not None or not has_gpu())
    if graph and not needs_keras(config):
        return _without_keras(state, pretrained, sets, taken)
    state.start()
    classifier = state.build("float32")
    loaded = load_pretrained(classifier.backbone, pretrained, config.model.weights)
    classifier.backbone.unfreeze(config.train.fine_tune)  # more blocks than there are is told now, not after the head
    classifier.backbone.freeze()
    state.progress.line(f"{classifier.network.count_params():,} parameters; {loaded}")
    state.note(f"the backbone has {loaded}")
    extracted = _with_keras(state, classifier, taken, bundled_engine(pretrained.name, taken) if graph else None)
    if is_linear(config):
        fitted = _fit_linear(state, sets, extracted, classifier)
    else:
        fitted = _fit_in_epochs(state, classifier, extracted.read(classifier.features.declared))
    return fine_tune(state, fitted) if config.train.fine_tune else fitted


def _without_keras(
    state: Fitting, pretrained: PretrainedBackbone, sets: dict[str, FeatureSet], taken: FeatureSet
) -> Fitted:
    """A linear head on a backbone that ships as a graph."""
    loaded = of_package(pretrained)
    state.progress.line(f"{weight_count(pretrained):,} parameters of the backbone; {loaded}")
    state.note(f"the backbone has {loaded}")
    key = backbone_key(pretrained.name, BUNDLED_DIGESTS[pretrained.name], state.cache.spec, taken)
    # The engine is not kept: beside it the head would need more memory than anything before.
    return _fit_linear(state, sets, _extracted(state, key, bundled_engine(pretrained.name, taken), taken), None)


def _sets(state: Fitting, pretrained: PretrainedBackbone) -> tuple[dict[str, FeatureSet], FeatureSet]:
    """The feature sets that the head may use, by name: the requested one, or all candidates. And the union that is
    computed, the same for all, so that another head on the same images needs no pass through the backbone."""
    options = cast(HeadOptions, resolve(state.config.model)[1])
    wanted: dict[str, FeatureSet] = {options.features: features(options, pretrained=pretrained)}
    sets: dict[str, FeatureSet] = offered(pretrained, state.cache.spec)
    open_still = options.features == AUTO and is_linear(state.config)
    return sets if open_still else wanted, union([*sets.values(), *wanted.values()])


@dataclass(frozen=True)
class _Extracted:
    """examples: the features of each split; of the training images in every view. places: the columns of each pool's
    output, by its key. whole: the training images where they are too many to be held; `examples` then has some."""

    examples: dict[Split, Examples]
    places: dict[str, slice]
    whole: Whole | None = None

    def reading(self, chosen: FeatureSet) -> Reading:
        return Reading([self.places[pool.key] for pool in chosen.pools], root=chosen.root)

    def read(self, chosen: FeatureSet) -> dict[Split, Examples]:
        """The features of one set."""
        columns = self.reading(chosen).columns
        return {
            split: replace(part, features=feature_rows.chosen(part.features, columns, root=chosen.root))
            for split, part in self.examples.items()
        }


def _with_keras(state: Fitting, classifier: Classifier, taken: FeatureSet, engine: FeatureEngine | None) -> _Extracted:
    """The features; without a given engine, by the fastest whose features equal those of Keras."""
    backbone, some = classifier.backbone, state.images["train"]
    compared = np.arange(min(COMPARED_IMAGES, len(some)))
    key = backbone_key(backbone.name, weights_digest(backbone), state.cache.spec, taken)
    if engine is None:
        network = start_keras().Model(backbone.image, taken.parts(backbone))
        names = [pool.key for pool in taken.pools]
        engine = choose_engine(network, names, key, lambda: some.take(compared), state.progress)
    return _extracted(state, key, engine, taken)


def _extracted(state: Fitting, key: str, engine: FeatureEngine, taken: FeatureSet) -> _Extracted:
    if state.source is not None:
        return _from_shards(state, key, engine, taken)
    config = state.config
    augmented = Views(config.train.views or 1, config.augment or AUGMENTATIONS["none"], config.seed)
    plain = MirroredViews() if config.model.mirrored else Views()
    examples: dict[Split, Examples] = {}
    with feature_cache(key, engine.width, state.cache.limit_bytes) as cache:
        for split, images in state.images.items():
            learns, stage = split == "train", Phase.FEATURES.named(f"features, {split}")
            views = augmented if learns else plain
            found = extract(engine, images, cache, views, partial(state.told, stage))
            if not learns and config.model.mirrored:
                found = mean_of_both(found)
            times, groups = (augmented.count, _groups(state, augmented.count)) if learns else (1, None)
            labels = np.concatenate([state.labels[split]] * times)
            examples[split] = Examples(found, labels, None if groups is None else np.tile(groups, times))
    return _Extracted(examples, _places(engine, taken))


def _from_shards(state: Fitting, key: str, engine: FeatureEngine, taken: FeatureSet) -> _Extracted:
    """The features that others compute and keep. Few are held, and then all goes on as with those of this machine."""
    config, source = state.config, state.source
    assert source is not None
    graph = None if ships_as_graph(config.model) else graph_file(key)
    if graph is not None and (engine.name != "onnxruntime" or not graph.exists()):
        raise ModelError(f"{config.model.name} is computed by Keras on this machine, which --cluster cannot spread.")
    asked = Asked(key, resolve(config.model)[0].name, taken, engine.widths, graph)
    augmented = Views(config.train.views or 1, config.augment or AUGMENTATIONS["none"], config.seed)
    plain = MirroredViews() if config.model.mirrored else Views()
    examples: dict[Split, Examples] = {}
    whole = None
    for split, images in state.images.items():
        learns, stage = split == "train", Phase.FEATURES.named(f"features, {split}")
        found = source(asked, images, augmented if learns else plain, partial(state.told, stage))
        times, groups = (augmented.count, _groups(state, augmented.count)) if learns else (1, None)
        labels = np.concatenate([state.labels[split]] * times)
        if learns and is_linear(config) and found.bytes > feature_rows.HELD_BYTES:
            whole = Whole(found, labels, state.class_weights)
            examples[split] = whole.sample()
        else:
            held = mean_of_both(found.held()) if config.model.mirrored and not learns else found.held()
            examples[split] = Examples(held, labels, None if groups is None else np.tile(groups, times))
    return _Extracted(examples, _places(engine, taken), whole)


def _places(engine: FeatureEngine, taken: FeatureSet) -> dict[str, slice]:
    """The columns of each pool's output, by its key."""
    ends = np.cumsum(engine.widths).tolist()
    places = zip(taken.pools, engine.widths, ends, strict=True)
    return {pool.key: slice(end - width, end) for pool, width, end in places}


def _groups(state: Fitting, views: int) -> NDArray[np.int64] | None:
    """Of the training images, where the validation images are too few to choose by alone; of one label each, by which
    folds are stratified."""
    if state.catalog.task.several:
        return None
    rows = state.catalog.split("train").images
    if len(state.images["validation"]) >= FEW_TO_CHOOSE or len(rows) * views > MOST_FOLDED:
        return None
    return np.array(groups_of(rows, list(range(len(rows)))))


def _fit_linear(
    state: Fitting, sets: dict[str, FeatureSet], extracted: _Extracted, classifier: Classifier | None
) -> Fitted:
    """A linear head, fitted to convergence, on the feature set selected on the validation split.

    classifier: whose head it becomes, with another set of features if need be; None where Keras takes no part.
    """
    run, examples, tried = state.run, extracted.examples, (len(sets) + 1) * len(STRENGTHS)
    begun = 0
    # Of very many, some choose; all of them are read when the last head is fitted.
    validation = some_of(examples["validation"], SAMPLED) if extracted.whole else examples["validation"]

    def fitted(reading: Reading) -> HeadFit:
        nonlocal begun
        before, begun = begun, begun + len(STRENGTHS)
        return fit_linear(
            examples["train"],
            validation,
            reading,
            state.class_weights,
            state.config.train,
            lambda strength, reached: state.progress.update(Phase.HEAD, before + strength, tried, reached),
        )

    fits = {name: fitted(extracted.reading(chosen)) for name, chosen in sets.items()}
    name = list(sets)[simplest([fit.losses for fit in fits.values()])]
    readings = [extracted.reading(sets[name]), replace(extracted.reading(sets[name]), shortened=SHORTENED)]
    ways = [fits[name], fitted(readings[1])]
    way = simplest([fit.losses for fit in ways])
    fit = ways[way]
    if extracted.whole is not None:
        fit = _fit_all(state, extracted.whole, examples, (readings[way], fit))
    state.progress.update(Phase.HEAD, tried, tried)
    if len(sets) > 1:
        classifier = None if classifier is None else classifier.with_features(name)
        _decided(state, name, fits)
    if way:
        state.note(
            f"long axes of the features shortened: loss {fit.losses.mean():.3g}, {ways[0].losses.mean():.3g} without"
        )
    final = classifier or LinearClassifier(
        state.catalog.task, state.cache.spec, state.plain, LinearHead(fit.head.kernel, fit.head.bias)
    )
    final.head.set_linear(fit.head.kernel, fit.head.bias)
    # What a fine-tuning before Ctrl-C added stays: it goes on from there.
    run.write_history([*fit.history, *run.history[len(fit.history) :]])
    for row in fit.history:
        state.watch(row)
    _report_folds(state, examples, readings[way], fit.best)
    where = f"the validation split and {fit.folds} folds of the training split" if fit.folds else "the validation split"
    words = f"regularisation chosen on {where} from {len(fit.history)} strengths"
    return Fitted(final, fit.best, Stop(StopReason.CONVERGED, words), extracted.read(sets[name]))


def _fit_all(state: Fitting, whole: Whole, examples: dict[Split, Examples], chosen: tuple[Reading, HeadFit]) -> HeadFit:
    """The head of all training images, once some of them have chosen what it reads."""
    stage = Phase.HEAD.named("fitting the head to all images")
    told = partial(_told_of_fit, state, stage)
    found = fit_sharded(whole, examples["train"], examples["validation"], chosen, state.config.train, told)
    state.note(
        f"features and regularisation chosen with {len(examples['train'].labels):,} of {len(whole.labels):,} training "
        "images; the head is fitted to all of them, shard by shard"
    )
    return found


def _told_of_fit(state: Fitting, stage: str, strength: int, reached: str) -> None:
    state.told(stage, strength, strength, reached)


def _decided(state: Fitting, name: str, fits: dict[str, HeadFit]) -> None:
    """Record the selection in the run's configuration, by which it is opened and resumed, and in a note."""
    pretrained = cast(PretrainedBackbone, resolve(state.config.model)[0].pretrained)
    model = ModelConfig.model_validate(state.config.model.model_dump() | options_of(pretrained, name))
    state.config = state.config.model_copy(update={"model": model})
    state.run.write_config(state.config)
    losses = ", ".join(f"{one} {fit.losses.mean():.3g}" for one, fit in fits.items())
    judged = "validation loss, and that of folds of the training images" if fits[name].folds else "validation loss"
    state.note(f"features: {name}, the simplest within one standard error of the best by {judged} ({losses})")


def _fit_in_epochs(state: Fitting, classifier: Classifier, examples: dict[Split, Examples]) -> Fitted:
    """A head with dense layers, dropout or label smoothing."""
    run, train, task = state.run, state.config.train, state.catalog.task
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
    epochs = epochs_of(
        replace(state, devices=ONE), train, classifier.head_network(), (training, validation), checkpoint
    )
    stop = epochs.go()
    rows = [row for row in run.history if row.phase == "head"]
    return Fitted(classifier, best_row(rows, train.monitor), stop, examples)


def _report_folds(state: Fitting, examples: dict[Split, Examples], reading: Reading, best: HistoryRow) -> None:
    """With few test images, repeated cross-validation over the others, recorded in run.json."""
    run, catalog = state.run, state.catalog
    splits: tuple[Split, ...] = ("train", "validation")
    rows = [image for split in splits for image in catalog.split(split).images]
    if len(catalog.split("test")) >= FEW or len(rows) > MOST_FOLDED or catalog.task.several:
        return
    parts = [(examples[split], len(catalog.split(split))) for split in splits]
    # The plain views alone, which come first.
    plain = Examples(
        np.concatenate([part.features[:count] for part, count in parts]),
        np.concatenate([part.labels[:count] for part, count in parts]),
    )
    groups = np.array(groups_of(rows, list(range(len(rows)))))
    try:
        strength = 1 / best.figure("regularization")
        found = repeated_folds(plain, reading, groups, strength, state.class_weights, state.config.seed)
    except ValueError:
        return
    note = (
        f"{REPEATS} times {fold_count(plain.labels, groups)} stratified folds over the {len(rows)} training and "
        f"validation images: accuracy {measured(found)}, 95 % interval"
    )
    run.update(folds=asdict(found) | {"n": len(rows)})
    state.note(note)
