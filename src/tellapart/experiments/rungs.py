"""The rungs of the ladder, one row each: from dense layers to a fine-tuned backbone.

The rungs trained from scratch use images of one size, which are decoded once, and one stopping rule; `adds` tells what
a rung adds to the previous one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tellapart.config import Config
from tellapart.errors import ConfigError, unknown
from tellapart.models.registry import ARCHITECTURES

BACKBONE = "efficientnet-lite0"


@dataclass(frozen=True)
class Rung:
    """name: also of its run folder. adds: what it adds to the previous rung. model, train: configuration values.

    turn: its position in training order, the most reliable and cheapest first. share: of the time, relative to the
    shares of the others.
    """

    name: str
    adds: str
    turn: int
    share: float
    model: dict[str, Any]
    augment: str
    train: dict[str, Any] = field(default_factory=dict)

    @property
    def from_nothing(self) -> bool:
        return ARCHITECTURES[self.model["name"]].pretrained is None

    def config(self, common: Config, image: dict[str, Any], settings: Sequence[str]) -> Config:
        """common: seed and data for all. image: input of a network trained from scratch; a backbone has its own image
        size. settings: `section.key=value`, which override the row."""
        values = common.to_dict() | {"model": self.model, "augment": self.augment}
        values["train"] = {**values["train"], **self.train}
        if self.from_nothing:
            values["image"] = values["image"] | image
        else:
            values["image"] = {
                name: value for name, value in values["image"].items() if name not in ("height", "width")
            }
        return Config.from_dict(values).with_values(settings)


def _cnn(*filters: int) -> dict[str, Any]:
    # Padded, so that images of 28 pixels also allow four poolings.
    return {"name": "cnn", "filters": filters, "dense": (128,), "padding": "same", "pool_padding": "same"}


_LONG = {"epochs": 60, "patience": 6}

RUNGS: tuple[Rung, ...] = (
    Rung("dense", "one dense layer of 128 units", 2, 1, {"name": "dense"}, "none", _LONG),
    Rung("conv", "two convolutions of 32 filters before it", 3, 2, _cnn(32, 32), "none", _LONG),
    Rung("deeper", "two more convolutions, of 64 filters", 4, 3, _cnn(32, 32, 64, 64), "none", _LONG),
    Rung("augmented", "random augmentation of the training images", 5, 4, _cnn(32, 32, 64, 64), "medium", _LONG),
    Rung("residual", "residual blocks with batch normalisation", 7, 5, {"name": "resnet-small"}, "medium", _LONG),
    Rung("pretrained", "a pretrained backbone, frozen, with a linear head", 1, 5, {"name": BACKBONE}, "none"),
    Rung(
        "fine-tuned",
        "fine-tuning of the top two blocks of the backbone, with augmentation",
        6,
        4,
        {"name": BACKBONE},
        "light",
        {"fine_tune": 2, "epochs": 12, "patience": 3},
    ),
)


def chosen(names: Iterable[str]) -> tuple[Rung, ...]:
    """The rungs with these names, by default all, in the order of the ladder. Raises ConfigError for other names."""
    known = {rung.name: rung for rung in RUNGS}
    wanted = set(names) or set(known)
    for name in sorted(wanted - set(known)):
        raise ConfigError(unknown("rung", name, known))
    if len(wanted) < 2:
        raise ConfigError(f"A ladder has two rungs or more; given {', '.join(wanted)}. Known: {', '.join(known)}.")
    return tuple(rung for rung in RUNGS if rung.name in wanted)
