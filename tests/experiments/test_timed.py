"""A time budget is spent on steps from cheap to dear; the validation images alone decide which is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.errors import TrainingError
from tellapart.experiments import steps, study
from tellapart.experiments.steps import FROM_SCRATCH, ON_BACKBONE, Situation
from tellapart.experiments.timed import TimedFolder, create_timed, spend
from tellapart.progress import Lines, Progress
from tellapart.runs.history import HistoryRow
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import RunFolder, create_run
from tellapart.task import Task
from tests.values import history_row, plan

ON_IT = plan(224, Config.from_dict({"model": {"name": "efficientnet-lite0"}, "train": {"views": 1}})).config
FINISHING = study.FINISHING_SECONDS
STEPS = [kind.name for kind in ON_BACKBONE]


@dataclass
class Learned:
    best: HistoryRow
    losses: NDArray[np.float64]
    image: float

    def validation_losses(self) -> NDArray[np.float64]:
        return self.losses

    def seconds_per_image(self) -> float:
        return self.image


@dataclass
class Trainer:
    """Trains nothing: each step takes seconds of a clock of its own and has losses, by its name."""

    now: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    raises: dict[str, BaseException] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)
    configs: dict[str, Config] = field(default_factory=dict)
    epoch_seconds: float = 2.0
    image: float = 0.1

    def learn(self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress) -> Learned:  # noqa: ARG002
        name = out.name.removeprefix("step-")
        self.given[name], self.configs[name] = budget, config
        run = RunFolder(out)
        if not run.run_file.exists():
            run = create_run(out, plan(config=config, side=config.image.height or 8), catalog)
        if name in self.raises:
            raise self.raises.pop(name)
        self.now += min(self.seconds.get(name, 10.0), budget)
        reason = StopReason.TIME_UP if self.seconds.get(name, 10.0) > budget else StopReason.EPOCHS_DONE
        scratch = bool(config.train.fine_tune) or config.model.name == "cnn"
        row = history_row(1, regularization=None if scratch else 1.0, seconds=self.epoch_seconds)
        run.write_history([row])
        run.update(status="interrupted", **Stop(reason, "in words").to_dict())
        loss = self.losses.get(name, 0.5)
        # Images differ by far more than the steps do: only the paired difference tells them apart.
        return Learned(
            row, np.linspace(0, 2, 50) + loss + 0.01 * np.cos(np.arange(50) + 7 * len(self.given)), self.image
        )


def catalog(folder: Path, count: int = 40, side: int = 300) -> Catalog:
    splits = ("train", "train", "validation", "test")
    rows = [
        ImageRecord(f"{n}.jpg", ("cat", "dog")[n % 8 < 4], splits[n % 4], "", f"{n:08}", side, side, "RGB")
        for n in range(count)
    ]
    return Catalog(folder, Task(("cat", "dog")), tuple(rows))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def begin(tmp_path: Path, trainer: Trainer) -> Callable[..., TimedFolder]:
    def begun(seconds: float = 600.0, start: Config = ON_IT, images: Catalog | None = None, **more: Any) -> TimedFolder:
        folder = tmp_path / "my run"
        if not folder.exists():
            create_timed(folder, start, budget_seconds=seconds, data="photos", command="", reasons=[])
        found = TimedFolder.open(folder)
        spend(found, images or catalog(tmp_path), learn=trainer.learn, progress=more.get("progress", Lines()))
        return TimedFolder.open(folder)

    return begun


def test_each_step_changes_the_best_before_it_and_only_a_better_one_is_kept(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.losses = {"mirrored": 0.4, "larger": 0.45, "top": 0.3, "whole": 0.2}
    found = begin()
    assert [name for name, step in found.steps.items() if step.kept] == ["default", "mirrored", "top", "whole"]
    assert found.best == "whole"
    assert trainer.configs["larger"].train.views == 2
    assert trainer.configs["whole"].image.height == 224  # the larger input was no better
    assert trainer.configs["whole"].train.fine_tune == "all"


def test_a_gain_within_its_standard_error_is_none(begin: Callable[..., TimedFolder], trainer: Trainer) -> None:
    trainer.losses = {"mirrored": 0.4999}
    found = begin()
    step = found.steps["mirrored"]
    assert step.gain is not None
    assert step.error is not None
    assert abs(step.gain) < step.error
    assert not step.kept
    assert found.best == "default"


def test_no_step_gets_more_time_than_leaves_enough_to_finish_the_run(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.seconds = dict.fromkeys(STEPS, 1e6) | {"default": 30.0}
    trainer.losses = {"mirrored": 0.4}
    found = begin(120.0)
    assert found.record["spent_seconds"] + FINISHING <= 120.0
    assert trainer.given["mirrored"] <= 120.0 - 30.0 - FINISHING
    assert found.steps["mirrored"].reason == "the time was up"
    assert found.best == "mirrored"
    assert {step.status for name, step in found.steps.items() if name not in ("default", "mirrored")} == {"skipped"}


def test_the_first_step_may_take_what_it_takes_without_a_budget(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    begin(10.0)
    assert trainer.given["default"] >= 7.5


def test_images_that_mirroring_harms_are_not_mirrored_in_fine_tuning(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.losses = {"mirrored": 0.8, "whole": 0.3}
    begin()
    shown = trainer.configs["whole"].augment
    assert shown is not None
    assert shown.rotation
    assert not shown.horizontal_flip


def test_a_larger_input_is_not_tried_on_images_that_are_no_larger(
    begin: Callable[..., TimedFolder], tmp_path: Path
) -> None:
    found = begin(images=catalog(tmp_path, side=100))
    assert found.steps["larger"].status == "skipped"
    assert "no larger than the input of 224x224 pixels" in found.steps["larger"].reason


def test_a_killed_step_goes_on_with_the_configuration_that_was_decided_for_it(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.losses = {"top": 0.4, "whole": 0.3}
    trainer.raises = {"whole": SystemExit()}
    with pytest.raises(SystemExit):
        begin()
    before, spent = trainer.configs.pop("whole"), trainer.now
    trainer.configs.clear()
    trainer.now += 50_000.0  # what passes between two sessions costs nothing
    found = begin()
    assert trainer.configs["whole"] == before
    assert next(iter(trainer.configs)) == "whole"
    assert found.best == "whole"
    assert found.record["spent_seconds"] >= spent


def test_ctrl_c_keeps_the_best_so_far_and_before_the_first_result_ends_it(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.raises = {"default": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        begin()
    trainer.raises = {"larger": KeyboardInterrupt()}
    trainer.losses = {"mirrored": 0.4}
    stopped = begin()
    assert stopped.best == "mirrored"
    assert stopped.steps["larger"].status == "waiting"
    assert begin().steps["larger"].status == "tried"


def test_mirror_images_when_predicting_are_tried_last_with_what_the_best_step_has_learned(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.losses = {"top": 0.3, "both": 0.29}
    found = begin()
    assert found.best == "both"
    assert trainer.configs["both"].model.mirrored
    assert trainer.configs["both"].train == trainer.configs["top"].train
    assert found.step_run("both").history == found.step_run("top").history
    assert found.step_run("both").config.model.mirrored
    assert not found.step_run("top").config.model.mirrored


@pytest.mark.parametrize("loss", [0.4999, 0.8])
def test_mirror_images_that_the_validation_images_do_not_ask_for_are_not_kept(
    begin: Callable[..., TimedFolder], trainer: Trainer, loss: float
) -> None:
    trainer.losses = {"both": loss}
    found = begin()
    assert found.steps["both"].status == "tried"
    assert not found.steps["both"].kept
    assert found.best == "default"


def test_what_its_time_ended_is_finished_as_it_is_and_not_trained_on(tmp_path: Path) -> None:
    config = steps.with_sections(ON_IT, train={"fine_tune": 3, "epochs": 20})
    run = create_run(tmp_path / "run", plan(224, config), catalog(tmp_path))
    run.write_history([history_row(1, phase="head", regularization=1.0), history_row(2, phase="fine-tune")])
    run.update(**Stop(StopReason.EPOCHS_DONE, "in words").to_dict())
    assert steps.as_trained(run) == run.config
    run.update(**Stop(StopReason.TIME_UP, "in words").to_dict())
    assert steps.as_trained(run) == steps.with_sections(run.config, train={"epochs": 1})
    run.write_history([history_row(1, phase="head", regularization=1.0)])
    assert steps.as_trained(run).train.fine_tune == 0


def test_a_step_that_fails_is_told_and_the_others_go_on(begin: Callable[..., TimedFolder], trainer: Trainer) -> None:
    trainer.raises = {"top": TrainingError("the loss became not-a-number")}
    told = Lines()
    found = begin(progress=told)
    assert found.steps["top"].status == "failed"
    assert found.steps["whole"].status == "tried"


def test_without_a_first_result_there_is_none_to_fall_back_on(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.raises = {"default": TrainingError("no weights to be had")}
    with pytest.raises(TrainingError, match="no weights"):
        begin()


def test_a_network_from_scratch_has_a_first_result_soon_and_then_as_many_epochs_as_there_is_time_for(
    begin: Callable[..., TimedFolder], trainer: Trainer, tmp_path: Path
) -> None:
    many = catalog(tmp_path, 32_000, side=32)
    trainer.losses, trainer.image = {"longer": 0.3}, 0.001
    found = begin(start=plan(32).config, images=many)
    first, longer = trainer.configs["default"].train, trainer.configs["longer"].train
    assert [*trainer.configs] == [kind.name for kind in FROM_SCRATCH]
    assert trainer.given["default"] == pytest.approx(120.0)
    assert first.steps_per_epoch == 200
    assert longer.steps_per_epoch is None
    # 16,000 images take 2.5 times as long as 200 batches of 32 did, which was 2 s.
    assert longer.epochs == 40  # at most; there is time for 93
    assert longer.schedule == "cosine"
    assert found.best == "longer"


def test_where_the_validation_images_could_show_no_gain_the_time_is_not_spent(
    begin: Callable[..., TimedFolder], trainer: Trainer
) -> None:
    trainer.losses = {"default": -0.985}  # the fake's losses are 1 more
    found = begin()
    assert {name for name, step in found.steps.items() if step.status == "tried"} == {"default"}
    assert "could show no gain" in found.steps["whole"].reason
    assert found.record["spent_seconds"] < 60


@pytest.mark.parametrize("kind", ON_BACKBONE[1:], ids=lambda kind: kind.name)
def test_no_step_is_begun_that_the_time_does_not_pay_for(kind: Any) -> None:
    now = Situation(ON_IT, ON_IT, 10_000, 15_000, 500, 0.05, 20.0, 0, None, None, 15.0)
    assert isinstance(kind.change(now), str)


def test_without_keras_nothing_is_fine_tuned_and_it_is_said_what_to_install(
    begin: Callable[..., TimedFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "has_keras", lambda: False)
    found = begin()
    for name in ("top", "whole"):
        assert found.steps[name].status == "skipped"
        assert "pip install 'tellapart[train]'" in found.steps[name].reason
    assert found.steps["mirrored"].status == "tried"
