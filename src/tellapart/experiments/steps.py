"""The table of steps that a time budget is spent on: what each changes about the best one before it, and its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tellapart.config import AUGMENTATIONS, AugmentConfig, Config
from tellapart.experiments.study import FINISHING_SECONDS
from tellapart.models.backend import has_keras
from tellapart.models.registry import resolve
from tellapart.runs.record import StopReason
from tellapart.runs.run import RunFolder
from tellapart.words import counted

LARGER = 4 / 3
"""The side of a larger input, relative to the usual one."""
TOP_BLOCKS = 3
BACKWARD = 3.0
"""A training step takes about so many times as long as a prediction: forward, and gradients of values and weights."""
TOP_BACKWARD = 1.0
"""The same where only the top blocks are trained."""
FEWEST_EPOCHS, MOST_EPOCHS = 3, 40
NOTHING_LEFT = 0.02
"""Log loss of the validation images below which no step is tried: half of their mistakes would be too few to tell."""
MOST_CALIBRATED = 500
"""Training images that finishing a run reads again, about."""
FINE_TUNING = {
    "schedule": "warmup-cosine",
    "fine_tune_learning_rate": 1e-3,
    "fine_tune_layer_decay": 0.8,
    "fine_tune_average": True,
}
"""Settings of [train]: rates that fall toward the image, and to zero by the last epoch, and at the end the average with
what was there before (docs/how-to/backbones.md)."""
MORE_EPOCHS = 1.5
"""So many times as many epochs as before, or a longer training is not begun."""
COMPILE_SECONDS = {"tensorflow": 15.0, "jax": 60.0}
"""Until the first step of fine-tuning a whole backbone, by Keras' backend: about 10 and 50 were measured."""
MARGIN = 0.85
"""Of the time that is left, what a schedule of epochs may count on."""
SMALL_SHARE = 0.25
"""Of the time that is left, what one step before the fine-tuning of the whole backbone may take."""
NO_KERAS = "fine-tuning needs Keras: pip install 'tellapart[train]'"


@dataclass(frozen=True)
class Situation:
    """What a row of the table of steps decides by.

    start: the configuration of the first step; best: of the best one. side: of the images, the median, in pixels.
    image_seconds: of one image on its way through the network, at the input size of `best`. left: seconds, less those
    for finishing. epochs: of the last training of `best`, each over all training images, and epoch_seconds of one; 0
    and None where it had none. mirrored: whether mirrored images do no harm; None: not known. compile_seconds: before
    a fine-tuning begins, in which nothing can stop it.
    """

    start: Config
    best: Config
    train_images: int
    all_images: int
    side: int
    image_seconds: float
    left: float
    epochs: float
    epoch_seconds: float | None
    mirrored: bool | None
    compile_seconds: float

    @property
    def pass_seconds(self) -> float:
        """Of one pass of all images through the network."""
        return self.all_images * self.image_seconds

    @property
    def whole_epochs(self) -> int:
        """Epochs of the whole backbone that there is time for."""
        return self.epochs_for(BACKWARD * self.train_images * self.image_seconds, self.compile_seconds)

    def epochs_for(self, each: float, first: float = 0.0) -> int:
        """How many epochs fit into the time that is left, of so many seconds each, after so many for the rest."""
        return min(MOST_EPOCHS, int((MARGIN * self.left - first) / max(each, 1e-3)))


@dataclass(frozen=True)
class Planned:
    """A step that there is time for. seconds: it takes about so long."""

    config: Config
    seconds: float


Change = Planned | str
"""A step, or why it is not tried."""


@dataclass(frozen=True)
class StepKind:
    """A row of the table. adds: what the step changes, in words. change: decides. goes_on: from what the best step has
    learned, so that nothing is learned again."""

    name: str
    adds: str
    change: Callable[[Situation], Change]
    goes_on: bool = False


def finishing_seconds(taught: int, images: int, image_seconds: float) -> float:
    """Of finishing a run after its training: calibration, export, evaluation and the report. taught: its training
    images; images: all; image_seconds: of one on its way through the network."""
    return FINISHING_SECONDS + (images - taught + min(MOST_CALIBRATED, taught)) * image_seconds


def passed_epochs(run: RunFolder, taught: int) -> tuple[float, float | None]:
    """Of the last training of a run, counted over all training images, and the seconds of each as measured; 0 and None
    without one."""
    train = run.config.train
    rows = [row for row in run.history if row.regularization is None and row.phase in ("", "fine-tune")]
    if not rows:
        return 0.0, None
    share = min(taught, train.batch_size * (train.steps_per_epoch or taught)) / taught
    return len(rows) * share, rows[-1].seconds / share


def as_trained(run: RunFolder) -> Config:
    """The configuration by which nothing of a run is left to train: where its time was up, of the epochs that it had.
    Its checkpoint and history stay what they are."""
    config = run.config
    if run.record.stop_reason is not StopReason.TIME_UP:
        return config
    phases = [row.phase for row in run.history if row.regularization is None]
    last = phases[-1] if phases else "head"
    changes: dict[str, Any] = {"epochs": phases.count(last)} if phases else {}
    if config.train.fine_tune and last != "fine-tune":
        changes["fine_tune"] = 0
    return with_sections(config, train=changes)


def with_sections(config: Config, **sections: Mapping[str, Any]) -> Config:
    """The configuration with other values in some of its sections."""
    values = config.to_dict()
    for name, changes in sections.items():
        values[name] = {**values.get(name, {}), **changes}
    return Config.from_dict(values)


def _on_features(now: Situation, **sections: Mapping[str, Any]) -> Config:
    """Another head on the frozen backbone, whose features are chosen anew."""
    return with_sections(now.best, model=now.start.model.model_dump(), **sections)


