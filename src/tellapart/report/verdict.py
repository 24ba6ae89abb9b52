"""A run's figures -> whether to rely on them: a headline, a conclusion, and the points that it rests on.

Read by: report. Rules, not taste: each point is good, asks for care, or stops, by what its sentence says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tellapart.data.findings import Finding
from tellapart.evaluation.evaluate import ClassMetrics, Evaluation
from tellapart.report.certainty import meaning
from tellapart.report.overfitting import Learning, State
from tellapart.report.words import NARROW, between, counted, listed, percent

Mark = Literal["good", "care", "stop"]
_WIDE, _VAGUE = 0.05, 0.25  # width of the interval of accuracy
_FEWEST_OF_CLASS = 10
_TOLD = 0.05
"""Calibration error: where chance alone explains more, little can be told of probabilities."""
_LONGEST_MEANING = 160


@dataclass(frozen=True)
class Point:
    """mark: good, care or stop. section: the id of the part of the page that shows more."""

    mark: Mark
    title: str
    sentence: str
    section: str


@dataclass(frozen=True)
class Verdict:
    headline: str
    conclusion: str
    mark: Mark
    points: tuple[Point, ...]


def judge(
    found: Evaluation,
    findings: Sequence[Finding],
    learning: Learning,
    clean: Evaluation | None = None,
    interrupted: str = "",
) -> Verdict:
    """learning: what the history tells. clean: the evaluation without test pictures that training has seen.
    interrupted: what to do about a run that was stopped early, or ""."""
    points = [
        *([Point("stop", "Training was interrupted", interrupted, "training")] if interrupted else []),
        _guessing(found),
        _precision(found),
        *_evenness(found),
        _honesty(found),
        *_sure(found),
        _pictures(findings, clean, found),
        _learned(learning),
    ]
    worst: Mark = next((mark for mark in ("stop", "care") if any(point.mark == mark for point in points)), "good")
    return Verdict(headline(found), _conclusion(points, worst), worst, tuple(points))


def headline(found: Evaluation) -> str:
    """How many were named right, with the interval, in one sentence."""
    hits, n = round(found.accuracy.value * found.n), found.n
    unseen = " it had never seen" if found.split == "test" else ""
    return (
        f"Of {counted(n, f'{found.split} picture')}{unseen}, {hits:,} {'was' if hits == 1 else 'were'} named right: "
        f"{percent(found.accuracy.value)} ({100 * found.level:g}{NARROW}% interval {between(found.accuracy)})."
    )


def _conclusion(points: Sequence[Point], worst: Mark) -> str:
    if worst == "stop":
        reasons = [point.title[0].lower() + point.title[1:] for point in points if point.mark == "stop"]
        return f"Do not rely on this figure yet: {listed(reasons)}."
    if worst == "care":
        titles = [point.title[0].lower() + point.title[1:] for point in points if point.mark == "care"]
        return f"This figure holds for pictures like these, with care: {listed(titles)}."
    return "This figure can be relied on for pictures like these. Whether it is enough depends on what a mistake costs."


def _guessing(found: Evaluation) -> Point:
    largest = max(found.per_class, key=lambda row: row.support)
    share = largest.support / found.n
    always = f"Always answering {largest.label} would be right for {percent(share)}."
    if found.accuracy.low > share:
        return Point("good", "Better than guessing", always, "figures")
    return Point("stop", "No better than guessing", f"{always} It may have learned nothing.", "figures")


def _precision(found: Evaluation) -> Point:
    low, high = (round(1000 * (1 - limit)) for limit in (found.accuracy.high, found.accuracy.low))
    expect = f"In use, expect {low} to {high} mistakes in 1,000 pictures like these."
    width = found.accuracy.high - found.accuracy.low
    if found.split != "test":
        sentence = f"These {found.split} pictures also chose what was kept, so expect somewhat less. {expect}"
        return Point("care", "No test split", sentence, "figures")
    if width <= _WIDE:
        return Point("good", "Enough test pictures", expect, "figures")
    more = f"{expect} Four times as many test pictures halve that range."
    return Point("care" if width <= _VAGUE else "stop", "Few test pictures", more, "figures")


def _evenness(found: Evaluation) -> list[Point]:
    rows = [row for row in found.per_class if row.recall and row.support >= _FEWEST_OF_CLASS]
    if not rows:
        return []
    weakest = min(rows, key=lambda row: row.recall.value if row.recall else 1.0)
    if weakest.recall is None or weakest.recall.value == 1:
        return []
    figures = f"{percent(weakest.recall.value)} ({between(weakest.recall)}) of its pictures are named right"
    taken = _taken_for(found, weakest)
    sentence = f"The weakest class is {weakest.label}: {figures}{taken}."
    if weakest.recall.high < found.accuracy.low:
        return [Point("care", "Uneven classes", sentence, "classes")]
    return [Point("good", "Even classes", f"{sentence} By chance alone it could be as good as the rest.", "classes")]


def _taken_for(found: Evaluation, row: ClassMetrics) -> str:
    if len(found.per_class) < 3:
        return ""
    place = next(i for i, other in enumerate(found.per_class) if other is row)
    counts = found.confusion[place].copy()
    counts[place] = 0
    return f", most others {found.per_class[int(counts.argmax())].label}"


def _honesty(found: Evaluation) -> Point:
    honest, sentence = meaning(found.calibration)
    told = found.calibration.by_chance <= _TOLD
    title = "Honest probabilities" if told else "No sign of dishonest probabilities"
    title = title if honest else "Probabilities to take with salt"
    return Point("good" if honest else "care", title, sentence, "certainty")


def _sure(found: Evaluation) -> list[Point]:
    sure = found.verdicts.get("sure")
    if sure is None:
        return []
    if sure.accuracy is None:
        return [Point("care", "No sure answers", "No answer reached the probability of a sure one.", "certainty")]
    share = percent(sure.n / found.n)
    sentence = (
        f"{share} of the answers are sure, and {percent(sure.accuracy.value)} ({between(sure.accuracy)}) of those are "
        "right; the others are for a person."
    )
    if sure.n < found.n / 2:
        return [Point("care", "Often unsure", sentence, "certainty")]
    return [Point("good", "Says when it is unsure", sentence, "certainty")]


def _pictures(findings: Sequence[Finding], clean: Evaluation | None, found: Evaluation) -> Point:
    asking = [finding for finding in findings if finding.needs_person]
    seen = ""
    if clean is not None and clean.n < found.n:
        seen = (
            f" On the {clean.n:,} test pictures without a likeness in training it is right for "
            f"{percent(clean.accuracy.value)} ({between(clean.accuracy)})."
        )
    if not asking:
        return Point("good", "Nothing odd in the pictures", f"No finding needs a person.{seen}", "pictures")
    errors = [finding for finding in asking if finding.severity == "error"]
    first = (errors or asking)[0].meaning
    first = first if len(first) <= _LONGEST_MEANING else first[: _LONGEST_MEANING - 1] + "…"
    more = f" And {counted(len(asking) - 1, 'more finding')}." if asking[1:] else ""
    if errors:
        return Point("stop", "Faults in the pictures", f"{first}{more}{seen}", "pictures")
    return Point("care", "Findings in the pictures", f"{first}{more}{seen}", "pictures")


_LEARNING: dict[State, tuple[Mark, str]] = {
    "unknown": ("good", "Short training"),
    "broken": ("stop", "Training broke off"),
    "overfits": ("good", "Kept before it overfits"),
    "overfits-kept": ("care", "Kept while it overfits"),
    "worse": ("care", "Unsteady training"),
    "learning": ("care", "Still learning"),
    "level": ("good", "No overfitting"),
    "linear": ("good", "A head fitted to its end"),
}


def _learned(found: Learning) -> Point:
    mark, title = _LEARNING[found.state]
    more = " More epochs may bring more." if found.state == "learning" else ""
    return Point(mark, title, found.sentence + more, "training")
