"""One writer a run, whoever is killed; what killed processes leave is cleared by the next, and by no living one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import RunError
from tellapart.files import clear_drafts, drafting, machine, replacing, write_text
from tellapart.progress import Progress
from tellapart.runs import lock
from tellapart.runs.lock import LOCK, one_writer
from tellapart.runs.safe_folder import Inside
from tests.command import COMMAND, PATIENCE

SETTINGS = ("model.name=cnn", "model.filters=[4]", "model.dense=[4]", "image.height=24", "image.width=24",
            "train.patience=0")  # fmt: skip
HOLD = """
import sys, pathlib
from tellapart.runs.safe_folder import Inside
from tellapart.runs.lock import one_writer
folder = Inside(); folder.path = pathlib.Path(sys.argv[1])
with one_writer(folder, beside_others=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Another process that holds the lock of the folder, until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def inside(path: Path) -> Inside:
    folder = Inside()
    folder.path = path
    return folder


def test_a_second_writer_is_refused_with_the_first_ones_name_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with (
            pytest.raises(RunError, match=f"written by process {process.pid} on this machine"),
            one_writer(inside(tmp_path)),
        ):
            pytest.fail("two writers")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK).exists()
    with one_writer(inside(tmp_path)):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_writer_with_a_long_command_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellapart.runs.lock.command_line", lambda: "tellapart train " + "\N{SNOWMAN}\1" * 10_000)
    with one_writer(inside(tmp_path)):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


def test_reports_and_exports_stand_beside_each_other_and_keep_training_away(tmp_path: Path) -> None:
    folder = inside(tmp_path)
    with holder(tmp_path, "beside"):
        with one_writer(folder, beside_others=True):
            pass
        assert (tmp_path / LOCK).exists()  # the other one holds it still
        with pytest.raises(RunError, match="another process that writes"), one_writer(folder):
            pytest.fail("trained while it was reported")
    refused = pytest.raises(RunError, match="being written by process")
    with one_writer(folder), refused, one_writer(folder, beside_others=True):
        pytest.fail("reported while it was trained")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_owner_takes_away_meanwhile_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, take, asked = tmp_path / LOCK, lock.take, []

    def take_late(file: int, *, shared: bool = False) -> bool:
        if not asked:
            path.unlink()  # its owner ended between our opening and locking
        asked.append(file)
        return take(file, shared=shared)

    monkeypatch.setattr(lock, "take", take_late)
    with one_writer(inside(tmp_path)):
        assert path.exists()
        with pytest.raises(RunError, match="being written"), one_writer(inside(tmp_path)):
            pytest.fail("two writers")
    assert len(asked) == 3


def test_an_owner_on_another_machine_is_called_by_its_name(tmp_path: Path) -> None:
    with one_writer(inside(tmp_path)):
        path = tmp_path / LOCK
        path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "00000000", "host": "node7"}))
        with pytest.raises(RunError, match=f"by process {os.getpid()} on node7"), one_writer(inside(tmp_path)):
            pytest.fail("two writers")


def test_a_file_system_without_locks_is_worked_on_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with one_writer(inside(tmp_path)), one_writer(inside(tmp_path)):
        (tmp_path / "x").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_error_of_the_writer_is_its_own_and_lets_the_lock_go(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="his"), one_writer(inside(tmp_path)):
        raise FileNotFoundError("his")
    with one_writer(inside(tmp_path)):
        pass


