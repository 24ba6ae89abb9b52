"""The rows of a folder's runs -> index.html in that folder: sortable, with links to the reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tellapart.evaluation.intervals import Estimate
from tellapart.files import write_text
from tellapart.report.page import floor_tenth, render_page
from tellapart.runs.run import RunFolder
from tellapart.runs.summary import RunSummary
from tellapart.words import between, duration, percent

COLUMNS = (
    ("run", "text"),
    ("accuracy", "number"),
    ("verdict", "text"),
    ("judged on", "text"),
    ("model", "text"),
    ("images from", "text"),
    ("epochs", "number"),
    ("training", "number"),
    ("begun (UTC)", "text"),
    ("status", "text"),
)


def write_index(folder: Path, rows: Sequence[RunSummary]) -> Path:
    """Write the page, the newest run first; returns its path. A run without a report has no link."""
    done = sum(row.status == "done" for row in rows)
    unfinished = f"; {len(rows) - done} not finished" if done < len(rows) else ""
    text = render_page(
        "index.html.jinja",
        title=folder.resolve().name,
        lead=f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}{unfinished}." if rows else "No runs yet.",
        columns=COLUMNS,
        rows=[_row(folder, row) for row in sorted(rows, key=lambda row: row.created, reverse=True)],
        start=floor_tenth([row.accuracy["low"] for row in rows if row.accuracy]),
        scripts=("sort.js",),
    )
    write_text(folder / "index.html", text)
    return folder / "index.html"


def _row(folder: Path, row: RunSummary) -> dict[str, Any]:
    report = None if row.error else RunFolder(Path(row.run)).report_file
    there = report is not None and report.exists()
    accuracy = Estimate.from_dict(row.accuracy) if row.accuracy else None
    return {
        **row.to_dict(),
        "report": quote(os.fsencode(report.relative_to(folder).as_posix())) if report and there else "",
        "accuracy": accuracy,
        "value": percent(accuracy.value) if accuracy else "",
        "between": between(accuracy) if accuracy else "",
        "judged": f"{row.images:,} {row.split}" if row.images else "",
        "data": row.source,
        "use": row.error or row.use or "",
        "duration": duration(row.time) if not row.error else "",
        "day": row.created[:16].replace("T", " "),
    }
