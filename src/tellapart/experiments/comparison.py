"""Two or more runs -> RunsComparison: which is better on the same images, how significantly, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tellapart.errors import RunError
from tellapart.evaluation.compare import LEVEL, Comparison, compare, compare_all
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.runs.run import RunFolder
from tellapart.runs.shared_images import Common, CommonImage, LeftOut, common_images
from tellapart.task import require_one_label
from tellapart.words import listed, percent
from tellapart.words import points as points_of

FEWEST_UNEVEN = 6  # images on which only one is right: with fewer the exact test shows nothing at 0.05


@dataclass(frozen=True)
class Pair:
    """Two runs by name. adjusted_p: Holm-corrected for all reported pairs; for a single pair, the p-value itself."""

    first: str
    second: str
    adjusted_p: float
    comparison: Comparison

    @property
    def shown(self) -> bool:
        """Whether the difference is significant, by the exact test."""
        return self.adjusted_p <= 1 - self.comparison.level

    @property
    def better(self) -> str:
        """The name with the higher accuracy; the first if they are equal."""
        return self.second if self.comparison.difference.value > 0 else self.first

    @property
    def worse(self) -> str:
        return self.first if self.better == self.second else self.second

    def to_dict(self) -> dict[str, Any]:
        head = {"first": self.first, "second": self.second, "adjusted_p": self.adjusted_p, "shown": self.shown}
        return head | self.comparison.to_dict()


@dataclass(frozen=True)
class RunsComparison:
    """Runs on the images that all were evaluated on.

    runs: folders as given; names: to show them by. accuracies: on these images, in order of the runs. best: position
    of the highest, the first of equal ones. pairs: for two runs, the pair as given; for more, every other run as
    `first` against the best as `second`. differing: the images with different predictions; those on which only some
    runs are right come first, the most confident mistake first. notes: limits of the comparison.
    """

    runs: tuple[RunFolder, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    n: int
    level: float
    accuracies: tuple[Estimate, ...]
    best: int
    pairs: tuple[Pair, ...]
    differing: tuple[CommonImage, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Which run is better, or that no difference is shown, in a sentence or two."""
        return _verdict_of_two(self.pairs[0]) if len(self.pairs) == 1 else _verdict_of_many(self)

    def to_dict(self, images: int | None = None) -> dict[str, Any]:
        """Plain JSON values, with a limited number of the images on which the runs differ."""
        return {
            "verdict": self.verdict,
            "n": self.n,
            "level": self.level,
            "runs": [
                {"run": str(run.path), "name": name, "split": split, "accuracy": accuracy.to_dict()}
                for run, name, split, accuracy in zip(self.runs, self.names, self.splits, self.accuracies, strict=True)
            ],
            "best": self.names[self.best],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "left_out": [asdict(each) for each in self.left_out],
            "notes": list(self.notes),
            "differ": len(self.differing),
            "images": [
                {
                    "path": image.path,
                    "truth": image.truth,
                    "answers": {name: asdict(answer) for name, answer in zip(self.names, image.answers, strict=True)},
                }
                for image in self.differing[:images]
            ],
        }


def compare_runs(runs: Sequence[RunFolder]) -> RunsComparison:
    """Compare two or more runs on the same images.

    Raises RunError for fewer, one given twice, or runs without common test images.
    """
    places = [run.path.resolve() for run in runs]
    if len(runs) < 2 or len(set(places)) < len(places):
        given = ", ".join(str(run.path) for run in runs) or "none"
        raise RunError(f"Comparing takes two or more runs, each once; given {given}.")
    for run in runs:
        require_one_label(
            run.task.several, "compare", "Evaluate each run on the same images: tellapart evaluate RUN DATA."
        )
    names = _names(runs)
    common = common_images(runs, names)
    truth, said = common.positions()
    hits = [int((answers == truth).sum()) for answers in said]
    best = hits.index(max(hits))
    chosen = [(0, 1)] if len(runs) == 2 else [(index, best) for index in range(len(runs)) if index != best]
    adjusted = compare_all(truth, said)
    pairs = tuple(
        Pair(
            names[i],
            names[j],
            adjusted[min(i, j), max(i, j)],
            compare(common.classes, truth, said[i], said[j]),
        )
        for i, j in chosen
    )
    return RunsComparison(
        runs=tuple(runs),
        names=names,
        classes=common.classes,
        splits=common.splits,
        n=len(truth),
        level=LEVEL,
        accuracies=tuple(proportion(count, len(truth), LEVEL) for count in hits),
        best=best,
        pairs=pairs,
        differing=_differing(common),
        left_out=common.left_out,
        notes=_notes(runs, names, common, pairs),
    )


