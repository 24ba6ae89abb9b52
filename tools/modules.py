"""The list of modules in docs/design.md: each path with the first sentence of its docstring.

python -m tools.modules writes it; tests/test_architecture.py fails where the page says otherwise.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "tellapart"
PAGE = ROOT / "docs" / "design.md"
BEGINS, ENDS = "<!-- made by: python -m tools.modules -->", "<!-- end of modules -->"


def listing() -> str:
    """A table of all modules that hold code, in the order of their paths."""
    rows = ["| module | purpose |", "|---|---|"]
    for path in sorted(PACKAGE.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if text is not None:
            purpose = " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")
            rows.append(f"| `{path.relative_to(PACKAGE).as_posix()}` | {purpose} |")
    return "\n".join(rows)


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGINS)
    after = rest.partition(ENDS)[2]
    PAGE.write_text(f"{before}{BEGINS}\n\n{listing()}\n\n{ENDS}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
