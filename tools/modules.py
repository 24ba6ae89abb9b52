"""The list of modules in docs/design.md, each path with the first sentence of its docstring, and the lines by room.

python -m tools.modules writes both; tests/test_architecture.py fails where the page says otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "tellapart"
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "design.md"
BEGINS, ENDS = "<!-- made by: python -m tools.modules -->", "<!-- end of modules -->"
LINES_BEGIN, LINES_END = "<!-- lines, made by: python -m tools.modules -->", "<!-- end of lines -->"
PAGES = (".js", ".css", ".html", ".jinja")


def listing() -> str:
    """A table of all modules that hold code, in the order of their paths."""
    rows = ["| module | purpose |", "|---|---|"]
    for path in sorted(PACKAGE.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if text is not None:
            purpose = " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")
            rows.append(f"| `{path.relative_to(PACKAGE).as_posix()}` | {purpose} |")
    return "\n".join(rows)


def lines_by_room() -> dict[str, tuple[int, int, int]]:
    """Lines of Python, of pages and of the tests of each package; "the others": modules beside them, whose tests are
    those beside the packages of tests."""
    counted = {}
    for room in sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
        counted[room] = (
            _lines((PACKAGE / room).rglob("*.py")),
            _lines(path for path in (PACKAGE / room).rglob("*") if path.suffix in PAGES),
            _lines((TESTS / room).rglob("*.py")),
        )
    counted["the others"] = (_lines(PACKAGE.glob("*.py")), 0, _lines(TESTS.glob("*.py")))
    return counted


def _lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in paths)


def lines_told(page: str) -> dict[str, tuple[list[int], str]]:
    """What the page says of each room: the lines, and why so many."""
    told = {}
    for row in page.partition(LINES_BEGIN)[2].partition(LINES_END)[0].strip().splitlines()[2:]:
        room, *counts, why = (cell.strip() for cell in row.strip("|").split("|"))
        told[room] = ([int(count.replace(",", "") or 0) for count in counts], why)
    return told


def _lines_table(page: str) -> str:
    """In hundreds, the largest first; the reasons are those of the page."""
    told = lines_told(page)
    rows = ["| room | Python | pages | tests | why |", "|---|--:|--:|--:|---|"]
    for room, counts in sorted(lines_by_room().items(), key=lambda each: -each[1][0]):
        cells = [f"{round(count, -2):,}" if count >= 50 else "" for count in counts]
        rows.append(f"| {room} | {' | '.join(cells)} | {told.get(room, ([], ''))[1]} |")
    return "\n".join(rows)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for begin, end, made in ((BEGINS, ENDS, listing()), (LINES_BEGIN, LINES_END, _lines_table(page))):
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{made}\n\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
