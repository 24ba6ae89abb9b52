"""Catalog + Config -> Run: prepare, build, fit, keep the best, save, verify, evaluate. The story in order.

A network is trained from nothing in epochs. On a pretrained base first its head is fitted, over features that are
computed once; then, where it is wished, the top of the base learns too. Read by: api. Needs the extra `train`.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.config import AUGMENTATIONS, Config, TrainConfig
from tellapart.data.batches import Batches, Pictures, labels_of
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.checks import IMBALANCE
from tellapart.data.duplicates import groups_of
from tellapart.data.sources import open_row
from tellapart.errors import RunError, TellapartError, TrainingError
from tellapart.models.backend import backend_name, choose_precision, has_gpu, require_keras, seed, start_keras
from tellapart.models.base_weights import BUNDLED_DIGESTS, bundled_graph, load_base, weights_digest
from tellapart.models.pretrained import Base
from tellapart.models.registry import resolve
from tellapart.models.transfer import freeze, head_of, unfreeze
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.run import RunFolder
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.epochs import Epochs, Row, Watch, best_row, compile_model, go_on, is_better
from tellapart.training.features import (
    Engine,
    Features,
    Views,
    base_key,
    bundled_engine,
    choose_engine,
    extract,
    feature_cache,
)
from tellapart.training.finish import Fitted, Fitting, finish
from tellapart.training.head import REPEATS, Examples, fit_linear, fold_count, repeated_folds
from tellapart.training.interruption import CtrlC, Stop, StopReason, TimeUp
from tellapart.training.memory import memory_told
from tellapart.words import measured

if TYPE_CHECKING:
    import keras

EVALUATION_BATCH = 32
FEATURES_AT_ONCE = 1024
COMPARED_PICTURES = 8
TOLD_WEIGHTS = 5
"""Of the smallest and of the largest weights of classes; more of them cannot be read."""
FEW = 200
"""Test pictures: with fewer of them their interval is wide, and folds over the others tell more."""
MOST_FOLDED = 500
"""Training and validation pictures: with more of them, twenty heads take more time than they tell."""


def fit(
    run: RunFolder,
    cache: PixelCache,
    *,
    deadline: float | None = None,
    progress: Progress = SILENT,
    watch: Watch = go_on,
) -> None:
    """Train a created or interrupted run to its end: afterwards it holds model.keras, model.onnx, metrics.json.

    Ctrl-C ends it cleanly after the best epoch so far, and so does the deadline, on the clock of time.monotonic. Raises
    TrainingError where it cannot start, the loss is not a number, or memory, or the time in the first epoch, runs out;
    ModelError for weights that cannot be had, PictureError for a picture that changed or went away.
    """
    with memory_told(run), _timed(run):
        finish(*_fitted(run, cache, ("train", "validation", "test"), deadline, progress, watch))


def learn(
    run: RunFolder,
    cache: PixelCache,
    *,
    deadline: float | None = None,
    progress: Progress = SILENT,
    watch: Watch = go_on,
) -> Row:
    """As `fit`, but for its end: nothing is calibrated, exported or evaluated, and no test picture is looked at.

    Returns the best row of history. The run is interrupted then, with why it ended in `stopped`; `fit` goes on with it.
    """
    with memory_told(run), _timed(run):
        _, fitted = _fitted(run, cache, ("train", "validation"), deadline, progress, watch)
    run.update(status="interrupted", **fitted.stop.to_dict())
    return fitted.best


@contextmanager
def _timed(run: RunFolder) -> Iterator[None]:
    """Count the seconds of what comes to an end, with those of earlier calls, into run.json."""
    started, earlier = time.monotonic(), run.record.get("seconds")
    yield
    before = earlier if isinstance(earlier, int | float) else 0.0
    run.update(seconds=round(before + time.monotonic() - started, 1))


def _fitted(
    run: RunFolder,
    cache: PixelCache,
    splits: tuple[Split, ...],
    deadline: float | None,
    progress: Progress,
    watch: Watch,
) -> tuple[Fitting, Fitted]:
    """Everything but the end, with the pictures of these splits."""
    if run.status == "done":
        raise RunError(f"{run.path} is done: there is nothing to go on with. Train again with another --out.")
    try:
        state = _prepare(run, cache, splits, progress, CtrlC(deadline), watch)
        base = resolve(state.config.model)[0].base
        with state.ctrl_c:
            fitted = _from_nothing(state) if base is None else _on_base(state, base)
    except TellapartError as error:
        run.update(status="failed", error=str(error))
        raise
    except KeyboardInterrupt as stop:
        run.update(status="interrupted", error=f"stopped before the first epoch ended: {str(stop) or 'Ctrl-C'}")
        if isinstance(stop, TimeUp):
            raise TrainingError(
                f"The time was up before the first epoch of {run.path} ended. Go on, with more time: "
                f"tellapart train --resume {shlex.quote(str(run.path))}"
            ) from None
        progress.line(f"Stopped. Go on with: tellapart train --resume {shlex.quote(str(run.path))}")
        raise
    return state, fitted


def _prepare(
    run: RunFolder,
    cache: PixelCache,
    splits: tuple[Split, ...],
    progress: Progress,
    ctrl_c: CtrlC,
    watch: Watch,
) -> Fitting:
    """Everything that the phases share; what was decided on the way goes into run.json."""
    require_keras()
    config, catalog, spec = run.config, run.catalog, run.spec
    precision, reason = choose_precision(config.train.precision)
    weights, weighting = class_weights(catalog.split("train"), config)
    run.update(status="training", precision=precision, class_weights=weighting, error="")
    progress.line(
        f"{config.model.name}: pictures {spec.height}x{spec.width}, {precision} ({reason}); class weights: {weighting}"
    )
    if cache.problem:
        progress.line(cache.problem)
    pictures = {split: _pictures(catalog.split(split), cache, config) for split in splits}
    labels = {split: catalog.split(split).class_indices() for split in splits}
    return Fitting(run, config, catalog, cache, pictures, labels, weights, precision, progress, ctrl_c, watch)


def _pictures(chosen: Catalog, cache: PixelCache, config: Config) -> Pictures:
    return Pictures(chosen.root, chosen.pictures, cache.spec, open_row=open_row, cache=cache, bounds=config.data)


def require_trainable(catalog: Catalog) -> None:
    """Raise TrainingError for pictures that cannot be trained on, before a run is made."""
    counts = catalog.counts()
    lacking = [label for label, count in counts["train"].items() if not count]
    if lacking:
        broken = Counter(picture.label for picture in catalog.pictures if picture.error)
        lost = [f"{label} ({broken[label]:,} cannot be read)" if broken[label] else label for label in lacking]
        look = " `tellapart check` says why pictures cannot be read." if any(map(broken.get, lacking)) else ""
        raise TrainingError(f"No training picture for {', '.join(lost)}. Add pictures, or take the class out.{look}")
    if not any(counts["validation"].values()):
        raise TrainingError(
            "The validation split has no picture. Each class needs at least 3 usable pictures: one each to train, "
            "validate and test."
        )


def class_weights(train: Catalog, config: Config) -> tuple[NDArray[np.float32] | None, str]:
    """A weight for each class, mean 1 over the pictures, or None; and in words what was done."""
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
    """Epochs over the whole network."""
    _start(state)
    model = state.build(state.precision)
    state.progress.line(f"{model.count_params():,} parameters, all of them to learn")
    epochs = _epochs_on_pictures(state, model, Checkpoint(state.run))
    stop = epochs.go()
    return Fitted(model, best_row(state.run.history, state.config.train.monitor), stop)


def _epochs_on_pictures(
    state: Fitting,
    model: keras.Model,
    checkpoint: Checkpoint,
    *,
    phase: str = "",
    before: tuple[Row, ...] = (),
    learning_rate: float | None = None,
) -> Epochs:
    """The whole network compiled, over training pictures, shuffled and augmented, and plain validation pictures."""
    config, task = state.config, state.catalog.task
    train = config.train.model_copy(update={"learning_rate": learning_rate or config.train.learning_rate})
    training = Batches(
        state.pictures["train"],
        labels_of(task, state.labels["train"]),
        train.batch_size,
        shuffle=True,
        augment=config.augment,
        seed=config.seed,
        steps=train.steps_per_epoch,
    )
    held, size, steps = state.pictures["validation"], train.batch_size, train.validation_steps
    if steps is None or steps * size >= len(held):
        # Going over the same pictures again would tell nothing more.
        if steps is not None:
            _note(state.run, f"train.validation_steps has no effect: {steps} batches hold all validation pictures")
        size, steps = EVALUATION_BATCH, None
    validation = Batches(held, labels_of(task, state.labels["validation"]), size, steps=steps)
    return _epochs(state, train, model, (training, validation), checkpoint, phase, before)


def _epochs(
    state: Fitting,
    train: TrainConfig,
    model: keras.Model,
    batches: tuple[Batches, Batches],
    checkpoint: Checkpoint,
    phase: str = "",
    before: tuple[Row, ...] = (),
) -> Epochs:
    """A network, compiled, with its training and validation batches."""
    training, validation = batches
    compile_model(model, state.catalog.task, train, len(training))
    shared = (state.class_weights, checkpoint, state.progress, state.ctrl_c, state.watch)
    return Epochs(state.run, train, model, training, validation, *shared, phase, before)


def _on_base(state: Fitting, base: Base) -> Fitted:
    """The head over the features of the frozen base; then, where it is wished, the top of the base as well."""
    config, progress = state.config, state.progress
    ships = config.model.weights in ("auto", "imagenet") and bundled_graph(base.name).exists() and not has_gpu()
    bundled = bundled_engine(base.name) if ships else None
    examples = None
    if bundled is not None and not config.train.fine_tune:
        # Its features need no Keras, whose start takes one core as long as they take two.
        with ThreadPoolExecutor(1) as beside:
            started = beside.submit(start_keras)
            examples = _examples(state, base_key(base.name, BUNDLED_DIGESTS[base.name], state.cache.spec), bundled)
            started.result()
    _start(state)
    model = state.build("float32")
    loaded = load_base(model, base, config.model.weights)
    unfreeze(model, config.train.fine_tune)  # more blocks than there are is told now, not after the head
    freeze(model)
    progress.line(f"{model.count_params():,} parameters; {loaded}")
    _note(state.run, f"the base has {loaded}")
    if examples is None:
        some = state.pictures["train"]
        compared = np.arange(min(COMPARED_PICTURES, len(some)))
        key = base_key(base.name, weights_digest(model), state.cache.spec)
        engine = bundled or choose_engine(model, key, lambda: some.take(compared), progress)
        examples = _examples(state, key, engine)
    best, stop = _fit_head(state, model, examples)
    fitted = Fitted(model, best, stop, examples)
    return _fine_tune(state, fitted) if config.train.fine_tune else fitted


def _start(state: Fitting) -> None:
    """Keras, if it is not there yet, and its random numbers."""
    stage = Phase.STARTING.named(f"starting Keras with {backend_name()}")
    state.progress.update(stage, 0, 1)
    seed(state.config.seed)
    state.progress.update(stage, 1, 1)


def _examples(state: Fitting, key: str, engine: Engine) -> dict[Split, Examples]:
    """The features of each split; of the training pictures in every view."""
    config = state.config
    augmented = Views(config.train.views or 1, config.augment or AUGMENTATIONS["none"], config.seed)
    examples: dict[Split, Examples] = {}
    with feature_cache(key, engine.width, state.cache.limit_bytes) as cache:
        for split, pictures in state.pictures.items():
            digests = [picture.digest for picture in state.catalog.split(split).pictures]
            views, stage = augmented if split == "train" else Views(), f"features, {split}"
            found = extract(engine, pictures, digests, cache, state.progress, views, stage, state.ctrl_c.check)
            examples[split] = Examples(found, np.tile(state.labels[split], views.count))
    return examples


def _fit_head(state: Fitting, model: keras.Model, examples: dict[Split, Examples]) -> tuple[Row, Stop]:
    """A linear head to convergence; one with dense layers, dropout or label smoothing in epochs. The best row of
    history, and why it ended."""
    run, train, task = state.run, state.config.train, state.catalog.task
    head = head_of(model)
    if len(head.weights) == 2 and not state.config.model.options.get("dropout") and not train.label_smoothing:
        linear, best, rows = fit_linear(
            examples["train"], examples["validation"], state.class_weights, train, state.progress
        )
        model.layers[-1].set_weights([linear.kernel, linear.bias])
        # What a fine-tuning before Ctrl-C added stays: it goes on from there.
        run.write_history([*rows, *run.history[len(rows) :]])
        for row in rows:
            state.watch(row)
        _report_folds(state, examples, best)
        words = f"regularisation chosen on the validation split from {len(rows)} strengths"
        return best, Stop(StopReason.CONVERGED, words)
    training, validation = (
        Batches(Features(part.features), labels_of(task, part.labels), size, shuffle=shuffle, seed=state.config.seed)
        for part, size, shuffle in (
            (examples["train"], train.batch_size, True),
            (examples["validation"], FEATURES_AT_ONCE, False),
        )
    )
    checkpoint = Checkpoint(run, "head")
    epochs = _epochs(state, train, head, (training, validation), checkpoint, "head")
    stop = epochs.go()
    rows = [row for row in run.history if row["phase"] == "head"]
    return best_row(rows, train.monitor), stop


def _report_folds(state: Fitting, examples: dict[Split, Examples], best: Row) -> None:
    """Where few pictures are left to test, what repeated folds over the others say; into run.json."""
    run, catalog = state.run, state.catalog
    splits: tuple[Split, ...] = ("train", "validation")
    rows = [picture for split in splits for picture in catalog.split(split).pictures]
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
        found = repeated_folds(plain, groups, 1 / best["regularization"], state.class_weights, state.config.seed)
    except ValueError:
        return
    note = (
        f"{REPEATS} times {fold_count(plain.labels, groups)} stratified folds over the {len(rows)} training and "
        f"validation pictures: accuracy {measured(found)}, 95 % interval"
    )
    run.update(folds=asdict(found) | {"n": len(rows)})
    _note(run, note)


def _note(run: RunFolder, text: str) -> None:
    """For the report; a run that was resumed says it once."""
    run.update(decided=list(dict.fromkeys([*run.record["decided"], text])))


def _fine_tune(state: Fitting, frozen: Fitted) -> Fitted:
    """The top of the base learns too; kept only where the validation split is no worse for it."""
    run, train = state.run, state.config.train
    if frozen.stop.reason.goes_on:
        return frozen
    before = tuple(row for row in run.history if row["phase"] == "head")
    model = state.build(state.precision)
    model.set_weights(frozen.model.get_weights())
    free = unfreeze(model, train.fine_tune)
    state.progress.line(f"fine-tuning {train.fine_tune} blocks: {free} layers learn, batch normalisation does not")
    epochs = _epochs_on_pictures(
        state,
        model,
        Checkpoint(run, "fine-tune"),
        phase="fine-tune",
        before=before,
        learning_rate=train.fine_tune_learning_rate,
    )
    stop = epochs.go()
    rows = run.history[len(before) :]
    best = best_row(rows, train.monitor) if rows else frozen.best
    if is_better(best, frozen.best, train.monitor) and best["val_accuracy"] >= frozen.best["val_accuracy"]:
        return Fitted(model, best, stop)
    return replace(frozen, stop=stop)
