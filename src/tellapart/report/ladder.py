"""LadderResult -> LADDER/ladder.html: one page with the accuracy and cost of each rung, and a recommendation."""

from __future__ import annotations

from pathlib import Path

from tellapart.experiments.ladder_result import AS_FAST, LadderResult
from tellapart.report.page import floor_tenth, reach
from tellapart.report.study import write_study
from tellapart.words import size

STATUSES = {"done": "", "time up": "time was up"}


def write_ladder(found: LadderResult) -> Path:
    """Write the page; returns its path."""
    return write_study(
        found,
        found.ladder.config.seed,
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
