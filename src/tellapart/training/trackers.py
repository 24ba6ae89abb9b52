"""The table of trackers by name, with rows loaded on demand, so that the options of `train` import no tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.errors import ConfigError
from tellapart.tables import Table

if TYPE_CHECKING:
    from tellapart.training.tracker_backends import TrackerKind

TRACKERS: Table[TrackerKind] = Table(
    "trackers",
    "tracker",
    "tellapart.training.tracker_backends:TrackerKind",
    ConfigError,
    {
        "tensorboard": "tellapart.training.tracker_backends:TENSORBOARD",
        "mlflow": "tellapart.training.tracker_backends:MLFLOW",
    },
)


def require_known(names: tuple[str, ...]) -> None:
    """Raises ConfigError for an unknown tracker; no tracker is loaded."""
    for name in names:
        if name not in TRACKERS and name not in TRACKERS.names():
            raise ConfigError(f"train.track: {TRACKERS.unknown(name)}")
