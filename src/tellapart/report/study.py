"""The template shared by the pages of a ladder and of a search, study.html.jinja, and how it is filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tellapart.experiments.comparison import p_text, points, share
from tellapart.experiments.study import StudyResult
from tellapart.report.page import link_to, render_page
from tellapart.words import duration


def write_study(found: StudyResult, seed: int, **values: Any) -> Path:
    """Write COMMAND.html by the template of that name; returns its path. values: for the template."""
    study, record = found.study, found.study.record
    text = render_page(
        f"{study.by}.html.jinja",
        data=Path(record["data"]).name or record["data"],
        advice=found.advice.replace(" %", "\N{NO-BREAK SPACE}%").replace("trial-", "trial\N{NON-BREAKING HYPHEN}"),
        notes=found.notes,
        spent=duration(record["spent_seconds"]),
        budget=duration(record["budget_seconds"]),
        command=record["command"],
        seed=seed,
        duration=duration,
        link=lambda run: link_to(study.path, run.report_file),
        points=points,
        share=share,
        p_text=p_text,
        **values,
    )
    study.write_text(study.page_file, text)
    return study.page_file
