"""The files of a run + metrics of a split -> Evidence: all that a verdict is derived from, as plain values.

Never imports Keras.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tellapart.data.findings import Finding
from tellapart.errors import RunError
from tellapart.evaluation.class_metrics import ClassMetrics
from tellapart.evaluation.compare import fisher
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.intervals import Estimate, independent_difference, proportion
from tellapart.evaluation.overfitting import Learning, learning
from tellapart.evaluation.suspects import find_suspects
from tellapart.runs.predictions import Predictions, read_predictions
from tellapart.runs.record import RunRecord
from tellapart.runs.run import CLEAN_PART, RunFolder

BEYOND_CHANCE = 0.01
"""Largest p-value at which a difference between validation and test is reported. Not 0.05: every run is tested, and the
validation images also selected the model, which makes their accuracy slightly optimistic."""

VAGUE = 0.25
"""Width of the interval beyond which the accuracy is meaningless."""

_FEWEST_OF_CLASS = 10
_MAJORITY = 0.5


@dataclass(frozen=True, eq=False)
class Evidence:
    """evaluation: of the evaluated images. own: whether they are the run's own. clean: the same without those that have
    a copy in training. target: required accuracy of sure predictions, None if the run has no thresholds.

    training: accuracy on the training images; validation: (right, images); None if unknown. suspects:
    probability of the suggested class for each evaluated image with a likely label error. tested: paths of the
    evaluated images. learning: derived from the history. interrupted: why training was stopped early, or "".
    """

    evaluation: Evaluation
    own: bool = True
    clean: Evaluation | None = None
    target: float | None = None
    training: float | None = None
    validation: tuple[int, int] | None = None
    learning: Learning | None = None
    findings: Sequence[Finding] = ()
    tested: Sequence[str] = ()
    suspects: Sequence[float] = ()
    backbone: Literal["none", "frozen", "tuned"] = "frozen"
    interrupted: str = ""

    @property
    def split(self) -> str:
        return self.evaluation.split

    @property
    def right(self) -> tuple[int, int]:
        """(right, images) of the evaluated images."""
        return round(self.evaluation.accuracy.value * self.evaluation.n), self.evaluation.n

    @cached_property
    def shift(self) -> Estimate | None:
        """Accuracy here minus that on the validation images, if significant (Fisher's exact test)."""
        if self.validation is None or (self.own and self.split != "test"):
            return None
        if fisher(self.right, self.validation) > BEYOND_CHANCE:
            return None
        return independent_difference(self.right, self.validation)

    @cached_property
    def held(self) -> Estimate:
        """Accuracy on images like the training images: validation, and the evaluated ones unless they differ."""
        parts = [part for part in (self.validation, None if self.shift else self.right) if part is not None]
        hits, n = (sum(numbers) for numbers in zip(*parts, strict=True))
        return proportion(hits, n, self.evaluation.level)

    @property
    def bias(self) -> float:
        """Share of the training images that it misclassifies."""
        return 0.0 if self.training is None else 1 - self.training

    @property
    def variance(self) -> float:
        """How much higher the training accuracy is than that on new images of the same kind."""
        return max(0.0, (1.0 if self.training is None else self.training) - self.held.value)

    @property
    def vagueness(self) -> float:
        """How much lower than measured the true accuracy may be."""
        return self.evaluation.accuracy.value - self.evaluation.accuracy.low

    @property
    def vague(self) -> bool:
        """Whether there are too few evaluated images for a meaningful accuracy."""
        return self.evaluation.accuracy.high - self.evaluation.accuracy.low > VAGUE

    @property
    def flattered(self) -> float:
        """How much copies of training images add to the accuracy; 0 if that is within the interval."""
        if self.clean is None or self.clean.n >= self.evaluation.n:
            return 0.0
        accuracy, clean = self.evaluation.accuracy, self.clean.accuracy.value
        return accuracy.value - clean if clean < accuracy.low else 0.0

    @cached_property
    def weakest(self) -> ClassMetrics | None:
        """The class with the lowest recall below 1; classes of fewer than 10 images count only if no class has more."""
        rows = [row for row in self.evaluation.per_class if row.recall is not None]
        rows = [row for row in rows if row.support >= _FEWEST_OF_CLASS] or rows
        found = min(rows, key=lambda row: (row.recall.value if row.recall else 1.0, -row.support), default=None)
        return None if found is None or found.recall is None or found.recall.value == 1 else found

    def touched(self, finding: Finding) -> int:
        """How many of the evaluated images a finding names: it can affect at most these predictions."""
        known = set(self.tested)
        return len({path for entry in finding.paths for path in named(entry) if path in known})


def named(entry: str) -> list[str]:
    """The paths that an entry of a finding may contain, such as `a.jpg [cat] ~ b.jpg [dog]` or `c.jpg (12x9)`.

    >>> named("a.jpg [cat] ~ b.jpg [dog]"), named("c.jpg (12x9)")
    (['a.jpg [cat]', 'a.jpg', 'b.jpg [dog]', 'b.jpg'], ['c.jpg (12x9)', 'c.jpg'])
    """
    found = []
    for part in re.split(r" ~ | = ", entry):
        found += [part, *(part[: told.start()] for told in re.finditer(r" [\[(]", part))]
    return found


def evidence_of(
    run: RunFolder,
    record: RunRecord,
    evaluation: Evaluation,
    said: Predictions | None,
    *,
    own: bool = True,
    clean: Evaluation | None = None,
) -> Evidence:
    """From the files of a run. record: its run.json, or its future content. said: the predictions for the evaluated
    images. own: whether these are from the run's own catalog, to which findings and learning curves belong.

    Raises RunError for a run that is damaged."""
    try:
        config, catalog, history = run.config, run.catalog, run.history
        best = next((row for row in history if row.epoch == record.best_epoch), None)
        seen = len(catalog.split("validation"))
        if config.train.validation_steps is not None:
            seen = min(seen, config.train.validation_steps * config.train.batch_size)
        calibration = record.calibration
        suspects = [] if said is None or evaluation.several else [row.wanted for row in find_suspects(said)]
        right = best.val_accuracy if best else 0.0
        if evaluation.several and calibration:
            # With the thresholds of the labels, which the history does not know.
            right, seen = float(calibration["estimate"]["accuracy"]), len(catalog.split("validation"))
        pretrained = any(row.phase == "head" for row in history)
        return Evidence(
            evaluation,
            own=own,
            clean=clean,
            target=float(calibration["thresholds"]["target"]) if calibration else None,
            training=None if best is None else best.accuracy,
            validation=(round(right * seen), seen) if best and seen else None,
            learning=learning(history, config.train.monitor, record.best_epoch) if own else None,
            findings=catalog.findings if own else (),
            tested=said.paths if said is not None else (),
            suspects=[wanted for wanted in suspects if wanted > _MAJORITY],
            backbone=("tuned" if config.train.fine_tune else "frozen") if pretrained else "none",
            interrupted=record.stopped if own and record.status == "interrupted" else "",
        )
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RunError(
            f"{run.path} lacks the data for a verdict ({error!r}): it is damaged, or from another version "
            "of tellapart. Train the run again."
        ) from None


def evaluations_of(run: RunFolder) -> tuple[Evaluation, Evaluation | None]:
    """The content of metrics.json: the evaluated split, with and without copies of training images.

    Raises RunError for a run without an evaluation, or one that is damaged.
    """
    metrics = run.metrics
    if not metrics:
        run.require(run.metrics_file, "evaluation")
        raise RunError(f"{run.metrics_file} holds no evaluation. Evaluate the run again.")
    split = next(name for name in metrics if not name.endswith(CLEAN_PART))
    try:
        both = [Evaluation.from_dict(metrics[name]) for name in (split, split + CLEAN_PART) if name in metrics]
    except ValueError as error:
        raise RunError(
            f"{run.metrics_file} was written by another version of tellapart, or is damaged ({error}). "
            "Train the run again."
        ) from None
    return both[0], both[1] if both[1:] else None


def predictions_of(run: RunFolder, evaluation: Evaluation) -> Predictions | None:
    """The predictions for the images of an evaluation; None if predictions.csv is of other images."""
    found = read_predictions(run.predictions_file, run.task)
    return found if found is not None and len(found.paths) == evaluation.n else None
