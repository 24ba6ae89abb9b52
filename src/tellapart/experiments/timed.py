"""Catalog + a time budget -> the steps that were tried in that time, from cheap to dear, and the one to keep.

The first step is what `train` does without a budget. Each later one changes one thing about the best step so far, and
is kept only if the validation images show that it is better: if the mean difference of their calibrated log loss, image
by image, is more than its standard error. No test image is used. A step is begun only if what is left of the time pays
for it and for finishing the run; training that runs out of time keeps its best epoch.

A kill leaves steps that continue where they were. The steps live inside the folder of the run that comes out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.errors import TrainingError
from tellapart.experiments.steps import (
    COMPILE_SECONDS,
    NOTHING_LEFT,
    Change,
    Planned,
    Situation,
    StepKind,
    as_trained,
    finishing_seconds,
    on_backbone,
    passed_epochs,
    steps_of,
    with_sections,
)
from tellapart.experiments.study import FEWEST_SECONDS, Outcome, Session, Study
from tellapart.models.backend import backend_name
from tellapart.progress import Progress
from tellapart.runs.history import HistoryRow
from tellapart.runs.record import StopReason
from tellapart.runs.run import TIME_FILE, RunFolder
from tellapart.words import percent

FIRST_SHARE = 0.2
"""Of all the time, what the first training of a network from scratch may take, if an epoch of it ends by then."""
FIRST_STEPS = 200
"""Batches of its epochs, of many images, so that a first result is there soon."""


class LearnedStep(Protocol):
    """What training a step returns: see training.fit.Learned."""

    @property
    def best(self) -> HistoryRow: ...

    def validation_losses(self) -> NDArray[np.float64]: ...

    def seconds_per_image(self) -> float: ...


class LearnStep(Protocol):
    """Begins the run `out`, or resumes it, for at most `budget` seconds. Raises as training does."""

    def __call__(
        self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress
    ) -> LearnedStep: ...


@dataclass
class Step:
    """One step. time.json keeps it by name.

    status: waiting, tried, skipped or failed; reason: why, in words. config: of its run, as Config.to_dict gives it.
    spent: seconds of the budget that were gone when it ended. val_accuracy, val_loss: of its best epoch, the loss
    calibrated. gain: mean calibrated log loss by which it is better than the step it changed, with `error`, its
    standard error. kept: whether it was the best step when it ended.
    """

    status: str = "waiting"
    reason: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    spent: float = 0.0
    val_accuracy: float | None = None
    val_loss: float | None = None
    gain: float | None = None
    error: float | None = None
    kept: bool = False


@dataclass
class TimedFolder(Study):
    """The folder of a run while its time is spent. record: start, the decided configuration, as well."""

    noun, by, file = "run", "train", TIME_FILE
    steps: dict[str, Step]

    @classmethod
    def of(cls, path: Path, record: dict[str, Any]) -> Self:
        steps = {name: Step(**step) for name, step in record.pop("steps").items()}
        found = cls(path, record, steps)
        _ = found.start, record["spent_seconds"], record["budget_seconds"]
        return found

    def to_dict(self) -> dict[str, Any]:
        return {**self.record, "steps": {name: asdict(step) for name, step in self.steps.items()}}

    @property
    def trial_names(self) -> list[str]:
        return [_folder(name) for name in self.steps]

    @property
    def start(self) -> Config:
        """The configuration of the first step, with everything decided."""
        return Config.from_dict(self.record["start"])

    @property
    def best(self) -> str | None:
        """The name of the step to keep; None before one was tried."""
        return next((name for name, step in reversed(self.steps.items()) if step.kept), None)

    def step_run(self, name: str) -> RunFolder:
        return self.run(_folder(name))

    def write_losses(self, name: str, losses: NDArray[np.float64]) -> None:
        """(n,) of the validation images."""
        with self.replacing(self._losses_file(name)) as neighbour, neighbour.open("wb") as file:
            np.save(file, losses, allow_pickle=False)

    def losses(self, name: str) -> NDArray[np.float64]:
        """What write_losses wrote."""
        return np.asarray(np.load(self._losses_file(name), allow_pickle=False), np.float64)

    def _losses_file(self, name: str) -> Path:
        return self.place(f"losses-{name}.npy")

    def sweep(self) -> None:
        """Remove the runs of the steps, once the best of them is the run of this folder."""
        for name in self.steps:
            self.step_run(name).discard()
            self.remove([self._losses_file(name)])


def _folder(name: str) -> str:
    return f"step-{name}"


def create_timed(path: Path, start: Config, **record: Any) -> TimedFolder:
    """A new one. Raises RunError if the path exists already."""
    return TimedFolder(path, {"spent_seconds": 0.0, **record, "start": start.to_dict()}, {}).create()


def spend(
    folder: TimedFolder,
    catalog: Catalog,
    *,
    learn: LearnStep,
    progress: Progress,
) -> bool:
    """Try the steps that are left, while there is time. Returns whether all are through: False after Ctrl-C, with a
    step to keep. Raises what training raises if the first step fails, and KeyboardInterrupt before it ended."""
    with Session(folder, progress, lambda: None) as session:
        spending = _Spending(folder, catalog, learn, session)
        try:
            for kind in steps_of(folder.start):
                spending.go(kind)
        except KeyboardInterrupt:
            if folder.best is None:
                raise
            return False
    return True


class _Spending:
    def __init__(self, folder: TimedFolder, catalog: Catalog, learn: LearnStep, session: Session) -> None:
        self.folder, self.catalog, self.learn, self.session = folder, catalog, learn, session
        usable = [image for image in catalog.images if image.split]
        self._all, self._taught = len(usable), len(catalog.split("train"))
        self._side = int(np.median([min(image.width, image.height) for image in usable]))

    def go(self, kind: StepKind) -> None:
        step = self.folder.steps.setdefault(kind.name, Step())
        if step.status in ("tried", "skipped", "failed"):
            return
        left = self.session.left - self._finishing()
        first = self.folder.best is None
        if not step.config:
            change = self._change(kind, left)
            if isinstance(change, str):
                step.status, step.reason = "skipped", change
                self.session.line(f"{kind.name}: not tried, as {change}")
                return
            step.config = change.config.to_dict()
        if left < FEWEST_SECONDS and not first:
            step.status, step.reason = "skipped", "the time was up"
            return
        self.session.line(f"step {kind.name}: {kind.adds}")
        config = Config.from_dict(step.config)
        outcome = Outcome()
        if first and not on_backbone(config):
            outcome = self._attempt(kind, config, FIRST_SHARE * self.session.left)
        if outcome.reason is None and outcome.error is None:
            # The first step is what there is without a budget: it may take all of it.
            outcome = self._attempt(kind, config, max(left, 0.75 * self.session.left) if first else left)
        self._end(kind, step, outcome)

    def _attempt(self, kind: StepKind, config: Config, seconds: float) -> Outcome:
        run = self.folder.step_run(kind.name)
        if kind.goes_on and self.folder.best is not None:
            if not run.run_file.exists():
                run.take_over(self.folder.step_run(self.folder.best))
            run.write_config(config)
        return self.session.attempt(
            run.path.name, lambda: self.learn(self.catalog, config, run.path, seconds, self.session)
        )

    def _change(self, kind: StepKind, left: float) -> Change:
        folder, best = self.folder, self.folder.best
        if best is None:
            return Planned(self._first(), left)
        reached = folder.steps[best]
        if reached.val_loss is not None and reached.val_loss < NOTHING_LEFT:
            return f"with a log loss of {reached.val_loss:.3f} the validation images could show no gain any more"
        run, mirrored = folder.step_run(best), folder.steps.get("mirrored", Step())
        harmless = None if mirrored.gain is None else mirrored.gain >= 0
        now = Situation(
            folder.start,
            as_trained(run),
            self._taught,
            self._all,
            self._side,
            self._image_seconds(run.config),
            left,
            *passed_epochs(run, self._taught),
            harmless,
            COMPILE_SECONDS[backend_name()],
        )
        return kind.change(now)

    def _first(self) -> Config:
        """The start; of a network from scratch on many images, with short epochs."""
        start = self.folder.start
        short = FIRST_STEPS * start.train.batch_size
        if on_backbone(start) or self._taught < 2 * short:
            return start
        return with_sections(start, train={"steps_per_epoch": FIRST_STEPS, "validation_steps": FIRST_STEPS})

    def _image_seconds(self, config: Config) -> float:
        """As measured on the first step, for the input size of this configuration."""
        start = self.folder.start.image
        pixels = [(image.height or 1) * (image.width or 1) for image in (config.image, start)]
        return float(self.folder.record["image_seconds"]) * pixels[0] / pixels[1]

    def _finishing(self) -> float:
        return finishing_seconds(self._taught, self._all, float(self.folder.record.get("image_seconds", 0.0)))

    def _end(self, kind: StepKind, step: Step, outcome: Outcome) -> None:
        """Record what came out, and whether it is better than what it changed."""
        folder, best = self.folder, self.folder.best
        if outcome.error is not None:
            if best is None:
                raise outcome.error
            step.status, step.reason = "failed", str(outcome.error)
            self.session.line(f"{kind.name} failed: {outcome.error}")
            return
        if outcome.reason is None:
            if best is None:
                raise TrainingError(
                    f"The time was up before a first result. Resume with more of it: {folder.resume_command} --time 10m"
                )
            step.status, step.reason = "skipped", "no epoch ended in time"
            return
        learned: LearnedStep = outcome.answer
        losses = learned.validation_losses()
        if "image_seconds" not in folder.record:
            folder.record["image_seconds"] = learned.seconds_per_image()
        step.kept = best is None
        if best is not None:
            gain = folder.losses(best) - losses
            step.gain, step.error = float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))
            step.kept = step.gain > step.error
        folder.write_losses(kind.name, losses)
        step.val_accuracy, step.val_loss = learned.best.val_accuracy, float(losses.mean())
        step.status = "tried"
        step.reason = "the time was up" if outcome.reason is StopReason.TIME_UP else ""
        self.session.keep()
        step.spent = folder.record["spent_seconds"]
        self.session.keep()
        verdict = "kept" if step.kept else "no better"
        self.session.line(
            f"{kind.name}: validation accuracy {percent(step.val_accuracy)}, log loss {step.val_loss:.3f}: {verdict}"
        )
