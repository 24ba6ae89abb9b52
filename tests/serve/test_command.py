"""`tellapart serve` as a person calls it wrongly: one message, exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import PATIENCE, RUN


def call(*arguments: str | Path, before: str = "") -> subprocess.CompletedProcess[str]:
    script = f"{before}\n{RUN}"
    command = [sys.executable, "-c", script, "serve", "--port", "0", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_it_explains_itself() -> None:
    shown = call("--help")
    assert shown.returncode == 0
    for word in ("--token-file", "--origin", "--max-pixels", "--queue"):
        assert word in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}", "{run}"], "Two runs are called"),
        (["nowhere"], "There is no run nowhere"),
        (["{run}", "--token-file", "nowhere"], "Cannot read the token from nowhere"),
        (["{run}", "--origin", "cats.example"], "is not an origin"),
        (["{run}", "--host", "no.such.host.invalid"], "Cannot listen on"),
        (["{run}", "--queue", "3"], "Raise --queue"),
        (["{run}", "--timeout", "0"], "`seconds` must be more than 0"),
    ],
)
def test_what_cannot_be_served_is_said(run: ta.Run, arguments: list[str], words: str) -> None:
    done = call(*(argument.format(run=run.path) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_extra_the_command_names_it(run: ta.Run) -> None:
    done = call(run.path, before="import sys; sys.modules['uvicorn'] = None")
    assert done.returncode == 2
    assert "pip install 'tellapart[serve]'" in done.stderr
