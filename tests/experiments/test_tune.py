"""A search keeps to its budget and to the validation pictures, goes on where it was, and says if it was worth it."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import AUGMENTATIONS, Config
from tellapart.data.batches import Pictures
from tellapart.data.catalog import Catalog, Picture
from tellapart.errors import ConfigError, MissingExtraError, RunError, TrainingError
from tellapart.experiments import clock, tuned
from tellapart.experiments import tune as tuning
from tellapart.experiments.space import (
    AS_GIVEN,
    EPOCHS,
    IMAGE_SIZE,
    PATIENCE,
    dimensions,
    first_config,
    start_values,
    trial_config,
)
from tellapart.experiments.tune import Trial, TuneFolder, create_tune, open_tune, ranked, search, trials_of
from tellapart.models.registry import resolve
from tellapart.progress import SILENT, Progress
from tellapart.recipes import load_recipe, recipe_names
from tellapart.runs.run import RunFolder, create_run
from tellapart.task import ImageSpec, Task
from tellapart.training.epochs import Row, Watch, best_row
from tellapart.training.interruption import TIME_UP

pytest.importorskip("keras")
pytest.importorskip("optuna")

CLASSES = ("cat", "dog")


def decided(**values: object) -> Config:
    """As a run stores it."""
    settings = [f"{name}={value}" for name, value in values.items()]
    config = ta.make_config(settings=["image.height=32", "image.width=32", "image.channels=3", "augment=light"])
    return config.with_values(settings)


STARTS = {
    "cnn": decided(**{"model.name": "cnn"}),
    "cnn, large": decided(**{"model.name": "cnn", "image.height": 128, "image.width": 128}),
    "dense": decided(**{"model.name": "dense"}),
    "residual": decided(**{"model.name": "resnet-small"}),
    "frozen": decided(**{"model.name": "efficientnet-lite0", "train.monitor": "val_accuracy"}),
    "fine-tuned": decided(**{"model.name": "efficientnet-lite0", "train.fine_tune": 2}),
}


@pytest.mark.parametrize("name", STARTS)
def test_every_point_of_a_search_space_is_a_configuration_and_networks_from_nothing_build(name: str) -> None:
    from tellapart.models.build import build

    start = STARTS[name]
    for dimension in dimensions(start):
        for value in dimension.choices or (dimension.low, dimension.high):
            config = trial_config(start, {dimension.name: value})
            row, _ = resolve(config.model)
            if row.base is None and dimension.name in ("model.filters", "model.dense", "model.blocks", IMAGE_SIZE):
                spec = ImageSpec(config.image.height or 0, config.image.width or 0)
                assert build(Task(CLASSES), spec, config.model).count_params() > 0


@pytest.mark.parametrize("name", recipe_names())
def test_a_search_begins_from_exactly_its_recipe_whatever_that_holds(name: str) -> None:
    start = load_recipe(name)
    start = start.model_copy(update={"augment": start.augment or AUGMENTATIONS["light"]})
    for dimension in dimensions(start):
        inside = dimension.start in dimension.choices or dimension.low < float(dimension.start) < dimension.high
        assert inside, dimension
    first = first_config(start)
    assert first.train.validation_steps is None
    assert first == start.model_copy(update={"train": first.train})
    assert first.train == start.train.model_copy(update={"validation_steps": None})


def test_an_epoch_stays_as_many_pictures_whatever_the_batch_size_and_trials_stop_early() -> None:
    start = decided(**{
        "model.name": "cnn", "train.batch_size": 32, "train.steps_per_epoch": 100, "train.epochs": 3,
        "train.patience": 0, "train.validation_steps": 5,
    })  # fmt: skip
    train = trial_config(start, {"train.batch_size": "64"}).train
    assert (train.batch_size, train.steps_per_epoch, train.validation_steps) == (64, 50, None)
    assert (train.epochs, train.patience) == (EPOCHS, PATIENCE)
    assert first_config(start).train.epochs == 3


def test_an_augmentation_that_is_no_preset_stays_one_of_the_choices() -> None:
    start = decided(**{"model.name": "cnn", "augment.rotation": 33})
    assert trial_config(start, {"augment": AS_GIVEN}).augment == start.augment
    assert trial_config(start, {"augment": "strong"}).augment == AUGMENTATIONS["strong"]


def test_a_smoothed_loss_is_not_compared_with_a_plain_one() -> None:
    names = {each.name for each in dimensions(decided(**{"model.name": "efficientnet-lite0"}))}
    assert "train.label_smoothing" not in names
    assert "train.label_smoothing" in {each.name for each in dimensions(STARTS["frozen"])}


class World:
    """Training without a network, on a clock of its own: val_loss falls over ten epochs to what the learning rate is
    worth, a second each."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [Picture(f"{i}.jpg", CLASSES[i % 2], "validation", "", f"{i}", 8, 8, "RGB") for i in range(20)]
        self.catalog = Catalog(path, Task(CLASSES), tuple(rows))
        self.now, self.trained = 0.0, list[str]()
        self.fails: dict[str, BaseException] = {}
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.start = STARTS["cnn"]

    def learn(
        self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch
    ) -> Row:
        if out.name in self.fails:
            raise self.fails[out.name]
        self.trained.append(out.name)
        run = RunFolder(out)
        if not run.run_file.exists():
            create_run(out, config=config, catalog=catalog, spec=ImageSpec(8, 8), command="", decided=[])
        target = abs(math.log10(config.train.learning_rate) + 2.5)
        stopped, until = "all epochs done", self.now + budget
        for epoch in range(len(run.history) + 1, 11):
            self.now += 1
            if self.now > until:
                stopped = f"interrupted in epoch {epoch}: {TIME_UP}"
                break
            row = {"epoch": epoch, "val_loss": target + 1 / epoch, "val_accuracy": 0.75, "seconds": 1.0}
            run.write_history([*run.history, row])
            progress.update("epoch", epoch, 10)
            if told := watch(row):
                stopped = told
                break
        run.update(status="interrupted", stopped=stopped)
        return best_row(run.history, config.train.monitor)

    def search(self, tune: TuneFolder) -> tuple[Trial, ...]:
        search(tune, self.catalog, learn=self.learn, progress=SILENT, watch=lambda *_: None)
        return tuple(trials_of(tune.study()))

    def tune(self, path: Path, budget: float = 1000, trials: int | None = 12) -> TuneFolder:
        return create_tune(path, self.start, data="pictures", budget_seconds=budget, trials=trials, command="tune")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_the_start_comes_first_the_worse_end_early_and_two_runs_are_kept(world: World, tmp_path: Path) -> None:
    # A place whose name means something to SQLite and to Optuna.
    tune = world.tune(tmp_path / "a {b}?c%20#d", trials=16)
    trials = world.search(tune)
    assert [each.number for each in trials] == list(range(1, 17))
    assert trials[0].values == start_values(world.start)
    assert trials[0].value == pytest.approx(0.5 + 0.1)
    pruned = [each for each in trials if each.status == "pruned"]
    done = [each for each in trials if each.status == "done"]
    assert pruned
    assert all(each.epochs < 10 and each.number > tuning.WARM_TRIALS for each in pruned)
    assert all(each.epochs == 10 for each in done)
    best = ranked(trials, "val_loss")[0]
    assert best.value == min(each.value for each in done)
    assert best.value < trials[0].value
    assert {path.name for path in tune.path.glob("trial-*")} == {"trial-1", best.name}