def _affordable(now: Situation, seconds: float, change: Callable[[], Config]) -> Change:
    """A step before the fine-tuning of the whole backbone: it takes a share of the time, or all where that does not
    suffice for fine-tuning anyway."""
    share = SMALL_SHARE if now.whole_epochs >= FEWEST_EPOCHS else MARGIN
    if seconds > share * now.left:
        return f"it would take {seconds:,.0f} of the {max(now.left, 0):,.0f} seconds left"
    return Planned(change(), seconds)


def _mirrored(now: Situation) -> Change:
    flip = AugmentConfig(horizontal_flip=True).model_dump()
    return _affordable(
        now,
        now.train_images * now.image_seconds,
        lambda: _on_features(now, train={"views": 2}, augment=flip),
    )


def _views(now: Situation) -> Change:
    shown = _augmentation(now, "light")
    return _affordable(
        now,
        3 * now.train_images * now.image_seconds,
        lambda: _on_features(now, train={"views": 4}, augment=shown),
    )


def _augmentation(now: Situation, preset: str) -> dict[str, Any]:
    """The preset, mirrored only where that did no harm."""
    return AUGMENTATIONS[preset].model_dump() | {"horizontal_flip": now.mirrored is not False}


def _larger(now: Situation) -> Change:
    height, width = now.best.image.height or 0, now.best.image.width or 0
    larger = [round(side * LARGER / 32) * 32 for side in (height, width)]
    if now.side < max(height, width) * 1.1:
        return f"the images are no larger than the input of {height}x{width} pixels"
    return _affordable(
        now,
        now.pass_seconds * LARGER**2,
        lambda: _on_features(now, image=dict(zip(("height", "width"), larger, strict=True))),
    )


def _top(now: Situation) -> Change:
    if not has_keras():
        return NO_KERAS
    each = TOP_BACKWARD * now.train_images * now.image_seconds
    epochs = min(12, int((0.4 * now.left - now.pass_seconds - now.compile_seconds / 2) / max(each, 1e-3)))
    if epochs < FEWEST_EPOCHS:
        return f"{now.left:,.0f} seconds are not enough for {FEWEST_EPOCHS} epochs"
    seconds = now.pass_seconds + now.compile_seconds / 2 + epochs * each
    return Planned(_fine_tuned(now, TOP_BLOCKS, epochs, fine_tune_on="activations"), seconds)


def _whole(now: Situation) -> Change:
    if not has_keras():
        return NO_KERAS
    epochs = now.whole_epochs
    if epochs < FEWEST_EPOCHS:
        return f"{max(now.left, 0):,.0f} seconds are not enough for {FEWEST_EPOCHS} epochs"
    seconds = now.compile_seconds + epochs * BACKWARD * now.train_images * now.image_seconds
    return Planned(_fine_tuned(now, "all", epochs, fine_tune_on="images"), seconds)


def _longer(now: Situation) -> Change:
    """The last training again, with as many epochs as the time measured for one allows."""
    if now.epoch_seconds is None:
        return "no training in epochs was kept"
    epochs = now.epochs_for(now.epoch_seconds, now.compile_seconds)
    if epochs < MORE_EPOCHS * now.epochs:
        return f"there is time for {counted(max(epochs, 0), 'epoch')}, and there were {now.epochs:.0f}"
    changed: dict[str, Any] = {"epochs": epochs, "patience": max(epochs, now.best.train.patience)}
    if not now.best.train.fine_tune:
        changed |= {"schedule": "cosine", "steps_per_epoch": None, "validation_steps": None}
    return Planned(with_sections(now.best, train=changed), now.compile_seconds + epochs * now.epoch_seconds)


def _both(now: Situation) -> Change:
    """The best one as it is, which sees each image and its mirror image: on the validation images now, and on all that
    finishing the run reads."""
    held = now.all_images - now.train_images
    seconds = (3 * held + min(MOST_CALIBRATED, now.train_images)) * now.image_seconds
    seconds += now.compile_seconds / 2 if now.best.train.fine_tune else 0.0
    if seconds > MARGIN * now.left:
        return f"it would take {seconds:,.0f} of the {max(now.left, 0):,.0f} seconds left"
    return Planned(with_sections(now.best, model={"mirrored": True}), seconds)


def _fine_tuned(now: Situation, blocks: int | str, epochs: int, **more: Any) -> Config:
    changed = {"fine_tune": blocks, "epochs": epochs, "patience": max(epochs, now.best.train.patience)}
    return with_sections(now.best, train={**FINE_TUNING, **changed, **more}, augment=_augmentation(now, "strong"))


FIRST = StepKind("default", "what train does without --time", lambda now: Planned(now.best, now.left))

ON_BACKBONE = (
    FIRST,
    StepKind("mirrored", "each training image mirrored as well", _mirrored),
    StepKind("larger", "a larger input", _larger),
    StepKind("views", "four augmented views of each training image", _views),
    StepKind("top", f"the top {TOP_BLOCKS} blocks of the backbone fine-tuned", _top),
    StepKind("whole", "the whole backbone fine-tuned", _whole),
    StepKind("longer", "the same for as long as there is time", _longer),
    StepKind("both", "predictions averaged over each image and its mirror image", _both, goes_on=True),
)
FROM_SCRATCH = (
    FIRST,
    StepKind("longer", "as many epochs as there is time for, with a decaying learning rate", _longer),
)


ADDS = {kind.name: kind.adds for kind in (*FROM_SCRATCH, *ON_BACKBONE)}
"""What each step changes, by name."""


def on_backbone(config: Config) -> bool:
    return resolve(config.model)[0].pretrained is not None


def steps_of(start: Config) -> tuple[StepKind, ...]:
    """The steps that are tried in turn."""
    return ON_BACKBONE if on_backbone(start) else FROM_SCRATCH
