"""LadderResult -> LADDER/ladder.html: one page with the accuracy and cost of each rung, and a recommendation."""

from __future__ import annotations

from pathlib import Path

from tellapart.experiments.ladder_result import AS_FAST, LadderResult
from tellapart.report.page import floor_tenth
from tellapart.report.study import reach, write_study

STATUSES = {"done": "", "time up": "time was up"}


def write_ladder(found: LadderResult) -> Path:
    """Write the page; returns its path."""
    return write_study(
        found.ladder,
        found.ladder.config.seed,
        found.advice,
        notes=found.notes,
        rungs=found.standings,
        steps=found.steps,
        choice=found.choice,
        adds={each.name: each.rung.adds for each in found.standings},
        start=floor_tenth([each.accuracy.low for each in found.standings if each.accuracy]),
        reach=reach(step.comparison.difference for step in found.steps),
        below_reach=reach(each.difference for each in found.choice.against.values()),
        n=found.n,
        split=found.split,
        validation_n=found.validation_n,
        statuses=STATUSES,
        size=size,
        as_fast=f"{100 * (AS_FAST - 1):.0f}",
    )


def size(count: int) -> str:
    """
    >>> size(13_450_000), size(52_000)
    ('13.4 MB', '52 kB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"
