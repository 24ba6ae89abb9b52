"""A ladder and a search that an earlier version began, and that were killed, open and go on to their end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.experiments.ladder import LadderFolder
from tellapart.experiments.tune import TuneFolder, trials_of
from tests.conftest import make_shapes

pytest.importorskip("keras")

BEFORE = Path(__file__).parent / "before"


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both folders, beside the images that they name."""
    monkeypatch.chdir(tmp_path)
    make_shapes(tmp_path / "two shapes", ("disc", "stripes"), 30)
    return shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)


def test_a_ladder_of_before_goes_on_with_the_rung_that_was_killed(before: Path) -> None:
    ladder = LadderFolder.open(before / "ladder")
    assert [state.status for state in ladder.states.values()] == ["done", "training"]
    done = ladder.states["dense"]
    found = ta.resume_ladder(before / "ladder")
    assert [(each.name, each.state.status) for each in found.standings] == [("dense", "done"), ("conv", "done")]
    assert found.standing("dense").state == done
    assert found.ladder.record["spent_seconds"] > ladder.record["spent_seconds"]
    assert found.ladder.page_file.exists()


def test_a_search_of_before_goes_on_with_the_trial_that_was_killed(before: Path) -> None:
    pytest.importorskip("optuna")
    tune = TuneFolder.open(before / "tune")
    first, killed = trials_of(tune.study())
    assert (first.status, killed.status) == ("done", "unfinished")
    found = ta.resume_tune(before / "tune")
    assert found.trials[0] == first
    assert found.trials[1].values == killed.values
    assert [each.status for each in found.trials] == ["done"] * 3
    assert found.tune.page_file.exists()
    assert ta.make_config(config=found.tune.best_file) == found.tune.trial(found.best.number).config
