"""What a benchmark is: one job, our way to do it and the peers' ways, in one unit, each with what it should reach.

Read by: every benchmark's module, process, measure. Imports nothing heavy, so that the process which starts the others
stays small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]
"""What one run of a way gives: `value` in the benchmark's unit; other figures are shown beside it under their name."""


@dataclass(frozen=True)
class Setting:
    """What all ways of a benchmark share.

    folder: `all/CLASS/*` holds the images, `split/{train,validation,test}/CLASS/*` the same ones again, in splits;
    beside them lies what several benchmarks are prepared with.
    work: a folder of the benchmark's own, kept from `prepare` to the last repeat. epochs: of a training; the first is
    the warm-up. smoke: figures of any quality, soon.
    """

    folder: Path
    work: Path
    epochs: int
    smoke: bool

    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted(path.name for path in (self.folder / "all").iterdir())

    def images(self) -> list[Path]:
        """All images, sorted by class and number."""
        return sorted((self.folder / "all").glob("*/*"))


@dataclass(frozen=True)
class Way:
    """One way to do the job. target: what our figure divided by this one should be at least; None: shown only.

    missing: says why it cannot run here, in which case its row does; empty where it can.
    """

    name: str
    run: Callable[[Setting], Figures]
    target: float | None = None
    missing: Callable[[], str] = str


@dataclass(frozen=True)
class Benchmark:
    """A job. bound: what our own figure should be at most, in the unit; None where only ratios count."""

    name: str
    title: str
    unit: str
    ours: Way
    peers: tuple[Way, ...]
    more_is_better: bool = False
    bound: float | None = None
    prepare: Callable[[Setting], None] | None = None

    @property
    def ways(self) -> tuple[Way, ...]:
        return (self.ours, *self.peers)

    def ratio(self, ours: float, peer: float) -> float:
        """How many times as fast, or as small, ours is."""
        return ours / peer if self.more_is_better else peer / ours
