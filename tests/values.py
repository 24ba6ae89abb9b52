"""Small values for the runs of tests: a plan, and rows of history."""

from __future__ import annotations

from typing import Any

from tellapart.config import AUTO, Config, Plan
from tellapart.runs.history import HistoryRow
from tellapart.task import ImageSpec


def history_row(epoch: int, **figures: Any) -> HistoryRow:
    return HistoryRow(epoch=epoch, **({"loss": 0.5, "accuracy": 0.8, "val_loss": 0.5, "val_accuracy": 0.8} | figures))


def plan(side: int = 8, config: Config | None = None) -> Plan:
    """The configuration with its open settings decided: cnn, colour images of this side, plain."""
    given = (config or Config()).to_dict()
    model = given["model"] | {"name": "cnn" if given["model"]["name"] == AUTO else given["model"]["name"]}
    return Plan(Config.from_dict({"augment": {}, **given, "model": model, "image": ImageSpec(side, side).to_dict()}))
