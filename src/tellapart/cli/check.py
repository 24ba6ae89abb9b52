"""`tellapart check DATA`: what is there and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from tellapart.cli import options
from tellapart.cli.console import NEEDS_PERSON, display, show, show_json, table

if TYPE_CHECKING:
    from tellapart.data.findings import Finding


def command(
    data: options.Data,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    format: options.FormatOption = options.Format.table,
) -> None:
    """Say what pictures are there and what is wrong with them. Nothing is changed on the disk.

    Exit code 1: something needs a person.
    """
    from tellapart import api
    from tellapart.data.catalog import SPLITS

    given = options.data_options(label_pattern, path_column, label_column, root)
    with display() as progress:
        catalog = api.read(data, config=api.make_config(data=given), progress=progress)
    needs_person = any(finding.needs_person for finding in catalog.findings)
    counts = catalog.counts()
    if format is options.Format.json:
        show_json(
            {
                "data": str(catalog.root),
                "layout": catalog.layout,
                "digest": catalog.digest,
                "task": catalog.task.to_dict(),
                "pictures": len(catalog),
                "broken": len(catalog.broken),
                "counts": counts,
                "findings": [finding.to_dict() for finding in catalog.findings],
            }
        )
    else:
        show(f"{len(catalog)} pictures of {len(catalog.task.classes)} classes in {catalog.root} ({catalog.layout})")
        summary = table("class", *(f">{split}" for split in SPLITS), ">all")
        for label in catalog.task.classes:
            numbers = [counts[split][label] for split in SPLITS]
            summary.add_row(label, *map(str, numbers), str(sum(numbers)))
        show(summary)
        show_findings(catalog.findings)
    if needs_person:
        raise typer.Exit(NEEDS_PERSON)


def show_findings(findings: Sequence[Finding], paths: int = 5) -> None:
    """Each finding with what it means, what was done, and its first paths."""
    if not findings:
        show("Nothing found that needs attention.")
    for finding in findings:
        show(f"{finding.severity:8}{finding.kind}: {finding.meaning} {finding.done}")
        for path in finding.paths[:paths]:
            show(f"          {path}")
        if len(finding.paths) > paths:
            show(f"          and {len(finding.paths) - paths} more (--format json lists all)")
