"""Evidence of a run -> Verdict: may it be used, for what, and what to do next.

In: Evidence, plain values. Out: Verdict, the same words for terminal, report, page and JSON. The rules, in short:

- **May it predict alone?** If its sure predictions reach the target accuracy (train.sure_accuracy): the 95 % interval
  of their accuracy reaches it, and there are enough of them to tell. Otherwise a person reviews every prediction.
- **Not yet** if the accuracy is meaningless: no better than guessing, interrupted or diverged training, too few test
  images, or copies of training images that make the test easy.
- **Validation compared with test comes first** if the difference is significant (Fisher's exact test): the test images
  differ from those that selected the network and its thresholds.
- **A finding counts by what it can change**: the test predictions of the images it names. One that can change less than
  the interval is reported and requires nothing.
- Points are sorted by their mark, the worst first; within a mark they are in the order of POINTS.

docs/trust.md explains the same rules to readers of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tellapart.data.findings import Finding
from tellapart.errors import some
from tellapart.evaluation.calibration import Reliability
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.evidence import Evidence, evaluations_of, evidence_of, predictions_of
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.judgement import MARKS, Mark, Point, Use, Verdict
from tellapart.evaluation.overfitting import State
from tellapart.evaluation.steps import next_step
from tellapart.runs.run import RunFolder
from tellapart.words import between, counted, listed, measured, percent, points

_WIDE = 0.05
"""Width of the interval up to which the accuracy is precise enough."""
_UNPROVEN = 0.05
"""How far below the target the interval of sure predictions may begin: beyond that, they are too few."""
_WORSE = 0.05
"""A loss from validation to test significantly larger than this stops; a smaller one is a warning."""
_FAULTY = 0.1
"""Share of the test predictions that an error in the images can change, from which the accuracy is meaningless."""
_TOLD = 0.05
"""Calibration error: if chance alone explains more, the probabilities cannot be assessed."""
_LONGEST_MEANING = 160
_CORRECT = {False: "classified correctly", True: "given exactly their labels"}
"""What a prediction is that is right, by whether images have several labels."""


def judge(found: Evidence) -> Verdict:
    """The verdict on a run, or on its predictions for other images."""
    made = [point for rule in POINTS for point in rule(found)]
    ordered = tuple(sorted(made, key=lambda point: -MARKS.index(point.mark)))
    use = _use(found, ordered)
    return Verdict(
        use=use,
        mark=ordered[0].mark,
        headline=headline(found.evaluation, found.own),
        conclusion=_conclusion(found.evaluation, use, ordered),
        alone=_alone(found),
        weakest=_weakest(found),
        next=next_step(found),
        points=ordered,
    )


def judged(found: Evidence) -> Evaluation:
    """The evaluation with its verdict."""
    return replace(found.evaluation, verdict=judge(found))


def verdict_of(run: RunFolder) -> Verdict:
    """As stored in metrics.json; computed now for a run of an earlier version without verdicts. Raises RunError
    if there is no evaluation."""
    evaluation, clean = evaluations_of(run)
    said = predictions_of(run, evaluation)
    return evaluation.verdict or judge(evidence_of(run, run.record, evaluation, said, clean=clean))


def headline(found: Evaluation, own: bool = True) -> str:
    """How many were classified correctly, with the interval, in one sentence."""
    hits, n = round(found.accuracy.value * found.n), found.n
    of = counted(n, f"{found.split} image" if own else "image")
    unseen = " it had never seen" if found.split == "test" and own else ""
    return (
        f"Of {of}{unseen}, {hits:,} {'was' if hits == 1 else 'were'} {_CORRECT[found.several]}: "
        f"{percent(found.accuracy.value)} ({percent(found.level, None)} interval {between(found.accuracy)})."
    )


def _use(found: Evidence, made: Sequence[Point]) -> Use:
    if any(point.blocks for point in made):
        return "not yet"
    return "alone" if _holds(found) else "with a person"


def _holds(found: Evidence) -> bool:
    """Whether sure predictions reach the target accuracy significantly."""
    sure, target = found.evaluation.verdicts.get("sure"), found.target
    if sure is None or sure.accuracy is None or target is None:
        return False
    return sure.accuracy.high >= target and sure.accuracy.low >= target - _UNPROVEN


def _conclusion(found: Evaluation, use: Use, made: Sequence[Point]) -> str:
    def because(mark: Mark) -> str:
        titles = [point.title[0].lower() + point.title[1:] for point in made if point.mark == mark]
        return listed(titles)

    if use == "not yet":
        return f"Do not use it yet: {because('stop')}."
    care = f" Note: {because('care')}." if because("care") else ""
    if use == "with a person":
        why = because("stop")
        return f"Use it only with a person who reviews every prediction{': ' + why if why else ''}.{care}"
    share = percent(found.verdicts["sure"].n / found.n)
    return f"Use it: its sure predictions, {share} of images like these, need no review.{care}"


def _alone(found: Evidence) -> str:
    """The share predicted without a person, and the accuracy there."""
    sure = found.evaluation.verdicts.get("sure")
    if sure is None or found.target is None:
        return ""
    if sure.accuracy is None:
        return "No prediction is sure: every one needs a person."
    share = percent(sure.n / found.evaluation.n)
    return (
        f"Sure of {share} of the images; {measured(sure.accuracy)} of these predictions are correct, "
        f"the target is {percent(found.target, None)}. The others need a person."
    )


def _weakest(found: Evidence) -> str:
    """The class with the lowest recall, and what it is confused with."""
    row = found.weakest
    if row is None or row.recall is None:
        return f"Weakest: no class; none of {counted(found.evaluation.n, 'image')} was misclassified." * (
            not found.evaluation.mistakes
        )
    place = next(i for i, other in enumerate(found.evaluation.per_class) if other is row)
    if found.evaluation.several:
        extra = int(found.evaluation.confusion[place][0, 1])
        return (
            f"Weakest: {row.label}, found on {measured(row.recall)} of {counted(row.support, 'image')} that have it; "
            f"predicted on {counted(extra, 'image')} without it."
        )
    counts = found.evaluation.confusion[place].copy()
    counts[place] = 0
    other = found.evaluation.per_class[int(counts.argmax())].label
    return (
        f"Weakest: {row.label}, {measured(row.recall)} of {counted(row.support, 'image')} classified correctly; "
        f"{counts.max():,} predicted as {other}."
    )


def _interrupted(found: Evidence) -> Iterator[Point]:
    if found.interrupted:
        go_on = f"{found.interrupted.capitalize()}. Resume with: tellapart train --resume RUN"
        yield Point("stop", "Training was interrupted", go_on, "training", blocks=True)


def _shift(found: Evidence) -> Iterator[Point]:
    these = "The test images" if found.own else "These images"
    looks = found.evaluation.shift
    if (found.shift is None or found.validation is None) and looks is not None and looks.found:
        sentence = " ".join(looks.sentences)
        yield Point("care", f"{these} look different from the validation images", sentence, "figures")
    if found.shift is None or found.validation is None:
        return
    hits, n = found.validation
    away = f"{points(found.shift.value)} (95 % interval {100 * abs(found.shift.high):.1f} to "
    if found.shift.value > 0:
        away = f"{points(found.shift.value)} (95 % interval {100 * found.shift.low:.1f} to "
    far = max(abs(found.shift.low), abs(found.shift.high))
    figures = (
        f"Of the validation images {percent(hits / n)} are classified correctly, of these "
        f"{percent(found.evaluation.accuracy.value)}: {away}{100 * far:.1f}), which chance does not explain."
    )
    if found.shift.value > 0:
        sentence = f"{figures} Images in use may be harder."
        yield Point("care", f"{these} are easier than the validation images", sentence, "figures")
        return
    # Where sure predictions are right even so, they may be used.
    mark: Mark = "stop" if found.shift.high <= -_WORSE and not _holds(found) else "care"
    sentence = (
        f"{figures} Thresholds and probabilities were chosen on the validation images, and hold only for such images."
    )
    yield Point(mark, f"{these} differ from those it was trained on", sentence, "figures")


def _guessing(found: Evidence) -> Iterator[Point]:
    evaluation = found.evaluation
    if evaluation.several:
        yield from _guessing_labels(evaluation)
        return
    largest = max(evaluation.per_class, key=lambda row: row.support)
    share = largest.support / evaluation.n
    if not found.own and share == 1:
        return  # images of one class alone: always to name it is no yardstick
    always = f"Always predicting {largest.label} would be right for {percent(share)}."
    if evaluation.accuracy.low > share:
        yield Point("good", "Better than guessing", always, "figures")
    else:
        sentence = f"{always} It may have learned nothing."
        yield Point("stop", "No better than guessing", sentence, "figures", blocks=True)


def _guessing_labels(found: Evaluation) -> Iterator[Point]:
    """The average precision of a label that is guessed is its share of the images."""
    reached = found.metrics.get("mean_average_precision")
    if reached is None:
        return
    share = float(np.mean([row.support / found.n for row in found.per_class if row.support]))
    always = f"Guessing the labels would have a mean average precision of {percent(share)}."
    if reached.low > share:
        yield Point("good", "Better than guessing", always, "figures")
    else:
        sentence = f"{always} It may have learned nothing."
        yield Point("stop", "No better than guessing", sentence, "figures", blocks=True)


def _sure(found: Evidence) -> Iterator[Point]:
    """The target accuracy of sure predictions compared with the measured one."""
    sure, n = found.evaluation.verdicts.get("sure"), found.evaluation.n
    if sure is None or found.target is None:
        return
    target = percent(found.target, None)
    if sure.accuracy is None:
        yield Point("care", "Never sure", f"No prediction reaches the threshold for {target}.", "certainty")
        return
    figures = f"Of {counted(sure.n, 'sure prediction')} {measured(sure.accuracy)} are correct; the target is {target}."
    if sure.accuracy.high < found.target:
        sentence = f"{figures} Review them as well."
        yield Point("stop", "Sure predictions are wrong too often", sentence, "certainty")
    elif sure.accuracy.low < found.target - _UNPROVEN:
        yield Point("care", "Too few sure predictions to trust them unreviewed", figures, "certainty")
    elif sure.n < n / 2:
        sentence = f"{figures} They are {percent(sure.n / n)} of all; the others need a person."
        yield Point("care", "Often unsure", sentence, "certainty")
    else:
        yield Point("good", "Sure predictions reach the target accuracy", figures, "certainty")


def _copies(found: Evidence) -> Iterator[Point]:
    clean = found.clean
    if clean is None or clean.n >= found.evaluation.n:
        return
    count = found.evaluation.n - clean.n
    sentence = (
        f"{counted(count, f'{found.split} image')} {'has' if count == 1 else 'have'} a copy in the training "
        f"split. Of the other images, {clean.n:,}, it classifies {measured(clean.accuracy)} correctly."
    )
    if found.flattered > 0:
        title = "Copies of training images inflate the accuracy"
        yield Point("stop", title, sentence, "images", blocks=True)
    else:
        yield Point("good", "Copies with little effect", sentence, "images")


def _findings(found: Evidence) -> Iterator[Point]:
    """The findings that a person should see, by the number of test predictions that they can change."""
    told = [finding for finding in found.findings if finding.needs_person]
    if found.clean is not None:
        # Measured, by the figures without them.
        told = [finding for finding in told if "leaking" not in finding.kind]
    if not found.own or not (told or found.clean is None):
        return
    if not told:
        yield Point("good", "Nothing odd in the images", "No finding needs a person.", "images")
        return
    first = max(told, key=found.touched)
    count, n = found.touched(first), found.evaluation.n
    most = count / n
    meaning = first.meaning if len(first.meaning) <= _LONGEST_MEANING else first.meaning[: _LONGEST_MEANING - 1] + "…"
    more = f" And {counted(len(told) - 1, 'more finding')}, with no larger effect." if told[1:] else ""
    if not count:
        sentence = f"{meaning} It affects no {found.split} prediction.{more}"
    else:
        affects = f"It affects {count:,} of {n:,} {found.split} predictions"
        sentence = f"{meaning} {affects}, and the accuracy by {points(most)} at most.{more}"
    yield _weighed(first, most, found, sentence)


def _weighed(finding: Finding, most: float, found: Evidence, sentence: str) -> Point:
    if most <= found.vagueness:
        return Point("good", "Findings with little effect", sentence, "images")
    if finding.severity == "error" and most >= _FAULTY:
        return Point("stop", "Faults in the images", sentence, "images", blocks=True)
    return Point("care", "Findings that can change the accuracy", sentence, "images")


def _precision(found: Evidence) -> Iterator[Point]:
    accuracy, split = found.evaluation.accuracy, found.split
    low, high = (round(1000 * (1 - limit)) for limit in (accuracy.high, accuracy.low))
    expect = f"In use, expect {low} to {high} mistakes in 1,000 images like these."
    width = accuracy.high - accuracy.low
    if split != "test" and found.own:
        sentence = f"These {split} images were also used for model selection, so expect somewhat less. {expect}"
        yield Point("care", "No test split", sentence, "figures")
    elif width <= _WIDE:
        yield Point("good", "Enough test images", expect, "figures")
    else:
        more = f"{expect} Four times as many test images halve that range."
        yield Point("stop" if found.vague else "care", "Few test images", more, "figures", blocks=found.vague)


def _untested(found: Evidence) -> Iterator[Point]:
    absent = [row.label for row in found.evaluation.per_class if not row.support]
    if absent and found.own:
        sentence = f"The {found.split} split has no image of {some(absent, 5)}: their accuracy is unknown."
        yield Point("care", "Classes that were not tested", sentence, "classes")


def _evenness(found: Evidence) -> Iterator[Point]:
    row = found.weakest
    if row is None or row.recall is None:
        return
    if row.recall.high < _usual_recall(found.evaluation).low:
        yield Point("care", "Uneven classes", _weakest(found), "classes")
    else:
        chance = "By chance alone it could be as good as the rest."
        yield Point("good", "Even classes", f"{_weakest(found)} {chance}", "classes")


def _usual_recall(found: Evaluation) -> Estimate:
    """What a class is compared with: the accuracy; of several labels, the share of all of them that is found."""
    if not found.several:
        return found.accuracy
    hits, all_of = int(found.confusion[:, 1, 1].sum()), int(found.confusion[:, 1].sum())
    return proportion(hits, max(1, all_of), found.level)


def _honesty(found: Evidence) -> Iterator[Point]:
    honest, sentence = meaning(found.evaluation.calibration)
    told = found.evaluation.calibration.by_chance <= _TOLD
    title = "Well-calibrated probabilities" if told else "No sign of miscalibration"
    yield Point("good" if honest else "care", title if honest else "Miscalibrated probabilities", sentence, "certainty")


def meaning(found: Reliability) -> tuple[bool, str]:
    """Whether the probabilities are calibrated, also as a sentence."""
    off = f"Its expected calibration error is {points(found.error)}"
    if found.error <= found.by_chance:
        return True, f"{off}, no more than chance explains on so many images."
    n = sum(part.n for part in found.bins)
    surplus = float(np.sum([part.n * (part.confidence - part.accuracy.value) for part in found.bins])) / n
    way = "it is overconfident" if surplus > 0 else "it is underconfident"
    return found.error <= 0.02, f"{off}, where chance explains {100 * found.by_chance:.1f}: {way}."


_LEARNING: dict[State, tuple[Mark, str]] = {
    "unknown": ("good", "Short training"),
    "broken": ("stop", "Training diverged"),
    "overfits": ("good", "Best epoch before overfitting"),
    "overfits-kept": ("care", "Best epoch while overfitting"),
    "worse": ("care", "Unstable training"),
    "learning": ("care", "Still learning"),
    "level": ("good", "No overfitting"),
    "linear": ("good", "A linear head, fitted to convergence"),
}


def _learned(found: Evidence) -> Iterator[Point]:
    if found.learning is None:
        return
    mark, title = _LEARNING[found.learning.state]
    more = " More epochs may help." if found.learning.state == "learning" else ""
    yield Point(mark, title, found.learning.sentence + more, "training", blocks=mark == "stop")


POINTS: tuple[Callable[[Evidence], Iterator[Point]], ...] = (
    _shift, _interrupted, _guessing, _sure, _copies, _findings, _precision, _untested, _evenness, _honesty, _learned,
)  # fmt: skip
"""The points that the verdict is based on, the most important first."""
