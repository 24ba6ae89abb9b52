"""What a command ends with, as a script reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tellapart as ta
from tellapart.cli.commands import COMMANDS
from tellapart.cli.exit_codes import exit_codes
from tellapart.cli.main import app
from tellapart.cli.train import end_with

SETTINGS = [
    "model.name=dense", "model.dense=[4]", "image.height=16", "image.width=16", "train.epochs=1",
]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_says_what_it_ends_with(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert exit_codes(name) in " ".join(shown.stdout.split())


def test_findings_end_training_with_1_where_strict_asks_for_it_and_with_0_otherwise(
    two_shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    run = ta.train(two_shapes, out=tmp_path / "run", config=ta.make_config(settings=SETTINGS))
    odd = {"kind": "odd", "severity": "warning", "meaning": "Some are odd.", "done": "", "paths": []}
    run.update(findings=[odd])
    end_with(run, strict=False)
    with pytest.raises(typer.Exit) as ended:
        end_with(run, strict=True)
    assert ended.value.exit_code == 1
    run.update(status="interrupted")
    with pytest.raises(typer.Exit) as ended:
        end_with(run, strict=False)
    assert ended.value.exit_code == 130
