"""The starting configuration of a search -> the settings to search, and their ranges.

In: a decided Config. Out: Dimension, one per setting, and the Config of a trial. A range is widened to include the
start's value, so the start is always a point of the search space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tellapart.config import AUGMENTATIONS, Config
from tellapart.files import to_json
from tellapart.models.registry import resolve
from tellapart.models.scratch import CnnOptions

Value = str | float
"""A value of a setting in the search: a number, or a choice as text, in the form that `--set` takes."""

IMAGE_SIZE = "image size"
AS_GIVEN = "as given"
"""The choice that keeps the start's own augmentation if no preset equals it."""

SIDES = (64, 96, 128, 160)
EPOCHS, PATIENCE = 60, 8
"""Maximum epochs of a trial from scratch, except the first, if the start has fewer; it then uses early stopping."""

FILTERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "cnn": ((32, 64), (32, 32, 64, 64), (32, 64, 128), (16, 32, 64, 128), (32, 64, 128, 128)),
    "resnet-small": ((16, 32, 64), (32, 64, 128), (32, 64, 128, 256)),
}
UNITS = ((64,), (128,), (256,))
DROPOUT = (0, 0.2, 0.4, 0.6)


class Suggests(Protocol):
    """The source of proposed values: an Optuna trial."""

    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


def figure(value: Value) -> str:
    """A setting's value in short form.

    >>> figure(0.00125), figure("light")
    ('0.00125', 'light')
    """
    return value if isinstance(value, str) else f"{value:.3g}"


@dataclass(frozen=True)
class Dimension:
    """One setting, or several that change together, and the start's value. Either choices, or a range low..high,
    continuous on a logarithmic scale."""

    name: str
    start: Value
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    settings: tuple[str, ...] = ()

    def suggest(self, trial: Suggests) -> Value:
        if self.choices:
            return str(trial.suggest_categorical(self.name, self.choices))
        return trial.suggest_float(self.name, self.low, self.high, log=True)

    def assignments(self, value: Value) -> list[str]:
        """The value as `section.key=value`; empty if everything stays as given."""
        return [] if value == AS_GIVEN else [f"{setting}={value}" for setting in self.settings or (self.name,)]

    @property
    def short(self) -> str:
        """The name without its section, for a column header."""
        return self.name.partition(".")[2] or self.name

    @property
    def range(self) -> str:
        """In words, for people."""
        return ", ".join(self.choices) if self.choices else f"{self.low:g} to {self.high:g}"


def dimensions(start: Config) -> tuple[Dimension, ...]:
    """The settings that a search from this configuration changes. start: fully decided, as a run stores it."""
    row, options = resolve(start.model)
    train = start.train
    shared = (_augment(start), _choice("train.batch_size", train.batch_size, (16, 32, 64)))
    if row.pretrained is None:
        sides = _image_size(start)
        made = [*sides, _rate("train.learning_rate", train.learning_rate), *shared]
        if row.name in FILTERS:
            smallest = (
                min(map(int, sides[0].choices)) if sides else min(start.image.height or 1, start.image.width or 1)
            )
            fitting = [each for each in FILTERS[row.name] if _fits(len(each), smallest, options)]
            made.append(_choice("model.filters", options.filters, fitting))  # type: ignore[attr-defined]
        if hasattr(options, "dense"):
            made.append(_choice("model.dense", options.dense, UNITS))
        if hasattr(options, "blocks"):
            made.append(_choice("model.blocks", options.blocks, (1, 2, 3)))
        return (*made, _choice("model.dropout", options.dropout, DROPOUT))  # type: ignore[attr-defined]
    if train.fine_tune:
        blocks = _choice("train.fine_tune", train.fine_tune, (1, 2, 3, 4))
        return (blocks, _rate("train.fine_tune_learning_rate", train.fine_tune_learning_rate), *shared)
    smoothing = _choice("train.label_smoothing", train.label_smoothing, (0, 0.05, 0.1))
    return (
        _choice("train.views", train.views or 1, (1, 2, 4)),
        *shared,
        _choice("model.dense", options.dense, ((), *UNITS)),  # type: ignore[attr-defined]
        _choice("model.dropout", options.dropout, DROPOUT),  # type: ignore[attr-defined]
        _rate("train.learning_rate", train.learning_rate),
        # A smoothed loss cannot be compared with a plain one.
        *([smoothing] if train.monitor == "val_accuracy" else []),
    )


def first_config(start: Config) -> Config:
    """The start itself, unchanged except for validation_steps: every trial is scored on all validation images."""
    return start.model_copy(update={"train": start.train.model_copy(update={"validation_steps": None})})


def trial_config(start: Config, values: Mapping[str, Value]) -> Config:
    """The configuration of a trial after the first. values: by name of a dimension.

    An epoch keeps its number of images at any batch size, so that trials can be compared by epoch.
    """
    by_name = {each.name: each for each in dimensions(start)}
    changed = start.with_values(line for name, value in values.items() for line in by_name[name].assignments(value))
    train = start.train
    update: dict[str, Any] = {"validation_steps": None, "patience": train.patience or PATIENCE}
    if resolve(start.model)[0].pretrained is None:
        update["epochs"] = max(train.epochs, EPOCHS)
    if train.steps_per_epoch:
        update["steps_per_epoch"] = max(1, round(train.steps_per_epoch * train.batch_size / changed.train.batch_size))
    words = {"title": "found by tellapart tune", "published": ""}
    return changed.model_copy(update={**words, "train": changed.train.model_copy(update=update)})


def start_values(start: Config) -> dict[str, Value]:
    """The point of the start."""
    return {each.name: each.start for each in dimensions(start)}


def _fits(stages: int, side: int, options: Any) -> bool:
    """Whether so many convolutions and poolings leave a map of at least a pixel; only cnn shrinks it this way."""
    if not isinstance(options, CnnOptions):
        return True
    for _ in range(stages):
        side -= options.kernel_size - 1 if options.padding == "valid" else 0
        side = side // options.pool_size if options.pool_padding == "valid" else -(-side // options.pool_size)
        if side < 1:
            return False
    return True


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, int | float) else to_json(list(value))  # type: ignore[call-overload]


def _choice(name: str, start: object, others: Iterable[object]) -> Dimension:
    texts = [_text(each) for each in others]
    own = _text(start)
    return Dimension(name, own, tuple(texts if own in texts else [*texts, own]))


def _augment(start: Config) -> Dimension:
    own = next((name for name, preset in AUGMENTATIONS.items() if preset == start.augment), AS_GIVEN)
    return Dimension("augment", own, (*AUGMENTATIONS, *([AS_GIVEN] if own == AS_GIVEN else [])))


def _image_size(start: Config) -> list[Dimension]:
    """Few sizes, as each needs one decoding of all images. Small images and non-square ones keep their size."""
    side = start.image.height
    if side is None or side != start.image.width or side < SIDES[0]:
        return []
    choices = tuple(str(each) for each in sorted({*SIDES, side}))
    return [Dimension(IMAGE_SIZE, str(side), choices, settings=("image.height", "image.width"))]


def _rate(name: str, start: float) -> Dimension:
    return Dimension(name, start, low=start / 10, high=start * 10)
