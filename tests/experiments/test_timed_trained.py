"""train --time with real networks: killed and resumed from the command line, and through all its steps."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.experiments.timed import TimedFolder
from tests.command import COMMAND
from tests.experiments.killed import kill_once_there

pytest.importorskip("keras")

SMALL = ("model.filters=[8, 16]", "model.dense=[16]", "image.height=32", "image.width=32", "train.epochs=4")


def assert_finished(folder: Path, images: Path) -> TimedFolder:
    """The folder is the run of its best step, and nothing of the others is left."""
    run, timed = ta.open_run(folder), TimedFolder.open(folder)
    assert run.status == "done"
    assert timed.record["over"]
    assert timed.best is not None
    assert run.config.train.epochs == timed.steps[timed.best].config["train"]["epochs"]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(("step-", "losses-", "."))]
    page = run.report_file.read_text(encoding="utf-8")
    assert '<section aria-labelledby="time">' in page
    assert f"{timed.best.capitalize()} <span>" in page
    assert {found.label for found in run.predict(images / "disc")} <= set(run.task.classes)
    return timed


@pytest.mark.slow
def test_a_training_with_a_time_budget_that_was_killed_goes_on_and_ends_as_the_run_of_its_best_step(
    shapes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    begun = [*COMMAND, "train", str(shapes), "--model", "cnn", *settings, "--time", "150s", "--out", str(folder)]
    process = subprocess.Popen(begun, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kill_once_there(process, folder / "step-default" / "history.jsonl")
    with pytest.raises(ta.TellapartError, match="--resume"):
        ta.open_run(folder)
    done = subprocess.run(
        [*COMMAND, "train", "--resume", str(folder)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    timed = assert_finished(folder, shapes)
    assert [step.status for step in timed.steps.values()] == ["tried", "tried"]
    assert timed.steps["longer"].config["train"]["epochs"] >= 6
    with pytest.raises(ta.TellapartError, match="done: there is nothing to resume"):
        ta.resume(folder)


@pytest.mark.soak
def test_a_backbone_goes_through_all_steps(two_shapes: Path, tmp_path: Path) -> None:
    ta.train(two_shapes, image_size=64, time=400, out=tmp_path / "run")
    timed = assert_finished(tmp_path / "run", two_shapes)
    assert timed.steps["larger"].status == "skipped"
    assert {timed.steps[name].status for name in ("default", "mirrored", "views", "top", "whole")} == {"tried"}
