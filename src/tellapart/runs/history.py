"""HistoryRow: a line of history.jsonl: the metrics of one epoch, or of one fit of a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from tellapart.config import first_problem
from tellapart.runs import migrate


@dataclass(frozen=True, kw_only=True)
class HistoryRow:
    """One line of history.jsonl. epoch: from 1, over all phases. phase: one of PHASES. regularization: of a head that
    was fitted to convergence, decreasing from row to row; None for an epoch. more: fields written by a newer version.

    >>> HistoryRow(epoch=1, loss=0.5, accuracy=0.75, val_loss=0.6, val_accuracy=0.5).figure("val_loss")
    0.6
    """

    epoch: int
    phase: str = ""
    regularization: float | None = None
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float | None = None
    images_per_second: float = 0.0
    seconds: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)

    def figure(self, name: str) -> float:
        """The metric of this name, such as `val_loss`."""
        return float(getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """The known fields, for JSON and from_dict."""
        known = {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in known.items() if value not in (None, "")} | self.more

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HistoryRow:
        """Raises ValueError for values that to_dict did not make, in this format or an earlier one."""
        given = migrate.row(values)
        try:
            return cls(**{name: given.pop(name) for name in _NAMES if name in given}, more=given)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from None


_NAMES = [each.name for each in fields(HistoryRow) if each.name != "more"]


def unit_of(history: Sequence[HistoryRow]) -> str:
    """What a row of history stands for: an epoch; or a fit, if only a linear head was fitted with decreasing
    regularisation."""
    return "fit" if history and all(row.regularization is not None for row in history) else "epoch"


def best_row(history: Sequence[HistoryRow], monitor: str) -> HistoryRow:
    """The row with the lowest loss or the highest accuracy; the earliest of equal ones.

    >>> rows = [HistoryRow(epoch=e, loss=1, accuracy=0, val_loss=1 / e, val_accuracy=0) for e in (1, 2)]
    >>> best_row(rows, "val_loss").epoch
    2
    """
    choose = min if monitor.endswith("loss") else max
    return choose(history, key=lambda row: row.figure(monitor))


def is_better(value: float, other: float, monitor: str) -> bool:
    """Whether the first of two values of the monitored metric is the better one."""
    return value < other if monitor.endswith("loss") else value > other
