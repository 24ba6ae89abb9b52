"""How far work is, shown where a person looks and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import PATIENCE

PROGRAM = "import tellapart as ta; ta.read('builtin:pets')"


def test_a_program_on_a_terminal_shows_one_line_that_is_written_again(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=theirs, stdout=subprocess.PIPE, cwd=tmp_path)
    os.close(theirs)
    told = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so at the end of a terminal
            break
        if not piece:
            break
        told += piece
    assert process.communicate()[0] == b""
    assert process.returncode == 0
    text = told.decode()
    assert "reading images: 360 of 360\r\n" in text
    assert text.count("\r\x1b[K") > text.count("\n") >= 1


def test_a_program_whose_output_is_piped_shows_nothing_unless_it_asks() -> None:
    silent = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert silent.stderr == silent.stdout == ""
    asks = PROGRAM.replace("pets'", "pets', progress=ta.Lines()")
    asked = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert "reading images: 360 of 360" in asked.stderr


@pytest.mark.slow
def test_a_notebook_shows_a_bar_that_is_updated_in_the_cell_that_works() -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    cells = [nbformat.v4.new_code_cell(text) for text in ("import tellapart as ta", "found = ta.read('builtin:pets')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client.NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    shown = [output for output in notebook.cells[1].outputs if output.output_type == "display_data"]
    assert len(shown) == 1, "one bar, updated"
    assert 'value="360" max="360"' in shown[0]["data"]["text/html"]
    assert not notebook.cells[0].outputs
