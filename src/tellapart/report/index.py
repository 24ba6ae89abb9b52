"""The rows of a folder's runs -> index.html in that folder: sortable, with links to the reports."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from tellapart.errors import TellapartError
from tellapart.evaluation.intervals import Estimate
from tellapart.experiments.ladder import LadderFolder
from tellapart.experiments.study import Study
from tellapart.experiments.tune import TuneFolder
from tellapart.files import terminal_safe, write_text
from tellapart.report.page import floor_tenth, link_to, render_page
from tellapart.runs.run import RunFolder
from tellapart.runs.summary import RunSummary
from tellapart.words import between, counted, duration, percent

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


_MARKS = {
    "not yet": ("stop", "\N{MULTIPLICATION X}"),
    "with a person": ("care", "!"),
    "alone": ("good", "\N{CHECK MARK}"),
}
_HIDDEN, _SHOWN = '<a href="../index.html" hidden>', '<a href="../index.html">'


def write_index(folder: Path, rows: Sequence[RunSummary]) -> Path:
    """Write the page, the newest run first, then ladders and searches; returns its path. A run without a report has no
    link; reports lead back to the page from now on."""
    done = sum(row.status == "done" for row in rows)
    unfinished = f"; {len(rows) - done} not finished" if done < len(rows) else ""
    studies = studies_in(folder)
    text = render_page(
        "index.html.jinja",
        title=folder.resolve().name,
        lead=f"{counted(len(rows), 'run')}{unfinished}." if rows else "No runs yet.",
        columns=COLUMNS,
        rows=[_row(folder, row) for row in sorted(rows, key=lambda row: row.created, reverse=True)],
        studies=[_study(folder, study) for study in studies],
        start=floor_tenth([row.accuracy["low"] for row in rows if row.accuracy]),
        scripts=("sort.js", "index.js"),
    )
    write_text(folder / "index.html", text)
    for row in rows:
        if not row.error:
            _show_way_back(RunFolder(Path(row.run)))
    return folder / "index.html"


def studies_in(folder: Path) -> list[Study]:
    """The ladders and searches directly inside a folder; damaged ones are left out."""
    found: list[Study] = []
    for path in sorted(folder.iterdir()):
        for kind in (LadderFolder, TuneFolder):
            with suppress(TellapartError):
                if (path / kind.file).is_file():
                    found.append(kind.open(path))
    return found


def _study(folder: Path, study: Study) -> dict[str, Any]:
    begun = [study.run(name).record.created for name in study.trial_names if study.begun(name)]
    created = min(begun, default="")
    spent, budget = (float(study.record[f"{name}_seconds"]) for name in ("spent", "budget"))
    return {
        "name": study.path.name,
        "kind": study.noun,
        "page": link_to(folder, study.page_file),
        "data": PurePath(str(study.record["data"])).name,
        "trials": len(begun),
        "spent": spent,
        "spent_told": duration(spent),
        "budget": budget,
        "budget_told": duration(budget),
        "created": created,
        "day": created[:16].replace("T", " "),
    }


def _show_way_back(run: RunFolder) -> None:
    """A report holds a link to this page, hidden until the page is there."""
    with suppress(TellapartError, OSError, UnicodeError):
        page = run.read_text(run.report_file)
        if _HIDDEN in page:
            run.write_text(run.report_file, page.replace(_HIDDEN, _SHOWN, 1))


def _row(folder: Path, row: RunSummary) -> dict[str, Any]:
    report = None if row.error else RunFolder(Path(row.run)).report_file
    accuracy = Estimate.from_dict(row.accuracy) if row.accuracy else None
    return {
        **row.to_dict(),
        "report": link_to(folder, report) if report else "",
        "accuracy": accuracy,
        "value": percent(accuracy.value) if accuracy else "",
        "between": between(accuracy) if accuracy else "",
        "judged": f"{row.images:,} {row.split}" if row.images else "",
        "data": row.source,
        "use": row.error or row.use or "",
        "mark": _MARKS.get(row.use or ""),
        "rank": list(_MARKS).index(row.use) if row.use in _MARKS else -1,
        "typed": terminal_safe(shlex.quote(row.run)),
        "duration": duration(row.time) if not row.error else "",
        "day": row.created[:16].replace("T", " "),
    }
