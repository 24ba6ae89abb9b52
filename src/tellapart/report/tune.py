"""TuneResult -> TUNE/tune.html: one page: whether it was worth it, what mattered, each trial."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tellapart.experiments.comparison import p_text, points, share
from tellapart.experiments.space import Value
from tellapart.experiments.tune import Trial
from tellapart.experiments.tune_result import Gap, TuneResult
from tellapart.files import read_text
from tellapart.report.charts import Chart, nice_axis
from tellapart.report.page import floor_tenth, render_page
from tellapart.words import duration

WORDS = {"done": "", "pruned": "ended early", "failed": "failed", "unfinished": "time was up"}


def write_tune(found: TuneResult) -> Path:
    """Write the page; returns its path."""
    from markupsafe import Markup

    record = found.tune.record
    pair = found.comparison.pairs[0] if found.comparison else None
    limits = [each.low for gap in found.gaps for each in (gap.validation, gap.test)]
    changes = [gap.change for gap in found.gaps]
    text = render_page(
        "tune.html.jinja",
        data=Path(record["data"]).name or record["data"],
        advice=found.advice.replace(" %", "\N{NO-BREAK SPACE}%").replace("trial-", "trial\N{NON-BREAKING HYPHEN}"),
        notes=found.notes,
        monitor=found.monitor,
        gaps=[_gap(found, gap) for gap in found.gaps],
        validation_n=found.gaps[0].validation_n if found.gaps else 0,
        judged_n=found.gaps[0].test_n if found.gaps else 0,
        start=floor_tenth(limits),
        reach=max((max(abs(each.low), abs(each.high)) for each in changes), default=1.0) or 1.0,
        gained=pair and {"points": points(pair.comparison.difference, pair.comparison.n), "p": p_text(pair.adjusted_p)},
        test_n=found.comparison.n if found.comparison else 0,
        chart=Markup(search_chart(found).svg(f"{found.monitor} of each trial, and the best so far")),
        importance=[_weight(found, name, part) for name, part in found.importance.items()],
        valued=sum(each.status in ("done", "pruned") for each in found.trials),
        names=[each.name.partition(".")[2] or each.name for each in found.dimensions],
        trials=[_trial(found, each) for each in _ordered(found)],
        toml=read_text(found.tune.best_file),
        spent=duration(record["spent_seconds"]),
        budget=duration(record["budget_seconds"]),
        seed=found.tune.start.seed,
        command=record["command"],
    )
    found.tune.write_text(found.tune.page_file, text)
    return found.tune.page_file


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


def _ordered(found: TuneResult) -> list[Trial]:
    """The finished ones by what they reached, then the others in their turn."""
    return [*found.ranked, *(each for each in found.trials if each.status != "done")]


def _gap(found: TuneResult, gap: Gap) -> dict[str, Any]:
    report = found.tune.path / gap.name / "report.html"
    return {
        "name": gap.name,
        "role": "what you began with" if gap.name == found.start.name else "the best on the validation images",
        "report": quote(os.fsencode(report.relative_to(found.tune.path).as_posix())) if report.exists() else "",
        "validation": gap.validation,
        "validation_value": share(gap.validation.value, gap.validation_n),
        "test": gap.test,
        "test_value": share(gap.test.value, gap.test_n),
        "change": gap.change,
        "points": points(gap.change, min(gap.validation_n, gap.test_n)),
    }


def _weight(found: TuneResult, name: str, part: float) -> dict[str, Any]:
    start, best = found.start.values[name], found.best.values[name]
    return {
        "name": name,
        "percent": round(100 * part),
        "start": _figure(start),
        "best": _figure(best) if best != start else "",
        "range": next(each.range for each in found.dimensions if each.name == name),
    }


def _trial(found: TuneResult, each: Trial) -> dict[str, Any]:
    held = found.gaps[0].validation_n if found.gaps else 1000
    return {
        "name": each.name,
        "role": {found.start.number: "the start", found.best.number: "the best"}.get(each.number, ""),
        "value": "" if each.value is None else f"{each.value:.4f}",
        "accuracy": "" if each.accuracy is None else share(each.accuracy, held),
        "epochs": each.epochs or "",
        "seconds": f"{each.seconds:,.0f}" if each.seconds else "",
        "values": [_figure(each.values[dimension.name]) for dimension in found.dimensions],
        "status": WORDS[each.status],
    }


def _figure(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
