"""Catalog + a time budget -> the steps that were tried in that time, from cheap to dear, and the one to keep.

The first step is what `train` does without a budget. Each later one changes one thing about the best step so far, and
is kept only if the validation images show that it is better: if the mean difference of their calibrated log loss, image
by image, is more than its standard error. No test image is used. A step is begun only if what is left of the time pays
for it and for finishing the run; training that runs out of time keeps its best epoch.

A kill leaves steps that continue where they were. The steps live inside the folder of the run that comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tellapart.config import AUGMENTATIONS, AugmentConfig, Config
from tellapart.data.catalog import Catalog
from tellapart.errors import TrainingError
from tellapart.experiments.study import FEWEST_SECONDS, FINISHING_SECONDS, Outcome, Session, Study
from tellapart.models.registry import resolve
from tellapart.progress import Progress
from tellapart.runs.history import HistoryRow
from tellapart.runs.record import StopReason
from tellapart.runs.run import TIME_FILE, RunFolder
from tellapart.words import counted

LARGER = 4 / 3
"""The side of a larger input, relative to the usual one."""
TOP_BLOCKS = 3
BACKWARD = 3.0
"""A training step takes about so many times as long as a prediction: forward, and gradients of values and weights."""
TOP_BACKWARD = 1.0
"""The same where only the top blocks are trained."""
FEWEST_EPOCHS, MOST_EPOCHS = 3, 40
FINE_TUNING = {"schedule": "warmup-cosine", "fine_tune_learning_rate": 5e-4, "fine_tune_layer_decay": 0.8}
"""Settings of [train]: rates that fall toward the image, and to zero by the last epoch (docs/how-to/backbones.md)."""
MORE_EPOCHS = 1.5
"""So many times as many epochs as before, or a longer training is not begun."""
MARGIN = 0.85
"""Of the time that is left, what a schedule of epochs may count on."""
SMALL_SHARE = 0.25
"""Of the time that is left, what one step before the fine-tuning of the whole backbone may take."""
FIRST_SHARE = 0.2
"""Of all the time, what the first training of a network from scratch may take, if an epoch of it ends by then."""
FIRST_STEPS = 200
"""Batches of its epochs, of many images, so that a first result is there soon."""
MOST_CALIBRATED = 500
"""Training images that finishing a run reads again, about."""


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


@dataclass(frozen=True)
class Situation:
    """What a row of the table of steps decides by.

    start: the configuration of the first step; best: of the best one. side: of the images, the median, in pixels.
    image_seconds: of one image on its way through the network, at the input size of `best`. left: seconds, less those
    for finishing. epochs: of the last training of `best`, each over all training images, and epoch_seconds of one; 0
    and None where it had none. mirrored: whether mirrored images do no harm; None: not known.
    """

    start: Config
    best: Config
    train_images: int
    all_images: int
    side: int
    image_seconds: float
    left: float
    epochs: float
    epoch_seconds: float | None
    mirrored: bool | None

    @property
    def pass_seconds(self) -> float:
        """Of one pass of all images through the network."""
        return self.all_images * self.image_seconds

    @property
    def whole_epochs(self) -> int:
        """Epochs of the whole backbone that there is time for."""
        return self.epochs_for(BACKWARD * self.train_images * self.image_seconds)

    def epochs_for(self, each: float, first: float = 0.0) -> int:
        """How many epochs fit into the time that is left, of so many seconds each, after so many for the rest."""
        return min(MOST_EPOCHS, int((MARGIN * self.left - first) / max(each, 1e-3)))


Change = Config | str
"""The configuration of a step, or why it is not tried."""


@dataclass(frozen=True)
class StepKind:
    """A row of the table. adds: what the step changes, in words. change: decides."""

    name: str
    adds: str
    change: Callable[[Situation], Change]


def _values(config: Config, **sections: Mapping[str, Any]) -> Config:
    """The configuration with other values in some of its sections."""
    values = config.to_dict()
    for name, changes in sections.items():
        values[name] = {**values.get(name, {}), **changes}
    return Config.from_dict(values)


def _on_features(now: Situation, **sections: Mapping[str, Any]) -> Config:
    """Another head on the frozen backbone, whose features are chosen anew."""
    return _values(now.best, model=now.start.model.model_dump(), **sections)


def _affordable(now: Situation, seconds: float, change: Callable[[], Config]) -> Change:
    """A step before the fine-tuning of the whole backbone: it takes a share of the time, or all where that does not
    suffice for fine-tuning anyway."""
    share = SMALL_SHARE if now.whole_epochs >= FEWEST_EPOCHS else MARGIN
    if seconds > share * now.left:
        return f"it would take {seconds:,.0f} of the {max(now.left, 0):,.0f} seconds left"
    return change()


def _mirrored(now: Situation) -> Change:
    flip = AugmentConfig(horizontal_flip=True).model_dump()
    return _affordable(
        now,
        now.train_images * now.image_seconds,
        lambda: _on_features(now, train={"views": 2}, augment=flip),
    )


def _views(now: Situation) -> Change:
    shown = _augmentation(now, "light")
    return _affordable(
        now,
        3 * now.train_images * now.image_seconds,
        lambda: _on_features(now, train={"views": 4}, augment=shown),
    )


def _augmentation(now: Situation, preset: str) -> dict[str, Any]:
    """The preset, mirrored only where that did no harm."""
    return AUGMENTATIONS[preset].model_dump() | {"horizontal_flip": now.mirrored is not False}


def _larger(now: Situation) -> Change:
    height, width = now.best.image.height or 0, now.best.image.width or 0
    larger = [round(side * LARGER / 32) * 32 for side in (height, width)]
    if now.side < max(height, width) * 1.1:
        return f"the images are no larger than the input of {height}x{width} pixels"
    return _affordable(
        now,
        now.pass_seconds * LARGER**2,
        lambda: _on_features(now, image=dict(zip(("height", "width"), larger, strict=True))),
    )


def _top(now: Situation) -> Change:
    each = TOP_BACKWARD * now.train_images * now.image_seconds
    epochs = min(12, int((0.4 * now.left - now.pass_seconds) / max(each, 1e-3)))
    if epochs < FEWEST_EPOCHS:
        return f"{now.left:,.0f} seconds are not enough for {FEWEST_EPOCHS} epochs"
    return _fine_tuned(now, TOP_BLOCKS, epochs, fine_tune_on="activations")


def _whole(now: Situation) -> Change:
    if now.whole_epochs < FEWEST_EPOCHS:
        return f"{max(now.left, 0):,.0f} seconds are not enough for {FEWEST_EPOCHS} epochs"
    return _fine_tuned(now, "all", now.whole_epochs, fine_tune_on="images")


def _longer(now: Situation) -> Change:
    """The last training again, with as many epochs as the time measured for one allows."""
    if now.epoch_seconds is None:
        return "no training in epochs was kept"
    epochs = now.epochs_for(now.epoch_seconds)
    if epochs < MORE_EPOCHS * now.epochs:
        return f"there is time for {counted(max(epochs, 0), 'epoch')}, and there were {now.epochs:.0f}"
    changed: dict[str, Any] = {"epochs": epochs, "patience": max(epochs, now.best.train.patience)}
    if not now.best.train.fine_tune:
        changed |= {"schedule": "cosine", "steps_per_epoch": None, "validation_steps": None}
    return _values(now.best, train=changed)


def _fine_tuned(now: Situation, blocks: int | str, epochs: int, **more: Any) -> Config:
    changed = {"fine_tune": blocks, "epochs": epochs, "patience": max(epochs, now.best.train.patience)}
    return _values(now.best, train={**FINE_TUNING, **changed, **more}, augment=_augmentation(now, "medium"))


FIRST = StepKind("default", "what train does without --time", lambda now: now.best)

ON_BACKBONE = (
    FIRST,
    StepKind("mirrored", "each training image mirrored as well", _mirrored),
    StepKind("larger", "a larger input", _larger),
    StepKind("views", "four augmented views of each training image", _views),
    StepKind("top", f"the top {TOP_BLOCKS} blocks of the backbone fine-tuned", _top),
    StepKind("whole", "the whole backbone fine-tuned", _whole),
    StepKind("longer", "the same for as long as there is time", _longer),
)
FROM_SCRATCH = (
    FIRST,
    StepKind("longer", "as many epochs as there is time for, with a decaying learning rate", _longer),
)


ADDS = {kind.name: kind.adds for kind in (*FROM_SCRATCH, *ON_BACKBONE)}
"""What each step changes, by name."""


def _on_backbone(config: Config) -> bool:
    return resolve(config.model)[0].pretrained is not None


def steps_of(start: Config) -> tuple[StepKind, ...]:
    """The steps that are tried in turn."""
    return ON_BACKBONE if _on_backbone(start) else FROM_SCRATCH


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
            step.config = change.to_dict()
        if left < FEWEST_SECONDS and not first:
            step.status, step.reason = "skipped", "the time was up"
            return
        self.session.line(f"step {kind.name}: {kind.adds}")
        config = Config.from_dict(step.config)
        outcome = Outcome()
        if first and not _on_backbone(config):
            outcome = self._attempt(kind, config, FIRST_SHARE * self.session.left)
        if outcome.reason is None and outcome.error is None:
            # The first step is what there is without a budget: it may take all of it.
            outcome = self._attempt(kind, config, max(left, 0.75 * self.session.left) if first else left)
        self._end(kind, step, outcome)

    def _attempt(self, kind: StepKind, config: Config, seconds: float) -> Outcome:
        run = self.folder.step_run(kind.name)
        return self.session.attempt(
            run.path.name, lambda: self.learn(self.catalog, config, run.path, seconds, self.session)
        )

    def _change(self, kind: StepKind, left: float) -> Change:
        folder, best = self.folder, self.folder.best
        if best is None:
            return self._first()
        run, mirrored = folder.step_run(best), folder.steps.get("mirrored", Step())
        harmless = None if mirrored.gain is None else mirrored.gain >= 0
        now = Situation(
            folder.start,
            run.config,
            self._taught,
            self._all,
            self._side,
            self._image_seconds(run.config),
            left,
            *self._epochs(run),
            harmless,
        )
        return kind.change(now)

    def _first(self) -> Config:
        """The start; of a network from scratch on many images, with short epochs."""
        start = self.folder.start
        short = FIRST_STEPS * start.train.batch_size
        if _on_backbone(start) or self._taught < 2 * short:
            return start
        return _values(start, train={"steps_per_epoch": FIRST_STEPS, "validation_steps": FIRST_STEPS})

    def _epochs(self, run: RunFolder) -> tuple[float, float | None]:
        """Of the last training of a run, counted over all training images, and the seconds of each as measured."""
        train = run.config.train
        rows = [row for row in run.history if row.regularization is None and row.phase in ("", "fine-tune")]
        if not rows:
            return 0.0, None
        share = min(self._taught, train.batch_size * (train.steps_per_epoch or self._taught)) / self._taught
        return len(rows) * share, rows[-1].seconds / share

    def _image_seconds(self, config: Config) -> float:
        """As measured on the first step, for the input size of this configuration."""
        start = self.folder.start.image
        pixels = [(image.height or 1) * (image.width or 1) for image in (config.image, start)]
        return float(self.folder.record["image_seconds"]) * pixels[0] / pixels[1]

    def _finishing(self) -> float:
        """Seconds that finishing the best step takes: calibration, export, evaluation, and the report."""
        read = self._all - self._taught + min(MOST_CALIBRATED, self._taught)
        return FINISHING_SECONDS + read * float(self.folder.record.get("image_seconds", 0.0))

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
            f"{kind.name}: validation accuracy {100 * step.val_accuracy:.1f} %, log loss {step.val_loss:.3f}: {verdict}"
        )
