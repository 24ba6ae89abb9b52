"""Settings without effect for the chosen network or source -> a message for each.

In: the configuration as it was given and as it was decided. Out: sentences for the terminal, the run and its report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tellapart.config import Config
from tellapart.data.sources.source import Source
from tellapart.models.registry import resolve


@dataclass(frozen=True)
class _Way:
    """How a decided configuration is trained. linear: the head is fitted by logistic regression, without epochs."""

    config: Config
    splits: frozenset[str]

    @property
    def frozen(self) -> bool:
        return resolve(self.config.model)[0].pretrained is not None

    @property
    def tuned(self) -> bool:
        return bool(self.config.train.fine_tune)

    @property
    def linear(self) -> bool:
        options = self.config.model.options
        layers = options.get("dense") or options.get("dropout") or self.config.train.label_smoothing
        return self.frozen and not layers

    @property
    def plain(self) -> bool:
        """Each training image is seen once, as it is."""
        return self.frozen and not self.tuned and self.config.train.views == 1

    @property
    def moves(self) -> bool:
        """Augmentation leaves regions of an image to be filled."""
        augment = self.config.augment
        names = ("rotation", "width_shift", "height_shift", "shear", "zoom")
        return augment is not None and any(getattr(augment, name) for name in names)


@dataclass(frozen=True)
class _Rule:
    """settings: their dotted names, or prefixes. unused: whether they have no effect. why: the reason as text."""

    settings: tuple[str, ...]
    unused: Callable[[_Way], bool]
    why: str


_NAMED = 3
"""Most settings of one section that are listed by name; more are listed as their section."""
_LINEAR = "the linear head is fitted to convergence, without epochs; they apply with --fine-tune or model.dense"
_EPOCHS = tuple(
    f"train.{name}" for name in ("optimizer", "learning_rate", "schedule", "weight_decay", "batch_size", "epochs")
)
_RULES = (
    _Rule(_EPOCHS, lambda way: way.linear and not way.tuned, _LINEAR),
    _Rule(
        ("train.learning_rate",),
        lambda way: way.linear and way.tuned,
        "the linear head has none, and the blocks of the backbone are trained at train.fine_tune_learning_rate",
    ),
    _Rule(
        ("train.steps_per_epoch", "train.validation_steps", "train.precision"),
        lambda way: way.frozen and not way.tuned,
        "the backbone is frozen, and its head is fitted over all features in float32",
    ),
    _Rule(
        tuple(f"train.fine_tune_{name}" for name in ("learning_rate", "layer_decay", "on", "average")),
        lambda way: not way.tuned,
        "no block of a backbone is fine-tuned; it applies with --fine-tune",
    ),
    _Rule(
        ("augment",),
        lambda way: way.plain,
        "the frozen backbone sees each training image once, unchanged; train.views=4 adds augmented views",
    ),
    _Rule(("augment.fill",), lambda way: not way.moves, "no augmentation moves an image, so nothing is filled"),
    _Rule(
        ("augment.fill_value",),
        lambda way: way.config.augment is not None and way.config.augment.fill != "constant",
        "it applies with augment.fill=constant",
    ),
    _Rule(("model.weights",), lambda way: not way.frozen, "the network is trained from scratch"),
    _Rule(("data.test_fraction",), lambda way: "test" in way.splits, "the images come with a test split"),
    _Rule(
        ("data.validation_fraction",),
        lambda way: "validation" in way.splits,
        "the images come with a validation split",
    ),
)


def without_effect(given: Config, decided: Config, source: Source | None) -> list[str]:
    """A sentence for each reason why settings that differ from their defaults change nothing.

    given, decided: before and after `decide`. source: None if a Catalog was already split.

    >>> asked = ta.make_config(model="efficientnet-lite0", epochs=5)
    >>> without_effect(asked, asked, None)[0].partition(":")[0]
    'train.epochs has no effect'
    """
    way = _Way(decided, frozenset(row.split for row in source.rows) if source else frozenset())
    changed = {name for name, value in _flat(given.to_dict()) if value != _DEFAULTS.get(name)}
    told: list[str] = []
    for rule in _RULES:
        meant = {
            setting: sorted(name for name in changed if f"{name}.".startswith(f"{setting}."))
            for setting in rule.settings
        }
        names = [name for setting, found in meant.items() for name in (found if len(found) <= _NAMED else (setting,))]
        if names and rule.unused(way):
            changed.difference_update(*meant.values())
            told.append(f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect: {rule.why}")
    return told


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


_DEFAULTS = {
    **dict(_flat(Config().to_dict())),
    **{f"augment.{name}": value for name, value in _flat(Config.from_dict({"augment": {}}).to_dict()["augment"])},
}
