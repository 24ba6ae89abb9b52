"""Configurations that a search may start from."""

from __future__ import annotations

import tellapart as ta
from tellapart.config import Config

CLASSES = ("cat", "dog")


def decided(**values: object) -> Config:
    """As stored by a run."""
    settings = [f"{name}={value}" for name, value in values.items()]
    config = ta.make_config(settings=["image.height=32", "image.width=32", "image.channels=3", "augment=light"])
    return config.with_values(settings)


STARTS = {
    "cnn": decided(**{"model.name": "cnn"}),
    "cnn, large": decided(**{"model.name": "cnn", "image.height": 128, "image.width": 128}),
    "dense": decided(**{"model.name": "dense"}),
    "residual": decided(**{"model.name": "resnet-small"}),
    "frozen": decided(**{"model.name": "efficientnet-lite0", "train.monitor": "val_accuracy"}),
    "fine-tuned": decided(**{"model.name": "efficientnet-lite0", "train.fine_tune": 2}),
}
