"""LadderResult -> LADDER/ladder.html: one page, what each rung reached and costs, which to take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tellapart.evaluation.intervals import Estimate
from tellapart.experiments.comparison import p_text, points, share
from tellapart.experiments.ladder_result import AS_FAST, LadderResult, Standing
from tellapart.report.page import floor_tenth, render_page
from tellapart.words import between

STATUSES = {"done": "", "time up": "time was up", "not reached": "not reached", "failed": "failed"}


def write_ladder(found: LadderResult) -> Path:
    """Write the page; returns its path."""
    accuracies = [each.accuracy.low for each in found.standings if each.accuracy]
    steps = [step.comparison.difference for step in found.steps]
    record = found.ladder.record
    text = render_page(
        "ladder.html.jinja",
        data=Path(record["data"]).name or record["data"],
        advice=found.advice.replace(" %", "\N{NO-BREAK SPACE}%"),
        notes=found.notes,
        rungs=[_rung(found, each) for each in found.standings],
        steps=_steps(found),
        start=floor_tenth(accuracies),
        reach=_reach(steps),
        below_reach=_reach([each.difference for each in found.choice.against.values()]),
        n=found.n,
        split=found.split,
        validation_n=found.validation_n,
        spent=duration(record["spent_seconds"]),
        budget=duration(record["budget_seconds"]),
        seed=found.ladder.config.seed,
        as_fast=f"{100 * (AS_FAST - 1):.0f}",
        command=record["command"],
    )
    found.ladder.write_text(found.ladder.page_file, text)
    return found.ladder.page_file


def duration(seconds: float) -> str:
    """
    >>> duration(7.25), duration(83), duration(3700)
    ('7.2 s', '1 min 23 s', '1 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def size(count: int) -> str:
    """
    >>> size(13_450_000), size(52_000)
    ('13.4 MB', '52 kB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"


def _reach(differences: list[Estimate]) -> float:
    """How far a line of differences goes to both sides: the widest interval fits."""
    return max((max(abs(each.low), abs(each.high)) for each in differences), default=1.0) or 1.0


def _rung(found: LadderResult, each: Standing) -> dict[str, Any]:
    state, report = each.state, each.run.report_file
    against = found.choice.against.get(each.name)
    return {
        "name": each.name,
        "adds": each.rung.adds,
        "report": quote(os.fsencode(report.relative_to(found.ladder.path).as_posix())) if report.exists() else "",
        "accuracy": each.accuracy,
        "value": share(each.accuracy.value, found.n) if each.accuracy else "",
        "between": between(each.accuracy) if each.accuracy else "",
        "validation": share(each.validation.value, found.validation_n) if each.validation else "",
        "below": points(against.difference, found.validation_n) if against else "",
        "below_difference": against and against.difference,
        "verdict": ("worse" if found.choice.worse(each.name) else "not shown to be worse") if against else "the best",
        "parameters": f"{each.parameters:,}" if each.parameters else "",
        "file": size(state.file_bytes) if state.file_bytes else "",
        "milliseconds": f"{state.milliseconds:.3g}" if state.milliseconds else "",
        "wall": f"{state.wall_seconds:,.0f}",
        "processor": f"{state.processor_seconds:,.0f}",
        "status": STATUSES.get(state.status, state.status),
        "recommended": each.name == found.choice.recommended,
    }


def _steps(found: LadderResult) -> list[dict[str, Any]]:
    adds = {each.name: each.rung.adds for each in found.standings}
    return [
        {
            "first": step.first,
            "second": step.second,
            "adds": adds[step.second],
            "difference": step.comparison.difference,
            "points": points(step.comparison.difference, found.n),
            "only_second": step.comparison.only_second,
            "only_first": step.comparison.only_first,
            "p": p_text(step.adjusted_p),
            "shown": ("better" if step.comparison.difference.value > 0 else "worse") if step.shown else "not shown",
        }
        for step in found.steps
    ]
