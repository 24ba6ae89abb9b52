"""`tellapart studio` as a person calls it wrongly: one message, exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import PATIENCE, RUN

pytest.importorskip("uvicorn")


def call_after(before: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{before}\n{RUN}", "studio", "--no-browser", "--port", "0", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=cwd)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "There is no run in runs/"),
        (["{run}", "--root", "x"], "A run knows how its images were read"),
        (["{run}", "--corrections", "other.csv"], "not a table of corrections"),
        (["{run}", "--classes", "a,b"], "--classes does not go with a run"),
        (["--camera"], "Name the folder to collect frames in"),
    ],
)
def test_what_cannot_be_shown_is_said(shapes_run: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "other.csv").write_text("name\n1\n")
    done = call_after("", *(one.format(run=shapes_run) for one in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_extra_the_command_names_it(tmp_path: Path) -> None:
    done = call_after("import sys; sys.modules['uvicorn'] = None", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'tellapart[serve]'" in done.stderr
