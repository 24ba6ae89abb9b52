"""Verdict: may this run be used, for what, and what to do next. Made by judge; shown everywhere in the same words.

What terminal, report, page and JSON show are these sentences as they stand; none of them makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Mark = Literal["good", "care", "stop"]
Use = Literal["alone", "with a person", "not yet"]
MARKS: tuple[Mark, ...] = get_args(Mark)


@dataclass(frozen=True)
class Point:
    """One point that the verdict is based on. section: the id of the report section with details. blocks: whether the
    run must not be used at all before that is fixed."""

    mark: Mark
    title: str
    sentence: str
    section: str
    blocks: bool = False


@dataclass(frozen=True)
class Step:
    """What to do next. gain: the largest possible gain, as a share of the predictions, 0..1. reason: the metric of the
    run behind it."""

    name: str
    text: str
    gain: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """use: `alone` if sure predictions need no review, `with a person` who reviews every one, `not yet`.
    mark: of the worst point. headline: the accuracy. conclusion: what it may be used for. alone: the share that it
    predicts alone, and the accuracy there. weakest: the weakest class and its confusion. next: the step with the
    largest possible gain. points: the worst first.
    """

    use: Use
    mark: Mark
    headline: str
    conclusion: str
    alone: str
    weakest: str
    next: Step
    points: tuple[Point, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict in short, from whether to use it to what to do next."""
        step = f"Next: {self.next.text[0].lower()}{self.next.text[1:]} {self.next.reason}"
        return tuple(line for line in (self.conclusion, self.alone, self.weakest, step) if line)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "points": [asdict(point) for point in self.points]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`. Raises LookupError, TypeError or ValueError for anything else."""
        texts = {name: _text(values[name]) for name in ("headline", "conclusion", "alone", "weakest")}
        if values["use"] not in get_args(Use):
            raise ValueError(f"use is one of {', '.join(get_args(Use))}; given {values['use']!r}")
        step = values["next"]
        points = tuple(
            Point(
                _mark(row["mark"]),
                _text(row["title"]),
                _text(row["sentence"]),
                _text(row["section"]),
                bool(row["blocks"]),
            )
            for row in values["points"]
        )
        return cls(
            use=values["use"],
            mark=_mark(values["mark"]),
            **texts,
            next=Step(_text(step["name"]), _text(step["text"]), float(step["gain"]), _text(step["reason"])),
            points=points,
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, given {value!r}")
    return value


def _mark(value: Any) -> Mark:
    for mark in MARKS:
        if value == mark:
            return mark
    raise ValueError(f"mark is one of {', '.join(MARKS)}; given {value!r}")
