"""TuneResult -> TUNE/tune.html: one page: whether the search helped, which settings mattered, each trial."""

from __future__ import annotations

from pathlib import Path

from tellapart.experiments.space import figure
from tellapart.experiments.tune_result import TuneResult
from tellapart.files import read_text
from tellapart.report.charts import Chart, nice_axis
from tellapart.report.page import floor_tenth, reach, shown_chart
from tellapart.report.study import write_study

WORDS = {"done": "", "pruned": "ended early", "failed": "failed", "unfinished": "time was up"}


def write_tune(found: TuneResult) -> Path:
    """Write the page; returns its path."""
    pair = found.comparison.pairs[0] if found.comparison else None
    held, judged = (found.gaps[0].validation_n, found.gaps[0].test_n) if found.gaps else (0, 0)
    unfinished = (each for each in found.trials if each.status != "done")
    return write_study(
        found,
        found.tune.start.seed,
        monitor=found.monitor,
        gaps=found.gaps,
        run=found.tune.run,
        validation_n=held,
        judged_n=judged,
        start=floor_tenth([each.low for gap in found.gaps for each in (gap.validation, gap.test)]),
        reach=reach(gap.change for gap in found.gaps),
        gained=pair,
        chart=shown_chart(search_chart(found), f"{found.monitor} of each trial, and the best so far"),
        importance=found.importance,
        valued=sum(each.status in ("done", "pruned") for each in found.trials),
        first=found.start,
        best=found.best,
        roles={found.start.number: "the start", found.best.number: "the best"},
        dimensions=found.dimensions,
        trials=[*found.ranked, *unfinished],
        statuses=WORDS,
        figure=figure,
        toml=read_text(found.tune.best_file) if found.helped else "",
    )


def search_chart(found: TuneResult) -> Chart:
    """The monitored value of each trial in turn, and the best so far."""
    valued = [each for each in found.trials if each.value is not None]
    values = [each.value or 0.0 for each in valued]
    best = {each.number: each for each in found.ranked}
    chart = Chart(
        found.monitor,
        nice_axis(1, max(2, valued[-1].number), lambda value: f"{value:g}", "trial", 8, whole=True),
        nice_axis(min(values), max(values), lambda value: f"{value:g}"),
    )
    steps: list[tuple[float, float]] = []
    better = min if found.monitor.endswith("loss") else max
    for each in valued:
        if each.number in best:
            value = each.value or 0.0
            reached = better(steps[-1][1], value) if steps else value
            steps += [(each.number, steps[-1][1])] if steps else []
            steps.append((each.number, reached))
    chart.line([*steps, (valued[-1].number, steps[-1][1])], "training", "best so far")
    named: set[str] = set()
    for each in valued:
        kind, name = ("validation", "finished") if each.number in best else ("muted", "ended early")
        tip = f"{each.name}: {each.value:.4f}, {WORDS[each.status] or 'finished'}"
        chart.dot(each.number, each.value or 0.0, kind, tip, "" if name in named else name, 3.5)
        named.add(name)
    return chart
