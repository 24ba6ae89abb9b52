"""A fault of tellapart ends with 70, says how to report it, and shows its traceback only where it is asked to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.cli.commands import COMMANDS
from tellapart.cli.exit_codes import ALL, FAULT
from tests.command import COMMAND
from tests.conftest import make_shapes

BROKEN = """
import tellapart.api.runs
def listed(*_, **__):
    raise {error}
tellapart.summarize_runs = listed
from tellapart.cli.main import run
run()
"""


def call(code: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process where listing runs ends so."""
    return subprocess.run(
        [sys.executable, "-c", BROKEN.format(error=code), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_fault_ends_with_70_and_names_the_file_that_tells_all(tmp_path: Path) -> None:
    done = call("KeyError('a \x1b[2J secret')", "runs", tmp_path, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (70, "")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert "tellapart: internal error: KeyError" in done.stderr
    assert "in listed" in done.stderr
    (kept,) = tmp_path.glob("tellapart-fault-*.txt")
    assert str(kept) in done.stderr
    assert kept.stat().st_mode & 0o077 == 0
    text = kept.read_text()
    assert f"tellapart {ta.__version__}" in text
    assert f"runs {tmp_path}" in text
    assert "Traceback (most recent call last)" in text


@pytest.mark.parametrize(("before", "environment"), [(["--debug"], {}), ([], {"TELLAPART_DEBUG": "1"})])
def test_debug_shows_the_traceback_and_writes_no_file(
    before: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = call("KeyError('x')", *before, "runs", tmp_path, TMPDIR=str(tmp_path), **environment)
    assert done.returncode == 70
    assert "Traceback (most recent call last)" in done.stderr
    assert f"tellapart {ta.__version__}" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="bounds the size of files by setrlimit")
def test_a_fault_is_told_where_no_file_can_be_written(tmp_path: Path) -> None:
    full = "__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (0, 0))"
    done = call(f"[{full}, KeyError('x')][1]", "runs", tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 70
    assert "KeyError" in done.stderr
    assert "tellapart --debug" in done.stderr


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(12, 'Cannot allocate memory')"])
def test_memory_that_ran_out_says_what_to_lower(error: str, tmp_path: Path) -> None:
    done = call(error, "runs", tmp_path)
    assert done.returncode == 2
    assert "--batch-size" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_command_tells_its_exit_codes() -> None:
    for name in COMMANDS:
        done = subprocess.run([*COMMAND, name, "--help"], capture_output=True, text=True, check=True)
        shown = " ".join(done.stdout.split())
        assert f"{FAULT} {ALL[FAULT]}" in shown, name


@pytest.mark.slow
def test_training_that_takes_more_memory_than_there_is_says_what_to_lower(two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    words = ["train", two_shapes, "--out", tmp_path / "run", "--model", "dense", "--set", "model.dense=[2000000000]"]
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Memory ran out" in done.stderr
    assert "train.batch_size" in done.stderr
    assert "Traceback" not in done.stderr
    assert ta.open_run(tmp_path / "run").status == "failed"


NOBODY = 54321


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


# It may read what root may, where the interpreter and its packages may lie, and write nothing of it.
AS_NOBODY = ["setpriv", "--reuid", f"{NOBODY}", "--regid", f"{NOBODY}", "--clear-groups", "--inh-caps",
             "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # fmt: skip


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("home", [None, "/", "/nowhere"])
def test_a_user_without_a_home_is_told_once_where_caches_lie(home: str | None, open_to_all: Path) -> None:
    make_shapes(open_to_all / "shapes", ("disc", "stripes"), 10)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**kept, "TMPDIR": str(open_to_all)} | ({} if home is None else {"HOME": home})
    root = open_to_all / f"tellapart-{NOBODY}"
    for _ in range(2):
        done = subprocess.run(
            [*AS_NOBODY, *COMMAND, "check", "shapes", "--deep"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=open_to_all,
        )
        assert done.returncode in (0, 1), done.stderr
        assert done.stderr.count("Set TELLAPART_CACHE to choose another folder") == 1
        assert str(root) in done.stderr
        assert (root.stat().st_uid, root.stat().st_mode & 0o077) == (NOBODY, 0)
        assert list(root.glob("pixels/*/data-*.bin"))