def share(value: float, n: int) -> str:
    """A share of n images in percent, with as many decimals as n supports.

    >>> share(0.9625, 400), share(0.96254, 10_000)
    ('96.2 %', '96.25 %')
    """
    return percent(value, _decimals(n))


def points(estimate: Estimate, n: int) -> str:
    """A difference of shares, with its interval, in percentage points.

    >>> points(Estimate(0.022, -0.004, 0.041), 400)
    '+2.2 (-0.4 to +4.1)'
    """
    digits = _decimals(n)
    value, low, high = (f"{100 * part:+.{digits}f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def p_text(p: float) -> str:
    """
    >>> p_text(0.0525), p_text(0.00002)
    ('0.052', 'below 0.001')
    """
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"


def _decimals(n: int) -> int:
    return 1 if n < 2000 else 2


def _names(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """The folders' names, or the paths of those that share one."""
    names = [run.path.resolve().name for run in runs]
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else str(run.path) for name, run in zip(names, runs, strict=True))


def _differing(common: Common) -> tuple[CommonImage, ...]:
    def key(image: CommonImage) -> tuple[bool, float, str]:
        right = [answer.label == image.truth for answer in image.answers]
        wrong = [answer.probability for answer in image.answers if answer.label != image.truth]
        return not any(right), -max(wrong), image.path

    found = (p for p in common.images if len({answer.label for answer in p.answers}) > 1)
    return tuple(sorted(found, key=key))


def _notes(runs: Sequence[RunFolder], names: Sequence[str], common: Common, pairs: Sequence[Pair]) -> tuple[str, ...]:
    notes = [
        f"{name} has no test split: it is evaluated on its {split} split, which was also used for model selection, "
        "so its accuracy is optimistic."
        for name, split in zip(names, common.splits, strict=True)
        if split != "test"
    ]
    notes += [
        f"{name} was not trained to the end: its status is {run.status!r}."
        for run, name in zip(runs, names, strict=True)
        if run.status != "done"
    ]
    for pair in pairs:
        difference = pair.comparison.difference
        if len(pairs) == 1 and not pair.shown and not difference.low <= 0 <= difference.high:
            notes.append(
                "It is a close call: the interval excludes 0, but the exact test, the stricter of the two, does not "
                "show a difference."
            )
    if len(pairs) > 1:
        notes.append(
            f"p is Holm-corrected for all {len(runs) * (len(runs) - 1) // 2} pairs, as the best was selected on these "
            "same images; each interval is for its pair alone."
        )
    return tuple(notes)


def _verdict_of_two(pair: Pair) -> str:
    found = pair.comparison
    n = found.n
    high, low = (found.second, found.first) if pair.better == pair.second else (found.first, found.second)
    more, less = max(found.only_first, found.only_second), min(found.only_first, found.only_second)
    test = f"McNemar's exact test, p {_p_words(pair.adjusted_p)}"
    if not more:
        return f"No difference shown: both are right on the very same images, {share(high.value, n)} of {n:,}."
    if pair.shown:
        return (
            f"{pair.better} is better than {pair.worse}: {share(high.value, n)} against {share(low.value, n)} of the "
            f"same {n:,} images. Only {pair.better} is right on {more:,}, only {pair.worse} on {less:,} ({test})."
        )
    figures = f"{share(found.first.value, n)} and {share(found.second.value, n)} of the same {n:,} images"
    alone = f"only {pair.first} is right on {found.only_first:,}, only {pair.second} on {found.only_second:,}"
    return f"No difference shown: {figures}; {alone} ({test}). {_reach(found)}"


def _reach(found: Comparison) -> str:
    """The smallest difference these images could have shown, and how many would show the observed one."""
    together = found.only_first + found.only_second
    if found.smallest_difference is None:
        text = f"With fewer than {FEWEST_UNEVEN} images on which only one is right, none can be shown."
    else:
        digits = _decimals(found.n)
        text = (
            f"With {together:,} images on which only one is right, it takes a difference of "
            f"{points_of(found.smallest_difference, digits)}."
        )
    if found.images_needed is not None:
        text += f" If the true difference is as seen, about {found.images_needed:,} images would likely show it."
    return text


def _verdict_of_many(found: RunsComparison) -> str:
    best = found.names[found.best]
    accuracy = share(found.accuracies[found.best].value, found.n)
    worse = [pair.first for pair in found.pairs if pair.shown]
    equal = [pair.first for pair in found.pairs if not pair.shown]
    text = f"{best} has the highest accuracy, {accuracy} of the same {found.n:,} images."
    if worse:
        text += f" It is better than {listed(worse, len(worse))}."
    if equal:
        text += f" No difference shown from {listed(equal, len(equal))}."
    return text


def _p_words(p: float) -> str:
    return p_text(p) if p < 0.001 else f"= {p_text(p)}"
