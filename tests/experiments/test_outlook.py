"""What more time would be spent on is told from what was measured in a run, and no gain is promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellapart.config import Config
from tellapart.experiments import steps
from tellapart.experiments.outlook import outlook
from tellapart.experiments.steps import ON_BACKBONE
from tellapart.experiments.timed import create_timed
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import RunFolder, create_run
from tests.experiments.test_timed import ON_IT, catalog
from tests.values import history_row, plan

ADDS = {kind.name: kind.adds for kind in ON_BACKBONE}


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFolder]:
    """A run of 400 images, 100 of them of validation, as training leaves it."""
    monkeypatch.setattr(steps, "has_keras", lambda: True)

    def made(config: Config = ON_IT, accuracy: float = 0.78, loss: float = 0.6, **record: Any) -> RunFolder:
        run = create_run(tmp_path / "run", plan(config.image.height or 8, config), catalog(tmp_path, 400))
        run.write_history([history_row(1, phase="head", regularization=1.0, val_accuracy=accuracy)])
        ended = {"status": "done", "best_epoch": 1, **Stop(StopReason.CONVERGED, "in words").to_dict()}
        found = {"seconds": 12.0, "image_seconds": 0.01, "calibration": {"validation_loss": loss}}
        run.update(**ended | found | record)
        return run

    return made


def test_each_step_that_fits_is_told_with_its_seconds_at_the_measured_rate(done: Callable[..., RunFolder]) -> None:
    told = outlook(done())
    assert told is not None
    assert told.budget == "5m"
    costs = dict(told.steps)
    assert costs[ADDS["mirrored"]] == pytest.approx(200 * 0.01)
    assert costs[ADDS["views"]] == pytest.approx(3 * costs[ADDS["mirrored"]])
    assert costs[ADDS["top"]] >= 400 * 0.01
    assert sum(costs.values()) <= 300 - 12
    assert "--time 5m would also try: each" in told.sentences[0]
    assert "22 of 100 validation images are wrong" in told.sentences[1]


def test_a_slower_machine_has_fewer_steps_and_where_none_fits_more_time_is_named(
    done: Callable[..., RunFolder],
) -> None:
    run = done(image_seconds=0.3)
    told = outlook(run)
    assert told is not None
    assert ADDS["whole"] not in dict(told.steps)
    run.update(image_seconds=10.0)
    later = outlook(run)
    assert later is not None
    assert later.budget == "1h"
    run.update(image_seconds=1e6)
    assert outlook(run) is None


def test_where_the_validation_images_could_show_no_gain_that_is_told(done: Callable[..., RunFolder]) -> None:
    told = outlook(done(accuracy=0.99, loss=0.01))
    assert told is not None
    assert told.steps == ()
    assert told.sentences == (
        "--time would hardly gain: 1 of 100 validation images is wrong, with a log loss of 0.010, too little to tell a "
        "better classifier from this one.",
    )


def test_nothing_is_told_of_a_run_that_had_its_time_or_measured_nothing(done: Callable[..., RunFolder]) -> None:
    run = done(image_seconds=None)
    assert outlook(run) is None
    run.update(image_seconds=0.01)
    assert outlook(run) is not None
    create_timed(run.path / "other", ON_IT, budget_seconds=60.0)
    (run.path / "other" / "time.json").rename(run.path / "time.json")
    assert outlook(run) is None