def test_what_mattered_is_told_from_all_that_reached_something_and_not_from_few(world: World, tmp_path: Path) -> None:
    tune = world.tune(tmp_path / "tune", trials=24)
    trials = list(world.search(tune))
    importance = tuned._importance(tune.study(), trials)
    assert importance["train.learning_rate"] > 0.6  # nothing else matters in this world
    assert list(importance.values()) == sorted(importance.values(), reverse=True)
    assert sum(importance.values()) == pytest.approx(1, abs=0.01)
    assert tuned._importance(tune.study(), trials[: tuned.FEWEST_FOR_IMPORTANCE - 1]) == {}


def test_a_higher_accuracy_is_better_where_that_is_monitored() -> None:
    trials = [Trial(n, "done", {}, value, value, 1, 1, "") for n, value in ((1, 0.7), (2, 0.9), (3, 0.9))]
    assert [each.number for each in ranked(trials, "val_accuracy")] == [2, 3, 1]
    assert [each.number for each in ranked(trials, "val_loss")] == [1, 2, 3]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit()], ids=["ctrl-c", "killed"])
def test_a_search_that_was_stopped_ends_as_one_that_never_was(
    world: World, tmp_path: Path, stop: BaseException
) -> None:
    whole = world.search(world.tune(tmp_path / "whole"))
    tune, seen, pruned = world.tune(tmp_path / "stopped"), 0, list[str]()

    def stopping(catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch) -> Row:
        def told(row: Row) -> str:
            nonlocal seen
            seen += 1
            said = watch(row)
            if seen in (3, 44) or (said and not pruned):
                pruned.extend([said] if said else [])
                raise stop
            return said

        return world.learn(catalog, config, out, budget, progress, told)

    for _ in range(3):
        with pytest.raises(type(stop)):
            search(tune, world.catalog, learn=stopping, progress=SILENT, watch=lambda *_: None)
        tune = open_tune(tune.path)
    assert pruned, "the case is of no use if none was to be ended early"
    assert world.search(tune) == whole


