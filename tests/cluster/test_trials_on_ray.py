"""`tune` and `ladder --cluster` on a real cluster of two nodes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tellapart.experiments.ladder import LadderFolder
from tellapart.experiments.tune import TuneFolder, trials_of
from tests.cluster.conftest import TwoNodes
from tests.command import COMMAND

pytest.importorskip("optuna")
pytest.importorskip("keras")
pytestmark = pytest.mark.soak

SMALL = ["--model", "dense", "--set", "image.height=16", "--set", "image.width=16", "--set", "train.epochs=40"]


def test_the_trials_of_a_killed_worker_are_run_again(two_nodes: TwoNodes, two_shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "tune"
    words = [*COMMAND, "tune", str(two_shapes), *SMALL, "--trials", "4", "--budget", "30m", "--out", str(out)]
    words += ["--cluster", two_nodes.address, "--trial-cpus", "3"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as command:
        while not list(out.glob("trial-2/history.jsonl")) and command.poll() is None:
            time.sleep(0.05)
        two_nodes.kill_second()
        assert command.stdout is not None
        said = command.stdout.read()
    assert command.returncode == 0, said
    trials = trials_of(TuneFolder.open(out).study())
    assert [each.number for each in trials] == [1, 2, 3, 4]
    assert {each.status for each in trials} <= {"done", "pruned"}
    assert (out / "best.toml").exists()
    assert (out / "study.journal").exists()


def test_the_rung_of_a_killed_worker_is_trained_again(two_nodes: TwoNodes, two_shapes: Path, tmp_path: Path) -> None:
    two_nodes.add_another()
    out = tmp_path / "ladder"
    words = [*COMMAND, "ladder", str(two_shapes), *SMALL[2:], "--budget", "30m", "--out", str(out)]
    words += ["--rung", "dense", "--rung", "conv", "--cluster", two_nodes.address, "--trial-cpus", "3"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as command:
        while len(list(out.glob("*/history.jsonl"))) < 2 and command.poll() is None:
            time.sleep(0.05)
        two_nodes.kill_second()
        assert command.stdout is not None
        said = command.stdout.read()
    assert command.returncode == 0, said
    ladder = LadderFolder.open(out)
    assert {state.status for state in ladder.states.values()} == {"done"}
    assert all(state.milliseconds and state.processor_seconds for state in ladder.states.values())
    assert all((out / name / "model.onnx").exists() for name in ladder.states)
    assert (out / "ladder.html").exists()
