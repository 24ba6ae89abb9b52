"""`tellapart runs`: what each run was trained on, its verdict and its time; a damaged run is a row of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import COMMAND, call


@pytest.fixture
def folder(shapes_run: Path, tmp_path: Path) -> Path:
    """runs/ with a finished run, one that was interrupted, and one whose figures are damaged."""
    for name in ("flowers-cnn-1", "flowers-cnn-2", "flowers-cnn-3"):
        shutil.copytree(shapes_run, tmp_path / "runs" / name)
    second, third = (ta.open_run(tmp_path / "runs" / f"flowers-cnn-{number}") for number in (2, 3))
    second.metrics_file.unlink()
    second.update(status="interrupted", seconds=200.0)
    third.metrics_file.write_text('{"test": {"n": 3}}')
    return tmp_path


def narrow(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [*COMMAND, "runs", "runs"], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def lines_of(shown: str, run: str) -> tuple[str, str]:
    """The line of a run, and the one below it."""
    lines = shown.splitlines()
    place = next(number for number, line in enumerate(lines) if run in line)
    return lines[place], lines[place + 1]


def test_data_verdict_and_time_stand_in_80_columns(folder: Path) -> None:
    found = narrow(folder)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    headings = " ".join(lines[: next(n for n, line in enumerate(lines) if "─" in line)]).split()
    assert {"accuracy", "data", "interval", "run", "time", "verdict"} <= set(headings)
    first, below = lines_of(found.stdout, "flowers-cnn-1")
    run = ta.open_run(folder / "runs" / "flowers-cnn-1")
    assert run.metrics["test"]["verdict"]["use"] in first
    assert first.split()[-1] == "s"
    assert below.startswith(" two-shapes "), "the name of the folder it was trained on"
    assert " to " in below
    second = lines_of(found.stdout, "flowers-cnn-2")[0]
    assert "interrupted" in second
    assert "3 min 20 s" in second


def test_a_wide_terminal_has_a_column_for_each(folder: Path) -> None:
    header = call("runs", folder / "runs").stdout.splitlines()[1]
    for name in ("data", "accuracy (interval)", "verdict", "time", "begun (UTC)", "judged on", "model"):
        assert name in header


def test_a_damaged_run_is_a_row_and_hides_no_other(folder: Path) -> None:
    found = narrow(folder)
    assert "damaged" in lines_of(found.stdout, "flowers-cnn-3")[0]
    assert "flowers-cnn-3 are damaged or not from tellapart" in found.stderr
    rows = json.loads(call("runs", folder / "runs", "--format", "json").stdout)
    assert [row["status"] for row in rows] == ["done", "interrupted", "damaged"]
    assert "flowers-cnn-3" in rows[2]["error"]
    assert [row.name for row in ta.summarize_runs(folder / "runs", where=["accuracy>=0"])] == ["flowers-cnn-1"]
    (folder / "runs" / "flowers-cnn-2" / "run.json").write_text("{")
    rows = json.loads(call("runs", folder / "runs", "--format", "json").stdout)
    assert {row["name"]: row["status"] for row in rows} == {
        "flowers-cnn-1": "done", "flowers-cnn-2": "damaged", "flowers-cnn-3": "damaged",
    }  # fmt: skip
    assert "run.json is damaged" in next(row["error"] for row in rows if row["name"] == "flowers-cnn-2")
    page = ta.write_index(folder / "runs").read_text(encoding="utf-8")
    assert "flowers-cnn-1" in page
    assert "are damaged" in page


def test_the_time_of_a_run_is_all_that_it_took(shapes_run: Path) -> None:
    run = ta.open_run(shapes_run)
    (row,) = (row for row in ta.summarize_runs(run.path.parent) if row.name == run.path.name)
    assert row.time == run.record.seconds >= sum(epoch.seconds for epoch in run.history)
    assert row.source == "two-shapes"