def test_a_search_keeps_to_its_budget_and_the_trial_whose_time_was_up_goes_on_with_more(
    world: World, tmp_path: Path
) -> None:
    tune = world.tune(tmp_path / "tune", budget=60, trials=None)
    trials = world.search(tune)
    # Less two runs to be finished, bounded to a quarter of so short a budget.
    assert 44 <= world.now <= 47
    *before, last = trials
    assert last.status == "unfinished"
    assert all(each.status in ("done", "pruned") for each in before)
    tune = open_tune(tune.path)
    tune.record |= {"budget_seconds": 1000, "trials": last.number + 1}
    world.trained.clear()
    *same, gone_on, new = world.search(tune)
    assert world.trained == [last.name, new.name]
    assert same == before
    assert gone_on.values == last.values
    assert gone_on.status != "unfinished"


def test_a_trial_that_fails_stops_no_other_and_a_start_that_fails_stops_all(world: World, tmp_path: Path) -> None:
    world.fails = {"trial-2": TrainingError("no weights to be had")}
    trials = world.search(world.tune(tmp_path / "tune", trials=3))
    assert [each.status for each in trials] == ["done", "failed", "done"]
    assert trials[1].error == "no weights to be had"
    world.fails = {"trial-1": TrainingError("one class")}
    with pytest.raises(TrainingError, match="one class"):
        world.search(world.tune(tmp_path / "another"))


def test_what_is_wrong_with_a_request_is_said(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"no tune\.json"):
        open_tune(tmp_path)
    with pytest.raises(RunError, match=r"time was up before the first trial.*--resume"):
        tuned.chosen_of(world.tune(tmp_path / "tune"))
    with pytest.raises(RunError, match="not empty"):
        world.tune(tmp_path / "tune")
    (tmp_path / "tune" / "tune.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        open_tune(tmp_path / "tune")
    with pytest.raises(ConfigError, match="no recipe"):
        ta.tune(tmp_path, recipe="nonsense")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"tellapart\[tune\]"):
        ta.tune(tmp_path)


