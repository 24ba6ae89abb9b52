"""LadderFolder -> LadderResult: accuracy and cost of each rung, which steps made a difference, which rung to take.

No choice uses the test split. The recommendation is made on the validation images: a rung is excluded if the interval
of its paired difference from the best excludes 0. This is neither corrected for multiple comparisons nor as strict as
the exact test, as taking a worse rung for as good as the best would be the costlier mistake. The effect of each step is
measured on the test images, by exact tests corrected (Holm) for the number of steps, which was fixed before any image
was seen. Reads: run folders, ladder.json.
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
    parameters: int | None
    epochs: int

    @property
    def name(self) -> str:
        return self.rung.name

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
class LadderResult:
    """standings: in the order of the ladder. steps: from one rung to the next that has a network. n: images of `split`
    used for evaluation; validation_n: validation images used for the choice; left_out: copies in `split`."""

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
    def advice(self) -> str:
        """Which rung to take and why, in two or three sentences."""
        return _advice(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """Limits of the result."""
        return _notes(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "ladder": str(self.ladder.path),
            "advice": self.advice,
            "recommended": self.choice.recommended,
            "budget_seconds": self.ladder.record["budget_seconds"],
            "spent_seconds": self.ladder.record["spent_seconds"],
            "split": self.split,
            "n": self.n,
            "level": LEVEL,
            "rungs": [each.to_dict() for each in self.standings],
            "steps": [step.to_dict() for step in self.steps],
            "choice": self.choice.to_dict() | {"n": self.validation_n},
            "notes": list(self.notes),
        }


def stand(ladder: LadderFolder, catalog: Catalog) -> LadderResult:
    """Evaluate the rungs that have a network. Raises RunError if none has."""
    reached = [rung for rung in ladder.rungs if ladder.states[rung.name].judged]
    if not reached:
        errors = [state.error for state in ladder.states.values() if state.error]
        raise RunError(
            f"No rung of {ladder.path} has a network: "
            + (
                errors[0]
                if errors
                else f"no epoch ended in time. Resume with more: {ladder.resume_command} --budget 10m"
            )
        )
    runs, names = [ladder.run(rung.name) for rung in reached], [rung.name for rung in reached]
    common = common_images(runs, names)
    truth, said = common.positions()
    accuracies = dict(zip(names, (_accuracy(truth, answers) for answers in said), strict=True))
    held = validated(catalog)
    answered = {name: _positions(held, ladder.states[name].validation or []) for name in names}
    choice = _choose(ladder, names, held, answered)
    standings = tuple(_standing(ladder, rung, accuracies, held, answered) for rung in ladder.rungs)
    comparisons = [compare(common.classes, truth, a, b) for a, b in pairwise(said)]
    adjusted = holm([each.p for each in comparisons])
    pairs = zip(names[:-1], names[1:], adjusted, comparisons, strict=True)
    left_out = sum(each.images for each in common.left_out)
    steps = tuple(Pair(*each) for each in pairs)
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


def _standing(
    ladder: LadderFolder, rung: Rung, accuracies: dict[str, Estimate], held: Catalog, answered: dict[str, Ints]
) -> Standing:
    run, reached, begun = ladder.run(rung.name), rung.name in accuracies, ladder.begun(rung.name)
    return Standing(
        rung,
        ladder.states[rung.name],
        run,
        accuracies.get(rung.name),
        _accuracy(held.class_indices(), answered[rung.name]) if reached else None,
        run.record.parameters if reached else None,
        len(run.history) if begun else 0,
    )


def _positions(held: Catalog, labels: Sequence[str]) -> Ints:
    return np.array([held.task.index(label) for label in labels], dtype=np.int64)


def _accuracy(truth: Ints, answers: Ints) -> Estimate:
    return proportion(int((truth == answers).sum()), len(truth), LEVEL)


def _advice(found: LadderResult) -> str:
    choice = found.choice
    taken, best = found.standing(choice.recommended), found.standing(choice.best)
    right = taken.accuracy.value if taken.accuracy else 0.0
    reached = f"{share(right, found.n)} of {found.n:,} {found.split} images"
    text = (
        f"Take {taken.name}: it classifies {reached} correctly and takes {taken.state.milliseconds:.3g} ms per image."
    )
    worse = [name for name in choice.against if choice.worse(name)]
    some_missing = len(choice.against) + 1 < len(found.standings)
    # Rungs without a network are in no comparison.
    if taken.name != best.name:
        difference = choice.against[taken.name].difference
        text += (
            f" {best.name} is the best on the {found.validation_n:,} validation images, by "
            f"{points_of(difference.value)} (95 % interval {100 * difference.low:+.1f} to "
            f"{100 * difference.high:+.1f}): not significant, though it may be real."
        )
    elif not choice.against:
        text += " No other rung has a network, so nothing is compared."
    elif len(worse) == len(choice.against):
        others = "every other rung that was tried" if some_missing else "every other rung"
        text += f" On the {found.validation_n:,} validation images {others} is significantly worse."
    else:
        equal = [name for name in choice.against if name not in worse]
        text += (
            f" It is the best on the {found.validation_n:,} validation images; what is not significantly worse there "
            f"({listed(equal, len(equal))}) costs more."
        )
    return text


def _notes(found: LadderResult) -> tuple[str, ...]:
    notes = []
    for each in found.standings:
        if each.state.status == "time up":
            run = found.ladder.run(each.name)
            sentence = kept(run.history, run.record.best_epoch, run.record.stop)
            notes.append(f"{each.name}: {sentence[0].lower()}{sentence[1:]}")
        elif each.state.status == "not reached":
            notes.append(f"{each.name}: not reached, as none of its epochs ended in time.")
        elif each.state.status == "failed":
            notes.append(f"{each.name} failed: {each.state.error}")
    if any(each.state.status in ("time up", "not reached") for each in found.standings):
        notes.append(f"With more time they can continue: {found.ladder.resume_command} --budget 30m")
    if found.split != "test":
        notes.append("There is no test split: accuracies are on the images used for the choice, and are optimistic.")
    if found.left_out:
        notes.append(f"{found.left_out:,} {found.split} images are not counted: copies, or copies of training images.")
    worse = {step.first for step in found.steps if step.shown and step.second == found.choice.best}
    if found.choice.recommended in worse:
        notes.append(
            f"The test images show {found.choice.recommended} to be worse than {found.choice.best}. They are not "
            "used for the choice; more validation images would have shown it."
        )
    return tuple(notes)
