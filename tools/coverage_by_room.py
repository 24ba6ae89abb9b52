"""The result of coverage.py -> a table of the rooms of src/tellapart: lines, and how many of them the tests reach.

    python -m tools.coverage_by_room .coverage.json [--markdown]

`make coverage` runs it; a workflow shows the table with --markdown on its page.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path, PurePosixPath

PACKAGE = "src/tellapart/"


def by_room(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, tuple[int, int]]:
    """Room -> (lines that the tests reach, lines), worst first; modules that stand in no room are `tellapart`.

    >>> by_room({"files": {"src/tellapart/data/scan.py": {"summary": {"covered_lines": 3, "num_statements": 4}}}})
    {'data': (3, 4)}
    """
    rooms: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, file in report["files"].items():
        parts = PurePosixPath(name.replace("\\", "/").removeprefix(PACKAGE)).parts
        counted = file["summary"]
        rooms[parts[0] if len(parts) > 1 else "tellapart"].append((counted["covered_lines"], counted["num_statements"]))
    sums = {room: (sum(row[0] for row in rows), sum(row[1] for row in rows)) for room, rows in rooms.items()}
    return dict(sorted(sums.items(), key=lambda item: (item[1][0] / max(item[1][1], 1), item[0])))


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage by room, worst first.")
    parser.add_argument("report", type=Path, help="what `coverage json` wrote")
    parser.add_argument("--markdown", action="store_true", help="as a table of Markdown")
    given = parser.parse_args()
    rooms = by_room(json.loads(given.report.read_text("utf-8")))
    rooms["all"] = (sum(reached for reached, _ in rooms.values()), sum(lines for _, lines in rooms.values()))
    if given.markdown:
        print("| room | lines | reached by the tests |\n|---|--:|--:|")
    for room, (reached, lines) in rooms.items():
        share = f"{reached / max(lines, 1):.1%}"
        print(f"| {room} | {lines:,} | {share} |" if given.markdown else f"{room:<12} {lines:>7,} lines {share:>7}")


if __name__ == "__main__":
    main()