def test_the_live_table_shows_the_best_and_the_newest(world: World, tmp_path: Path) -> None:
    from rich.console import Console

    from tellapart.cli.tune import progress_table

    tune = world.tune(tmp_path / "tune")
    trials = [Trial(n, "done", {}, 1 / n, 0.5, 7, 12.4, "") for n in range(1, 15)]
    trials.append(Trial(15, "unfinished", {}, None, None, 0, 0.0, ""))
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(progress_table(tune, trials))
    text = console.export_text()
    console.file.close()
    assert re.search(r"trial-14 \(the best\)\s+done\s+0\.0714\s+50\.0 %\s+7\s+12", text)
    assert re.search(r"trial-15\s+unfinished", text)
    assert "trial-4 " not in text
    assert "0 of 1,000 seconds" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "Give the pictures"),
        (("pictures", "--resume", "x"), "give at most --budget and --trials"),
        (("--resume", "x", "--recipe", "cats-dogs-64"), "give at most --budget and --trials"),
        (("pictures", "--recipe", "a", "--config", "b"), "not both"),
        (("pictures", "--budget", "soon"), "is no time"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_do(given: tuple[str, ...], said: str) -> None:
    from typer.testing import CliRunner

    from tellapart.cli.main import app

    shown = CliRunner().invoke(app, ["tune", *given])
    assert shown.exit_code
    assert said in shown.output + str(shown.exception)


SETTINGS = ("model.name=cnn", "image.height=32", "image.width=32", "model.filters=[8]", "model.dense=[8]",
            "train.epochs=2", "train.batch_size=8")  # fmt: skip


class Looks(Progress):
    """Which splits' pictures were looked at while trials were trained, and whether runs were finished after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.splits: set[str] = set()
        self.finishing = False
        take = Pictures.take

        def noting(pictures: Pictures, rows: np.ndarray) -> np.ndarray:
            if not self.finishing:
                self.splits.update(pictures._pictures[int(row)].split for row in rows)
            return take(pictures, rows)

        monkeypatch.setattr(Pictures, "take", noting)

    def line(self, text: str) -> None:
        self.finishing |= text.startswith("finishing")


@pytest.mark.slow
def test_no_test_picture_is_looked_at_before_the_end_and_best_toml_trains_the_best_run_again(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    config = ta.make_config(settings=SETTINGS)
    found = ta.tune(shapes, budget=3600, trials=3, out=tmp_path / "tune", config=config, progress=looks)
    assert looks.splits == {"train", "validation"}
    assert looks.finishing
    best = ta.open_run(tmp_path / "tune" / found.best.name)
    again = ta.train(shapes, config=Config.read(tmp_path / "tune" / "best.toml"), out=tmp_path / "again")
    for ours, theirs in zip(best.model().get_weights(), again.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert best.metrics == again.metrics
    assert {gap.name for gap in found.gaps} == {"trial-1", found.best.name}
    for gap in found.gaps:
        assert (gap.validation_n, gap.test_n) == (9, 12)
        assert gap.change.value == pytest.approx(gap.test.value - gap.validation.value)
        assert gap.change.low <= gap.change.value <= gap.change.high
    page = found.tune.page_file.read_text()
    for words in ("default-src 'none'", 'href="trial-1/report.html"', "what you began with", "cannot be told from"):
        assert words in page
    # With more trials it goes on, and what was finished stays.
    more = ta.resume_tune(tmp_path / "tune", trials=4)
    assert more.trials[:3] == found.trials
    assert len(more.trials) == 4


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("train.fine_tune=1", "train.epochs=2")], ids=["frozen", "fine-tuned"])
def test_a_pretrained_base_is_searched_too_without_a_look_at_the_test_pictures(
    shapes: Path, tmp_path: Path, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    config = ta.make_config(model="efficientnet-lite0", image_size=32, settings=settings)
    found = ta.tune(shapes, budget=3600, trials=2, out=tmp_path / "tune", config=config, progress=looks)
    assert looks.splits == {"train", "validation"}
    assert looks.finishing
    assert [each.status for each in found.trials] == ["done"] * 2
    assert found.start.values == start_values(found.tune.start)
    for name in {"trial-1", found.best.name}:
        assert ta.open_run(tmp_path / "tune" / name).status == "done"


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_ends_with_its_page(two_shapes: Path, tmp_path: Path) -> None:
    place = tmp_path / "tune"
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    start: Callable[..., subprocess.Popen[str]] = lambda *given: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", "from tellapart.cli.main import run; run()", "tune", *map(str, given)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed = start(two_shapes, "--budget", "30m", "--trials", "4", "--out", place, *options)
    checkpoint = place / "trial-2" / "checkpoint" / "state.json"
    until = time.monotonic() + 240
    while not checkpoint.exists():
        assert killed.poll() is None, killed.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (place / "tune.html").exists()

    resumed = start("--resume", place, "--format", "json")
    out, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "trial 1:" not in errors
    assert "going on after epoch" in errors.partition("trial 3:")[0]
    found = json.loads(out)
    assert [each["number"] for each in found["trials"]] == [1, 2, 3, 4]
    assert Path(found["config"]).exists()
    assert found["best"] in Path(found["page"]).read_text()
    assert not [path for path in place.rglob(".*") if path.is_file()]
