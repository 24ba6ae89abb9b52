"""A finished run -> what `--time` would go on to try on its images, what that costs, and what is at stake.

Everything follows from what was measured in the run: the rate of this machine, the time of the training, and what is
wrong on the validation images. How much a step gains is known only when it was tried, so no figure of it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellapart.experiments.steps import COMPILE_SECONDS, NOTHING_LEFT, Situation, passed_epochs, steps_of
from tellapart.models.backend import backend_name
from tellapart.runs.run import TIME_FILE, RunFolder
from tellapart.words import counted, duration

TIMES = {"5m": 300, "15m": 900, "1h": 3600, "4h": 14400}
"""Budgets in seconds, by how they are typed: the first that there is a step for is told."""


@dataclass(frozen=True)
class Outlook:
    """budget: as typed; None where no step is worth its time. steps: (what it changes, seconds) of each that fits.
    wrong: of so many validation images; loss: their calibrated log loss."""

    budget: str | None
    steps: tuple[tuple[str, float], ...]
    wrong: int
    images: int
    loss: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """In words: what would be tried and its cost, then what is at stake."""
        seen = (
            f"{self.wrong:,} of {counted(self.images, 'validation image')} {'is' if self.wrong == 1 else 'are'} wrong"
        )
        if self.budget is None:
            return (
                f"--time would hardly gain: {seen}, with a log loss of {self.loss:.3f}, too little to tell a better "
                "classifier from this one.",
            )
        named = "; ".join(f"{adds} (about {duration(seconds)})" for adds, seconds in self.steps)
        return (
            f"--time {self.budget} would also try: {named}.",
            f"At stake: {seen}. A step is kept only if they show that it is better, so the gain may be none.",
        )


def outlook(run: RunFolder) -> Outlook | None:
    """None where nothing can be told: of a run that is not done, was trained with `--time` or by an earlier version,
    or for which there is no further step in any of TIMES."""
    record, found = run.record, run.record.calibration or {}
    known = record.status == "done" and record.image_seconds is not None and "validation_loss" in found
    if not known or run.place(TIME_FILE).exists():
        return None
    images, loss = len(run.catalog.split("validation")), float(found["validation_loss"])
    accuracy = next((row.val_accuracy for row in run.history if row.epoch == record.best_epoch), None)
    if accuracy is None:
        return None
    wrong, first = round((1 - accuracy) * images), record.seconds
    if loss < NOTHING_LEFT:
        return Outlook(None, (), wrong, images, loss)
    for budget, seconds in TIMES.items():
        steps = _steps(run, seconds - first)
        if steps:
            return Outlook(budget, steps, wrong, images, loss)
    return None


def _steps(run: RunFolder, left: float) -> tuple[tuple[str, float], ...]:
    """Those that fit, each as if none before it was kept."""
    usable = [image for image in run.catalog.images if image.split]
    taught, config, rate = len(run.catalog.split("train")), run.config, float(run.record.image_seconds or 0)
    side = int(np.median([min(image.width, image.height) for image in usable]))
    epochs, compiling, found = passed_epochs(run, taught), COMPILE_SECONDS[backend_name()], []
    for kind in steps_of(config)[1:]:
        change = kind.change(Situation(config, config, taught, len(usable), side, rate, left, *epochs, None, compiling))
        if not isinstance(change, str):
            found.append((kind.adds, change.seconds))
            left -= change.seconds
    return tuple(found)
