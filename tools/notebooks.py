"""examples/NAME.py with cells -> examples/NAME.ipynb, for those who read in Jupyter. Tests compare and run them.

python tools/notebooks.py
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

NAMES = ("convolution_by_hand", "pretrained_in_ten_lines")


def main() -> None:
    folder = Path(__file__).resolve().parents[1] / "examples"
    for name in NAMES:
        notebook = jupytext.read(folder / f"{name}.py")
        notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"
        nbformat.write(notebook, folder / f"{name}.ipynb", version=4)


if __name__ == "__main__":
    main()
