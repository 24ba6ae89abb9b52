"""A benchmark: one task, our solution and those of peers, in one unit, with a target for each.

Imports nothing heavy, so that the process that starts the others stays small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]
"""The result of one run: `value` in the benchmark's unit; other figures are shown beside it under their name."""


@dataclass(frozen=True)
class Setting:
    """What all solutions of a benchmark share.

    folder: `all/CLASS/*` holds the images, `split/{train,validation,test}/CLASS/*` the same ones again, in splits;
    prepared data shared by several benchmarks is beside them. work: a folder of the benchmark's own, kept from
    `prepare` to the last repeat. epochs: of a training; the first is the warm-up. smoke: a quick run, whose figures do
    not matter.
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
    """One solution of the task. target: smallest ratio of our figure to this one; None: only shown.

    missing: returns why it cannot run here, which its row then shows; empty if it can.
    """

    name: str
    run: Callable[[Setting], Figures]
    target: float | None = None
    missing: Callable[[], str] = str


@dataclass(frozen=True)
class Benchmark:
    """A task. bound: largest allowed figure of ours, in the unit; None if only ratios count."""

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
