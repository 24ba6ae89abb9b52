"""Several trials at a time, as on a cluster, in the world without networks of test_tune."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.errors import ConfigError, TrainingError
from tellapart.experiments.study import Outcome, Session
from tellapart.experiments.tune import JOURNAL, TuneFolder, Work, create_tune, learn_trial, ranked, search, trials_of
from tellapart.progress import SILENT

optuna = pytest.importorskip("optuna")
pytest.importorskip("keras")

from tests.experiments.test_tune import World  # noqa: E402 - skipped without optuna


class Several:
    """Trials that are trained in the opposite order of their start; those of `killed` only at the second try."""

    def __init__(self, world: World, tune: TuneFolder, slots: int, killed: set[int]) -> None:
        self.world, self.tune, self.slots, self.killed = world, tune, slots, killed
        self.works: list[Work] = []
        self.most = 0

    def start(self, work: Work) -> None:
        self.works.append(work)
        self.most = max(self.most, len(self.works))

    def next(self) -> tuple[int, Outcome]:
        work = self.works.pop()
        tries = 2 if work.number in self.killed else 1
        for number in range(tries):
            # As in a process of its own, which knows the search by its folder alone.
            tune = TuneFolder.open(self.tune.path)
            trial = optuna.trial.Trial(tune.study(), work.trial_id)
            cut = 3.0 if number < tries - 1 else work.seconds
            outcome = learn_trial(
                tune,
                trial,
                work,
                lambda config, run, told, cut=cut: self.world.learn(
                    self.world.catalog, config, run.path, cut, SILENT, told
                ),
            )
        return work.number, outcome


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def searched(world: World, path: Path, slots: int, trials: int, killed: set[int] = frozenset()) -> tuple[Several, list]:  # type: ignore[assignment, type-arg]
    given = {"data": "images", "budget_seconds": 10_000, "trials": trials, "command": "tune", "storage": JOURNAL}
    tune = create_tune(path, world.start, **given)
    runner = Several(world, tune, slots, killed)

    def make(_: Session) -> Several:
        return runner

    search(tune, world.catalog, learn=world.learn, progress=SILENT, watch=lambda *_: None, runner=make)
    return runner, trials_of(tune.study())


def test_one_at_a_time_gives_the_trials_of_a_search_without_a_cluster_and_four_find_as_good_a_one(
    world: World, tmp_path: Path
) -> None:
    alone = world.search(world.tune(tmp_path / "alone", budget=10_000, trials=14))
    _, one = searched(world, tmp_path / "one", 1, 14)
    assert one == list(alone)
    runner, four = searched(world, tmp_path / "four", 4, 14)
    assert runner.most == 4
    assert len(four) == 14
    monitor = world.start.train.monitor
    best = [ranked(trials, monitor)[0].value or 0.0 for trials in (alone, four)]
    assert best[1] < best[0] + 0.2, "the learning rate is found within a fifth of a decade of the other"


def test_a_trial_whose_worker_was_killed_goes_on_after_its_epochs(world: World, tmp_path: Path) -> None:
    _, trials = searched(world, tmp_path / "tune", 2, 5, killed={1, 3})
    _, whole = searched(world, tmp_path / "whole", 2, 5)
    assert [(each.number, each.values, each.epochs) for each in trials] == [
        (each.number, each.values, each.epochs) for each in whole
    ]
    assert world.trained.count("trial-3") == 3


def test_a_start_that_fails_ends_the_search(world: World, tmp_path: Path) -> None:
    world.fails["trial-1"] = TrainingError("no")
    with pytest.raises(TrainingError):
        searched(world, tmp_path / "tune", 3, 5)


def test_needs_that_no_machine_meets_are_refused() -> None:
    from tellapart.cluster.connection import Node
    from tellapart.cluster.tasks import Needs, room_for

    nodes = [Node("a", "a", 8, 1), Node("b", "b", 4, 0)]
    assert room_for(nodes, Needs(cpus=2)) == 6
    assert room_for(nodes, Needs(cpus=2, parallel=4)) == 4
    with pytest.raises(ConfigError, match=r"16 cores and 0 GPUs for a trial\. The most are 8 cores and 1 GPUs"):
        room_for(nodes, Needs(cpus=16))
