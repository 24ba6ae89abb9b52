"""The steps that a time budget was spent on -> their charts and table: validation accuracy and loss against time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tellapart.experiments.steps import ADDS
from tellapart.experiments.timed import Step
from tellapart.report.charts import Chart, nice_axis
from tellapart.report.page import shown_chart
from tellapart.words import counted, duration, percent

_IN_MINUTES = 180
"""Seconds from which on the axis counts in minutes."""


def time_section(steps: Mapping[str, Step]) -> dict[str, Any]:
    """What the template shows of them: charts (none before two were tried), a sentence, and a row for each step."""
    tried = {name: step for name, step in steps.items() if step.status == "tried"}
    charts = [
        time_chart(tried, "accuracy", lambda step: step.val_accuracy or 0.0, lambda value: percent(value, None)),
        time_chart(tried, "log loss", lambda step: step.val_loss or 0.0, lambda value: f"{value:g}"),
    ]
    return {
        "time_charts": [shown_chart(chart) for chart in charts] if len(tried) > 1 else [],
        "time_sentence": _sentence(tried),
        "time_steps": [_row(name, step) for name, step in steps.items()],
    }


def time_chart(
    tried: Mapping[str, Step], quantity: str, figure: Callable[[Step], float], shown: Callable[[float], str]
) -> Chart:
    """A dot for each step at the moment it ended; the line goes through those that were kept."""
    end = max(step.spent for step in tried.values())
    unit, divisor = ("minutes", 60) if end > _IN_MINUTES else ("seconds", 1)
    values = [figure(step) for step in tried.values()]
    chart = Chart(
        f"{quantity.capitalize()} on validation images",
        nice_axis(0, end / divisor, lambda value: f"{value:g}", unit),
        nice_axis(min(values), max(values), shown),
    )
    line: list[tuple[float, float]] = []
    for step in (step for step in tried.values() if step.kept):
        at = step.spent / divisor
        line += [*([(at, line[-1][1])] if line else []), (at, figure(step))]
    chart.line([*line, (end / divisor, line[-1][1])], "validation", "best so far")
    for name, step in tried.items():
        tip = f"{name}: {shown(figure(step))} after {duration(step.spent)}"
        chart.dot(step.spent / divisor, figure(step), "validation" if step.kept else "muted", tip)
    return chart


def _sentence(tried: Mapping[str, Step]) -> str:
    """Where it stopped being worth it."""
    kept = [name for name, step in tried.items() if step.kept]
    last, end = tried[kept[-1]], max(step.spent for step in tried.values())
    begin = f"{counted(len(tried), 'step')} tried in {duration(end)}, from cheap to dear, judged on validation images. "
    if len(tried) == 1:
        return begin + "There was no time for another."
    if len(kept) == 1:
        return begin + "Nothing was better than the first: more time did not pay."
    after = end - last.spent
    rest = f"The {duration(after)} after that brought nothing." if after >= 1 else "More time might help still."
    return f"{begin}The last gain came after {duration(last.spent)}. {rest}"


def _row(name: str, step: Step) -> dict[str, str]:
    gain = "" if step.gain is None else f"{step.gain:+.3f} ± {step.error or 0:.3f}"
    outcome = "kept" if step.kept else "no better" if step.status == "tried" else step.status
    return {
        "name": name,
        "adds": ADDS.get(name, ""),
        "accuracy": "" if step.val_accuracy is None else percent(step.val_accuracy),
        "loss": "" if step.val_loss is None else f"{step.val_loss:.3f}",
        "gain": gain.replace("-", "\N{MINUS SIGN}"),
        "spent": duration(step.spent) if step.spent else "",
        "outcome": f"{outcome}: {step.reason}" if step.reason else outcome,
    }
