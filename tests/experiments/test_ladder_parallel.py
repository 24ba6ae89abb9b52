"""Several rungs at a time, as on a cluster, in the world without networks of test_ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tellapart.data.catalog import Catalog
from tellapart.experiments import ladder as climbing
from tellapart.experiments.ladder import LadderFolder, State, Work, climb, settle, trained
from tellapart.experiments.study import Session, attempt
from tellapart.progress import SILENT

pytest.importorskip("keras")

from tests.experiments.test_ladder import World, catalog, make_ladder

__all__ = ["catalog"]  # a fixture


class Several:
    """Rungs that are trained in the opposite order of their start, each knowing the ladder by its folder alone."""

    def __init__(self, world: World, ladder: LadderFolder, slots: int) -> None:
        self.world, self.ladder, self.slots = world, ladder, slots
        self.works: list[Work] = []
        self.most = 0

    def start(self, work: Work) -> None:
        assert LadderFolder.open(self.ladder.path).states[work.rung.name].judged == work.state.judged
        self.works.append(work)
        self.most = max(self.most, len(self.works))

    def next(self) -> tuple[str, State]:
        work = self.works.pop()
        ladder, state = LadderFolder.open(self.ladder.path), replace(work.state)
        run, config = ladder.run(work.rung.name), ladder.rung_config(work.rung)
        train = self.world.train
        outcome = None
        if not trained(run):
            outcome = attempt(run, lambda: train(self.world.catalog, config, run.path, work.seconds, SILENT))
        settle(run, state, self.world.catalog, outcome)
        state.finishing_seconds = 5.0
        return work.rung.name, state


@pytest.fixture
def world(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(climbing, "_milliseconds", lambda *_: 7.0)
    return World(catalog, monkeypatch)


def climbed(world: World, path: Path, slots: int, names: Sequence[str] = ()) -> tuple[Several, LadderFolder]:
    ladder = make_ladder(path, names)
    made: list[Several] = []

    def runner(session: Session) -> Several:  # noqa: ARG001
        made.append(Several(world, ladder, slots))
        return made[0]

    climb(ladder, world.catalog, train=world.train, progress=SILENT, watch=lambda _: None, runner=runner)
    return made[0], LadderFolder.open(path)


def test_one_at_a_time_gives_every_rung_the_time_that_it_has_without_a_cluster(world: World, tmp_path: Path) -> None:
    world.wanted = {"conv": 300.0, "residual": 900.0}
    climb_here = make_ladder(tmp_path / "here")
    world.climb(climb_here)
    here, world.budgets, world.now = world.budgets, [], 0.0
    world.wanted = {"conv": 300.0, "residual": 900.0}
    runner, there = climbed(world, tmp_path / "there", 1)
    assert world.budgets == here
    assert runner.most == 1
    assert {name: state.status for name, state in there.states.items()} == {
        name: state.status for name, state in climb_here.states.items()
    }


def test_as_many_rungs_as_there_is_room_for_are_trained_at_a_time_and_the_record_has_them_all(
    world: World, tmp_path: Path
) -> None:
    runner, ladder = climbed(world, tmp_path / "ladder", 3)
    assert runner.most == 3
    assert {state.status for state in ladder.states.values()} == {"done"}
    assert {state.milliseconds for state in ladder.states.values()} == {7.0}, "timed side by side, on one machine"
    assert len(world.budgets) == len(ladder.rungs)


def test_with_room_for_all_each_rung_has_all_the_time(world: World, tmp_path: Path) -> None:
    climbed(world, tmp_path / "ladder", 4, ("dense", "conv"))
    assert dict(world.budgets)["dense"] > 900
