"""`tellapart check DATA`: what is there and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import NEEDS_PERSON, display, show, show_json, table

if TYPE_CHECKING:
    from tellapart.data.findings import Finding


def command(
    data: options.Data,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Look into the pictures: wrong labels, near-duplicates, outliers, faults."),
    ] = False,
    write: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --deep: write the corrections proposed, as a csv.")
    ] = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    corrections: options.Corrections = None,
    format: options.FormatOption = options.Format.table,
) -> None:
    """Say what pictures are there and what is wrong with them. No picture is changed.

    Exit code 1: something needs a person.
    """
    from tellapart.data.catalog import SPLITS
    from tellapart.errors import ConfigError

    if write is not None and not deep:
        raise ConfigError("--write writes what --deep proposes: give both.")
    given = options.data_options(label_pattern, path_column, label_column, root, corrections)
    with display() as progress:
        checked = ta.check(data, deep=deep, config=ta.make_config(data=given), progress=progress)
    catalog = checked.catalog
    if write is not None:
        checked.write_corrections(write)
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
                "corrections": [asdict(row) for row in checked.corrections],
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
        if write is not None:
            show(
                f"{len(checked.corrections)} corrections proposed in {write}; look at each, remove those that are wrong"
            )
            show(f"next    tellapart train {data} --corrections {write}")
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
