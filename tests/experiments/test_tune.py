"""A search keeps to its budget, goes on where it was, and tells what it tried, in a world without networks."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import tellapart as ta
from tellapart.config import Config
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.errors import ConfigError, MissingExtraError, RunError, TrainingError
from tellapart.experiments import study as clock
from tellapart.experiments import tune as tuning
from tellapart.experiments import tune_result
from tellapart.experiments.space import (
    start_values,
)
from tellapart.experiments.tune import Trial, TuneFolder, create_tune, ranked, search, trials_of
from tellapart.progress import SILENT, Progress
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import RunFolder, create_run
from tellapart.task import Task
from tellapart.training.epochs import Watch
from tests.experiments.starts import CLASSES, STARTS
from tests.values import history_row, plan

pytest.importorskip("keras")

pytest.importorskip("optuna")


class World:
    """Training without a network, on a clock of its own: val_loss falls over ten epochs to what the learning rate is
    worth, a second each."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [ImageRecord(f"{i}.jpg", CLASSES[i % 2], "validation", "", f"{i}", 8, 8, "RGB") for i in range(20)]
        self.catalog = Catalog(path, Task(CLASSES), tuple(rows))
        self.now, self.trained = 0.0, list[str]()
        self.fails: dict[str, BaseException] = {}
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.start = STARTS["cnn"]

    def learn(
        self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch
    ) -> HistoryRow:
        if out.name in self.fails:
            raise self.fails[out.name]
        self.trained.append(out.name)
        run = RunFolder(out)
        if not run.run_file.exists():
            create_run(out, plan(config=config), catalog)
        target = abs(math.log10(config.train.learning_rate) + 2.5)
        stop, until = Stop(StopReason.EPOCHS_DONE, "all epochs done"), self.now + budget
        for epoch in range(len(run.history) + 1, 11):
            self.now += 1
            if self.now > until:
                stop = Stop(StopReason.TIME_UP, f"interrupted in epoch {epoch}")
                break
            row = history_row(epoch, val_loss=target + 1 / epoch, val_accuracy=0.75, seconds=1.0)
            run.write_history([*run.history, row])
            progress.update("epoch", epoch, 10)
            if told := watch(row):
                stop = Stop(StopReason.WATCH, told)
                break
        run.update(status="interrupted", **stop.to_dict())
        return best_row(run.history, config.train.monitor)

    def search(self, tune: TuneFolder) -> tuple[Trial, ...]:
        search(tune, self.catalog, learn=self.learn, progress=SILENT, watch=lambda *_: None)
        return tuple(trials_of(tune.study()))

    def tune(self, path: Path, budget: float = 1000, trials: int | None = 12) -> TuneFolder:
        return create_tune(path, self.start, data="images", budget_seconds=budget, trials=trials, command="tune")


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
    importance = tune_result._importance(tune.study(), trials)
    assert importance["train.learning_rate"] > 0.6  # nothing else matters in this world
    assert list(importance.values()) == sorted(importance.values(), reverse=True)
    assert sum(importance.values()) == pytest.approx(1, abs=0.01)
    assert tune_result._importance(tune.study(), trials[: tune_result.FEWEST_FOR_IMPORTANCE - 1]) == {}


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

    def stopping(
        catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch
    ) -> HistoryRow:
        def told(row: HistoryRow) -> str:
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
        tune = TuneFolder.open(tune.path)
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
    tune = TuneFolder.open(tune.path)
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
        TuneFolder.open(tmp_path)
    with pytest.raises(RunError, match=r"time was up before the first trial.*--resume"):
        tune_result.chosen_of(world.tune(tmp_path / "tune"))
    with pytest.raises(RunError, match="not empty"):
        world.tune(tmp_path / "tune")
    (tmp_path / "tune" / "tune.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        TuneFolder.open(tmp_path / "tune")
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
    assert "0 s of 16 min 40 s" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "Give the images"),
        (("images", "--resume", "x"), "Give at most --budget, --trials and --cluster"),
        (("--resume", "x", "--recipe", "cats-dogs-64"), "Give at most --budget, --trials and --cluster"),
        (("images", "--recipe", "a", "--config", "b"), "not both"),
        (("images", "--budget", "soon"), "is not a duration"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_do(given: tuple[str, ...], said: str) -> None:
    from typer.testing import CliRunner

    from tellapart.cli.main import app

    shown = CliRunner().invoke(app, ["tune", *given])
    assert shown.exit_code
    assert said in shown.output + str(shown.exception)
