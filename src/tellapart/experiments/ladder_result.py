"""LadderFolder -> LadderResult: accuracy and cost of each rung, which steps made a difference, which rung to take.

No choice uses the test split. The recommendation is made on the validation images: a rung is excluded if the interval
of its paired difference from the best excludes 0. This is neither corrected for multiple comparisons nor as strict as
the exact test, as taking a worse rung for as good as the best would be the costlier mistake. The effect of each step is
measured on the test images, by exact tests corrected (Holm) for the number of steps, which was fixed before any image
was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tellapart.data.catalog import Catalog
from tellapart.errors import RunError
from tellapart.evaluation.compare import LEVEL, Comparison, compare, holm
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.metrics import Ints
from tellapart.evaluation.overfitting import kept
from tellapart.experiments.comparison import Pair, share
from tellapart.experiments.ladder import LadderFolder, State, validated
from tellapart.experiments.rungs import Rung
from tellapart.experiments.study import StudyResult
from tellapart.runs.run import RunFolder
from tellapart.runs.shared_images import common_images
from tellapart.words import listed
from tellapart.words import points as points_of

AS_FAST = 1.25
"""Times of one image that differ by no more than this factor count as equal."""


@dataclass(frozen=True)
class Standing:
    """One rung. accuracy: on the evaluated images; validation: on the validation images. None without a network."""

    rung: Rung
    state: State
    run: RunFolder
    accuracy: Estimate | None
    validation: Estimate | None

    @property
    def name(self) -> str:
        return self.rung.name

    @property
    def parameters(self) -> int | None:
        return self.run.record.parameters if self.accuracy else None

    @property
    def epochs(self) -> int:
        return len(self.run.history)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "adds": self.rung.adds,
            "run": str(self.run.path),
            "status": self.state.status,
            "error": self.state.error,
            "accuracy": self.accuracy and self.accuracy.to_dict(),
            "validation_accuracy": self.validation and self.validation.to_dict(),
            "parameters": self.parameters,
            "file_bytes": self.state.file_bytes,
            "milliseconds": self.state.milliseconds,
            "wall_seconds": self.state.wall_seconds,
            "processor_seconds": self.state.processor_seconds,
            "epochs": self.epochs,
        }


@dataclass(frozen=True)
class Choice:
    """best: the rung with the highest accuracy on the validation images. against: each other rung compared with it
    there, `first` is the rung. recommended: the cheapest that is not significantly worse."""

    best: str
    recommended: str
    against: dict[str, Comparison]

    def worse(self, name: str) -> bool:
        """Whether the rung is significantly worse than the best."""
        found = self.against.get(name)
        return found is not None and found.difference.low > 0

    def to_dict(self) -> dict[str, Any]:
        against = {
            name: {"worse": self.worse(name), "difference": found.difference.to_dict()}
            for name, found in self.against.items()
        }
        return {"best": self.best, "recommended": self.recommended, "against_best": against}


@dataclass(frozen=True)
class LadderResult(StudyResult):
    """standings: in the order of the ladder. steps: from one rung to the next that has a network. n: evaluated images,
    of `split`; validation_n: images used for selection; left_out: copies in `split`."""

    ladder: LadderFolder
    standings: tuple[Standing, ...]
    steps: tuple[Pair, ...]
    choice: Choice
    split: str
    n: int
    validation_n: int
    left_out: int

    def standing(self, name: str) -> Standing:
        return next(each for each in self.standings if each.name == name)

    @property
    def study(self) -> LadderFolder:
        return self.ladder

    @property
    def advice(self) -> str:
        """Which rung to take and why, in two or three sentences."""
        choice = self.choice
        taken, best = self.standing(choice.recommended), self.standing(choice.best)
        right = taken.accuracy.value if taken.accuracy else 0.0
        reached = f"{share(right, self.n)} of {self.n:,} {self.split} images"
        text = f"Take {taken.name}: {reached} classified correctly, {taken.state.milliseconds:.3g} ms per image."
        worse = [name for name in choice.against if choice.worse(name)]
        some_missing = len(choice.against) + 1 < len(self.standings)
        # Rungs without a network are in no comparison.
        if taken.name != best.name:
            difference = choice.against[taken.name].difference
            text += (
                f" {best.name} is the best on the {self.validation_n:,} validation images, by "
                f"{points_of(difference.value)} (95 % interval {100 * difference.low:+.1f} to "
                f"{100 * difference.high:+.1f}), which is not significant."
            )
        elif not choice.against:
            text += " No other rung has a network, so nothing is compared."
        elif len(worse) == len(choice.against):
            others = "every other rung that was tried" if some_missing else "every other rung"
            text += f" On the {self.validation_n:,} validation images {others} is significantly worse."
        else:
            equal = [name for name in choice.against if name not in worse]
            text += (
                f" It is the best on the {self.validation_n:,} validation images; the rungs that are not "
                f"significantly worse there ({listed(equal, len(equal))}) cost more."
            )
        return text

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the result."""
        notes = []
        for each in self.standings:
            if each.state.status == "time up":
                run = self.ladder.run(each.name)
                sentence = kept(run.history, run.record.best_epoch, run.record.stop)
                notes.append(f"{each.name}: {sentence[0].lower()}{sentence[1:]}")
            elif each.state.status == "not reached":
                notes.append(f"{each.name}: not reached, as none of its epochs ended in time.")
            elif each.state.status == "failed":
                notes.append(f"{each.name} failed: {each.state.error}")
        if any(each.state.status in ("time up", "not reached") for each in self.standings):
            notes.append(f"They continue with more time: {self.ladder.resume_command} --budget 30m")
        if self.split != "test":
            notes.append(
                "There is no test split: accuracies are of the validation images, which also selected the rung, so "
                "they are optimistic."
            )
        if self.left_out:
            notes.append(f"{self.left_out:,} {self.split} images are left out: copies, or copies of training images.")
        worse = {step.first for step in self.steps if step.shown and step.second == self.choice.best}
        if self.choice.recommended in worse:
            notes.append(
                f"The test images show {self.choice.recommended} to be significantly worse than {self.choice.best}. "
                "Test images are not used to select; more validation images would have shown it."
            )
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "recommended": self.choice.recommended,
            "split": self.split,
            "n": self.n,
            "rungs": [each.to_dict() for each in self.standings],
            "steps": [step.to_dict() for step in self.steps],
            "choice": self.choice.to_dict() | {"n": self.validation_n},
        }


