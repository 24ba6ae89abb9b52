"""Benchmark -> Measured: repeats of every solution, ours and the peers in turn, and the results.

The solutions of one repeat run one after the other (A B C, A B C ...), so that a slow phase of the machine affects all;
a ratio is the median of the repeats' ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.benchmark import Benchmark, Figures, Setting
from benchmarks.process import PREPARE, run_fresh


@dataclass(frozen=True)
class Row:
    """The median of a solution with all its values; a peer's ratio and target, or our own bound. missing: why none."""

    way: str
    values: list[float]
    beside: dict[str, float]
    ratio: float | None = None
    target: float | None = None
    bound: float | None = None
    missing: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the target or bound is reached; None without one."""
        if self.bound is not None and self.median is not None:
            return self.median <= self.bound
        if self.target is not None and self.ratio is not None:
            return self.ratio >= self.target
        return None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "median": self.median, "met": self.met}


def measure(benchmark: Benchmark, setting: Setting, repeats: int, tell: Callable[[str], None]) -> list[Row]:
    """Our row, then the peers'. tell: receives the current step, in words."""
    missing = {number: way.missing() for number, way in enumerate(benchmark.ways)}
    present = [number for number, why in missing.items() if not why]
    rounds = _rounds(benchmark, present, setting, repeats, tell)
    return [
        Row(way.name, [], {}, missing=missing[number]) if missing[number] else _row(benchmark, number, rounds)
        for number, way in enumerate(benchmark.ways)
    ]


def _rounds(
    benchmark: Benchmark, present: list[int], setting: Setting, repeats: int, tell: Callable[[str], None]
) -> list[dict[int, Figures]]:
    """The results of each available solution, by its number, once per repeat."""
    prepare = [PREPARE] if benchmark.prepare is not None else []
    if setting.smoke:  # one process for all, to import only once
        figures = run_fresh(benchmark, [*prepare, *map(str, present)], setting)
        return [dict(zip(present, figures, strict=True))]
    if prepare:
        tell(f"{benchmark.name}: preparing")
        run_fresh(benchmark, prepare, setting)
    rounds: list[dict[int, Figures]] = []
    for repeat in range(repeats):
        rounds.append({})
        for number in present:
            tell(f"{benchmark.name}, repeat {repeat + 1} of {repeats}: {benchmark.ways[number].name}")
            rounds[-1][number] = run_fresh(benchmark, [str(number)], setting)[0]
    return rounds


def _row(benchmark: Benchmark, number: int, rounds: list[dict[int, Figures]]) -> Row:
    way = benchmark.ways[number]
    values = [figures[number]["value"] for figures in rounds]
    names = [name for name in rounds[0][number] if name != "value"]
    beside = {name: statistics.median(figures[number][name] for figures in rounds) for name in names}
    if number == 0:
        return Row(way.name, values, beside, bound=benchmark.bound)
    ratios = [benchmark.ratio(figures[0]["value"], figures[number]["value"]) for figures in rounds]
    return Row(way.name, values, beside, ratio=statistics.median(ratios), target=way.target)