@pytest.mark.skipif(os.name != "posix", reason="only there a process can be asked for without harm")
def test_what_a_killed_process_left_is_cleared_by_the_next_that_writes_there_and_a_living_ones_stays(
    tmp_path: Path,
) -> None:
    begin = (
        "import sys, pathlib, contextlib\n"
        "from tellapart.files import drafting, replacing\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "with drafting(place, 'folder') as folder, replacing(place / 'file.txt') as neighbour:\n"
        "    (folder / 'inner').mkdir(); (folder / 'inner' / 'x').write_text('x'); neighbour.write_text('half')\n"
        "    print('there', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", begin, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yours = [".hidden", ".export-mine", ".tellapart-mine", f".tellapart-{machine()}-1x-00000000-a"]
        for name in yours:
            (tmp_path / name).write_text("mine")
        write_text(tmp_path / "other.txt", "x")
        assert len(list(tmp_path.glob(f".tellapart-*-{process.pid}-*"))) == 2
        process.kill()
    write_text(tmp_path / "other.txt", "y")
    assert {path.name for path in tmp_path.iterdir()} == {"other.txt", *yours}


def test_a_draft_of_this_process_is_not_taken_from_it(tmp_path: Path) -> None:
    with drafting(tmp_path, "a" * 250) as draft, replacing(tmp_path / ("b" * 250)) as neighbour:
        clear_drafts(tmp_path)
        assert draft.is_dir()
        assert neighbour.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b" * 250]


@pytest.fixture(scope="module")
def interrupted(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """Stopped after its first epoch; only to be read while its lock is held."""
    pytest.importorskip("keras")

    class Stopped(Progress):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            if stage.startswith("epoch 2/"):
                raise KeyboardInterrupt

    config = ta.make_config(settings=[*SETTINGS, "train.epochs=3"])
    return ta.train(two_shapes, out=tmp_path_factory.mktemp("runs") / "run", config=config, progress=Stopped())


def test_a_run_that_another_process_trains_is_neither_resumed_nor_reported_nor_exported_into(
    interrupted: ta.Run, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in interrupted.path.rglob("*")}
    with holder(interrupted.path) as process:
        for words in (
            ["train", "--resume", interrupted.path], ["report", interrupted.path], ["export", interrupted.path],
        ):  # fmt: skip
            done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
            assert done.returncode == 2
            assert f"is being written by process {process.pid} on this machine" in done.stderr
        assert interrupted.evaluate().n == 12  # reading is free
        ta.export(interrupted.path, out=tmp_path / "elsewhere.onnx")
        process.kill()
    (interrupted.path / LOCK).unlink()
    assert {path: path.stat().st_mtime_ns for path in interrupted.path.rglob("*")} == before


def test_ladders_and_searches_have_one_writer_too(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    pytest.importorskip("optuna")
    from tellapart.experiments.ladder import create_ladder
    from tellapart.experiments.rungs import chosen
    from tellapart.experiments.tune import create_tune

    create_ladder(tmp_path / "ladder", chosen(["dense", "conv"]), budget_seconds=1, config={}, settings=[], data="x")
    create_tune(tmp_path / "tune", ta.make_config(model="dense"), budget_seconds=1, trials=1, data="x", command="")
    for use, place in ((ta.resume_ladder, tmp_path / "ladder"), (ta.resume_tune, tmp_path / "tune")):
        with holder(place) as process:
            with pytest.raises(RunError, match=f"{place.name} is being written by process {process.pid}"):
                use(place)
            process.kill()


@pytest.mark.slow
def test_three_that_train_at_once_without_a_name_take_three(two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    settings = [part for setting in (*SETTINGS, "train.epochs=1") for part in ("--set", setting)]
    started = [
        subprocess.Popen(
            [*COMMAND, "train", str(two_shapes), *settings], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in started:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, 1), errors
    runs = ta.list_runs(tmp_path / "runs")
    assert {run.path.name for run in runs} == {f"two-shapes-cnn-{number}" for number in (1, 2, 3)}
    assert all(run.status == "done" and run.report_file.exists() for run in runs)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"two-shapes-cnn-{number}" for number in (1, 2, 3)}


@pytest.mark.slow
def test_a_run_killed_between_its_end_and_its_report_says_so_and_is_finished_by_whatever_one_tries(
    two_shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    place = tmp_path / "a run"
    kill = (
        "import os, signal, sys\n"
        "import tellapart.report.write as write\n"
        "write.render = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from tellapart.cli.main import run; run()\n"
    )
    settings = [part for setting in (*SETTINGS, "train.epochs=1") for part in ("--set", setting)]
    words = [sys.executable, "-c", kill, "train", str(two_shapes), "--out", str(place), *settings]
    assert subprocess.run(words, capture_output=True, check=False).returncode == -signal.SIGKILL
    run = ta.open_run(place)
    assert (run.status, run.report_file.exists(), bool(run.missing_report)) == ("done", False, True)

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, cwd=tmp_path)

    image = next(two_shapes.rglob("*.png"))
    for done in (call("predict", place, image), call("runs", tmp_path)):
        assert done.returncode == 0, done.stderr
        assert f"tellapart report '{place}'" in done.stderr
    assert json.loads(call("runs", tmp_path, "--format", "json").stdout)[0]["status"] == "done"
    time.sleep(0.01)
    before = {path: path.stat().st_mtime_ns for path in place.glob("model.*")}
    done = call("train", "--resume", place)
    assert done.returncode == 0, done.stderr
    assert f"tellapart report '{place}'" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in place.glob("model.*")} == before
    assert run.report_file.exists()
    run.report_file.unlink()  # by its owner, who is told nothing
    assert not call("runs", tmp_path).stderr
    assert call("report", place).returncode == 0
    assert "report" not in call("predict", place, image).stderr
