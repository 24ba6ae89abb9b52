"""kill -9 at any moment, then --resume: the same history and weights as a run that was never stopped."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import COMMAND, PATIENCE

pytest.importorskip("keras")

SETTINGS = (
    "model.name=cnn", "image.height=32", "image.width=32", "model.filters=[8, 16]", "model.dense=[16]",
    "model.dropout=0.3",
    "train.batch_size=4", "train.epochs=6", "train.patience=0", "train.learning_rate=0.003", "augment=medium",
)  # fmt: skip


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, "train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> None:
    """Kill the process once the moment has come; it must come before the process ends."""
    until = time.monotonic() + 120
    while not moment():
        assert process.poll() is None, f"ended before it could be killed: {process.communicate()[1].decode()}"
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_ctrl_c_at_the_terminal_ends_cleanly_with_a_run_that_evaluates(shapes: Path, tmp_path: Path) -> None:
    settings = [part for setting in (*SETTINGS, "train.epochs=500") for part in ("--set", setting)]
    process = start(str(shapes), "--out", str(tmp_path / "run"), *settings)
    history = tmp_path / "run" / "history.jsonl"
    until = time.monotonic() + 120
    while not history.exists() or len(history.read_text().splitlines()) < 3:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 130, errors
    run = ta.open_run(tmp_path / "run")
    assert run.status == "interrupted"
    assert run.record.stopped.startswith("interrupted in epoch")
    assert run.evaluate().n == 12


@pytest.mark.slow
def test_a_run_killed_at_five_moments_ends_as_one_never_stopped(
    shapes: Path, tmp_path: Path, assert_same_run: Callable[[ta.Run, ta.Run], None]
) -> None:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    killed = tmp_path / "killed"
    one = ta.train(shapes, out=tmp_path / "whole", settings=SETTINGS)
    history = killed / "history.jsonl"
    moments: list[Callable[[], bool]] = [
        (killed / "run.json").exists,
        lambda: any((killed / "checkpoint").glob(".tellapart-*-weights-1.*")) or history.exists(),
        lambda: history.exists() and len(history.read_text().splitlines()) >= 3,
        lambda: history.exists() and len(history.read_text().splitlines()) >= 5,
        lambda: any(killed.glob(".tellapart-*-model.keras")) or (killed / "model.keras").exists(),
    ]
    arguments = [str(shapes), "--out", str(killed), *settings]
    for moment in moments:
        kill_when(start(*arguments), moment)
        arguments = ["--resume", str(killed)]
    resumed = start(*arguments)
    errors = resumed.communicate()[1].decode()
    assert resumed.returncode == 0, errors

    two = ta.open_run(killed)
    assert_same_run(one, two)
    assert one.metrics == two.metrics
    assert two.status == "done"
    leftovers = [p.name for p in two.path.rglob("*") if p.name.startswith(".")]
    assert not leftovers


@pytest.mark.slow
def test_features_that_a_killed_run_had_computed_are_not_computed_again(
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_run: Callable[[ta.Run, ta.Run], None],
) -> None:
    settings = ("image.height=128", "image.width=128", "train.epochs=1", "train.views=6", "model.dense=[4]")
    data = ["builtin:pets", *(part for setting in settings for part in ("--set", setting))]
    kept = own_cache / "features"

    def stored() -> int:
        found = 0
        for index in kept.glob("*/index.sqlite"):
            with closing(sqlite3.connect(index)) as connection, suppress(sqlite3.Error):
                found += connection.execute("SELECT count(*) FROM images").fetchone()[0]
        return found

    kill_when(start(*data, "--out", str(tmp_path / "killed")), lambda: stored() > 0)
    before = stored()
    resumed = start("--resume", str(tmp_path / "killed"))
    errors = resumed.communicate()[1].decode()
    assert resumed.returncode == 0, errors
    killed = ta.open_run(tmp_path / "killed")
    wanted = 6 * sum(killed.catalog.counts()["train"].values())
    assert f"features, train: {wanted - before:,} of {wanted - before:,}" in errors

    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "another cache"))
    whole = ta.train("builtin:pets", out=tmp_path / "whole", settings=settings)
    assert_same_run(killed, whole)