def stand(ladder: LadderFolder, catalog: Catalog) -> LadderResult:
    """Evaluate the rungs that have a network. Raises RunError if none has."""
    reached = [rung for rung in ladder.rungs if ladder.states[rung.name].judged]
    if not reached:
        errors = [state.error for state in ladder.states.values() if state.error]
        errors.append(f"no epoch ended in time. Resume with more: {ladder.resume_command} --budget 10m")
        raise RunError(f"No rung of {ladder.path} has a network: {errors[0]}")
    runs, names = [ladder.run(rung.name) for rung in reached], [rung.name for rung in reached]
    common = common_images(runs, names)
    truth, said = common.positions()
    accuracies = {name: _accuracy(truth, answers) for name, answers in zip(names, said, strict=True)}
    held = validated(catalog)
    answered = {name: _positions(held, ladder.states[name].validation or []) for name in names}
    chose = {name: _accuracy(held.class_indices(), answers) for name, answers in answered.items()}
    standings = tuple(
        Standing(rung, ladder.states[name], ladder.run(name), accuracies.get(name), chose.get(name))
        for name, rung in zip(ladder.trial_names, ladder.rungs, strict=True)
    )
    comparisons = [compare(common.classes, truth, a, b) for a, b in pairwise(said)]
    adjusted = holm([each.p for each in comparisons])
    steps = tuple(map(Pair, names[:-1], names[1:], adjusted, comparisons))
    choice = _choose(ladder, names, held, answered)
    left_out = sum(each.images for each in common.left_out)
    return LadderResult(ladder, standings, steps, choice, common.splits[0], len(truth), len(held), left_out)


def cheapest(states: dict[str, State]) -> str:
    """The name of the state with the least time per image; among those about as fast, the one that took the least CPU
    time to train."""
    quickest = min(state.milliseconds or 0.0 for state in states.values())
    fast = {name: s for name, s in states.items() if (s.milliseconds or 0.0) <= AS_FAST * quickest}
    return min(fast, key=lambda name: fast[name].processor_seconds)


def _choose(ladder: LadderFolder, names: Sequence[str], held: Catalog, answered: dict[str, Ints]) -> Choice:
    truth = held.class_indices()
    hits = {name: int((answered[name] == truth).sum()) for name in names}
    top = [name for name in names if hits[name] == max(hits.values())]
    best = cheapest({name: ladder.states[name] for name in top})
    against = {
        name: compare(held.task.classes, truth, answered[name], answered[best]) for name in names if name != best
    }
    draft = Choice(best, best, against)
    good = {name: ladder.states[name] for name in names if not draft.worse(name)}
    return Choice(best, cheapest(good), against)


def _positions(held: Catalog, labels: Sequence[str]) -> Ints:
    return np.array([held.task.index(label) for label in labels], dtype=np.int64)


def _accuracy(truth: Ints, answers: Ints) -> Estimate:
    return proportion(int((truth == answers).sum()), len(truth), LEVEL)
