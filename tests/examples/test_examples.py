"""Each story of examples/ is run; it asserts the number that it reaches."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MARKS = {
    "fashion_mnist": pytest.mark.soak,  # two minutes
    "cats_dogs_from_zip": pytest.mark.slow,
    "three_classes": pytest.mark.slow,
}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=MARKS.get(path.stem, ()))
        for path in EXAMPLES
        if path.with_suffix(".ipynb") not in NOTEBOOKS  # which say the same, and are run below
    ],
)
def test_an_example_reaches_its_number(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras")
    if path.stem == "fashion_mnist" and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    assert "assert " in path.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_its_example_says(path: Path) -> None:
    jupytext, nbformat = pytest.importorskip("jupytext"), pytest.importorskip("nbformat")
    cells = nbformat.read(path, 4).cells
    expected = jupytext.read(path.with_suffix(".py")).cells
    assert [(cell.cell_type, cell.source) for cell in cells] == [(cell.cell_type, cell.source) for cell in expected], (
        "run: python tools/notebooks.py"
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    made = nbclient.NotebookClient(
        nbformat.read(path, 4), timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    texts = [output.get("text", "") for cell in made.cells for output in cell.get("outputs", [])]
    assert any(texts)
    assert any("assert " in cell.source for cell in made.cells)
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"
