"""`tellapart check DATA`: list the images and report problems in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table, typed
from tellapart.cli.exit_codes import NEEDS_PERSON

if TYPE_CHECKING:
    from tellapart.data.deep_checks import Checked
    from tellapart.data.findings import Finding


MOST_CLASSES = 30
MOST_PATHS = 5


def command(
    data: options.Data,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Also analyse image content: label errors, near-duplicates, outliers, low quality."
        ),
    ] = False,
    write: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --deep: write the proposed corrections as CSV.")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With --deep: write an HTML page that shows the doubtful images, to send."),
    ] = None,
    croissant: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the catalog's description as Croissant (JSON-LD).")
    ] = None,
    label_pattern: options.LabelPattern = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    root: options.Root = None,
    kind: options.Kind = None,
    crop_boxes: options.CropBoxes = False,
    corrections: options.Corrections = None,
    group_by: options.GroupBy = None,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """List the images and report problems in them. No image is changed."""
    from tellapart.data.catalog import SPLITS
    from tellapart.data.croissant import croissant as croissant_of
    from tellapart.data.croissant import dataset_name
    from tellapart.data.groups import SEEMING
    from tellapart.errors import ConfigError
    from tellapart.files import to_json, write_text

    if page is not None and not deep:
        raise ConfigError("--page shows the images that --deep finds doubtful. Give both options.")
    _require_writable(write, deep, corrections)
    given = options.data_options(
        label_pattern, path_column, label_column, root, corrections, group_by, crop_boxes, kind
    )
    with display() as progress:
        checked = ta.check(data, deep=deep, config=ta.make_config(data=given), progress=progress)
    catalog = checked.catalog
    if write is not None:
        checked.write_corrections(write)
    if page is not None:
        from tellapart.api.doubts import doubts_of_checked

        doubts_of_checked(checked).write_page(page)
    if croissant is not None:
        described = croissant_of(catalog, dataset_name(catalog))
        write_text(Path(croissant), f"{to_json(described, indent=2)}\n")
    needs_person = any(finding.needs_person for finding in catalog.findings)
    counts = catalog.counts()
    if format is options.OutputFormat.json:
        show_json(_values(checked))
    else:
        show(f"{len(catalog):,} images of {len(catalog.task.classes)} classes in {data} ({catalog.layout})")
        summary = table("class", *(f">{split}" for split in SPLITS), ">all")
        for label in catalog.task.classes[:MOST_CLASSES]:
            numbers = [counts[split][label] for split in SPLITS]
            summary.add_row(label, *(f"{number:,}" for number in numbers), f"{sum(numbers):,}")
        if catalog.task.several:
            sizes = [catalog.sizes()[split] for split in SPLITS]
            summary.add_row("(images)", *(f"{number:,}" for number in sizes), f"{sum(sizes):,}")
        show(summary)
        if len(catalog.task.classes) > MOST_CLASSES:
            show(f"and {len(catalog.task.classes) - MOST_CLASSES} more classes (--format json lists all)")
        show_findings(catalog.findings)
        if page is not None:
            show(f"page    {page}")
        if write is not None:
            number = len(checked.corrections)
            look = "; review each and remove the wrong ones" if number else ": nothing to relabel, drop or regroup"
            beside = f", in addition to the {len(checked.corrected)} of {corrections}" if corrections else ""
            show(f"{number} {'correction' if number == 1 else 'corrections'} proposed in {write}{beside}{look}")
        if write is not None and checked.corrections:
            given["corrections"] = write
        seeming = (f.kind.removeprefix(SEEMING) for f in catalog.findings if f.kind.startswith(SEEMING))
        given["group_by"] = group_by or next(seeming, None)
        if given["corrections"] or not any(finding.severity == "error" for finding in catalog.findings):
            show(f"next    tellapart train {_typed_again(data, given)}")
        else:
            show(f"next    fix the errors, then run: tellapart check {_typed_again(data, given)}")
    if needs_person:
        raise typer.Exit(NEEDS_PERSON)


def _values(checked: Checked) -> dict[str, Any]:
    catalog = checked.catalog
    return {
        "data": str(catalog.root),
        "layout": catalog.layout,
        "digest": catalog.digest,
        "task": catalog.task.to_dict(),
        "images": len(catalog),
        "broken": len(catalog.broken),
        "counts": catalog.counts(),
        "findings": [finding.to_dict() for finding in catalog.findings],
        "corrections": [asdict(row) for row in checked.corrections],
    }


def _require_writable(write: str | None, deep: bool, corrections: str | None) -> None:
    """Raise ConfigError where corrections are not proposed, or would replace what a person decided."""
    from tellapart.errors import ConfigError

    if write is None:
        return
    if not deep:
        raise ConfigError("--write writes the corrections that --deep proposes. Give both options.")
    read_too = corrections is not None and Path(write).resolve() == Path(corrections).resolve()
    if Path(write).exists() and not read_too:
        raise ConfigError(
            f"{write} exists and may hold decisions of a person. Name another file, or also give it as --corrections: "
            "its rows are then kept, and the proposals are added."
        )


def _typed_again(data: str, given: dict[str, str | None]) -> str:
    """The images and the options for their labels, as typed on the command line."""
    options = [f"--{name.replace('_', '-')} {typed(value)}" for name, value in given.items() if value]
    return " ".join([typed(data), *options])


def show_findings(findings: Sequence[Finding]) -> None:
    """Each finding with its meaning, what was done, and its first paths."""
    if not findings:
        show("Nothing found that needs attention.")
    for finding in findings:
        show(f"{finding.severity:8}{finding.kind}: {finding.meaning} {finding.done}".rstrip())
        for path in finding.paths[:MOST_PATHS]:
            show(f"          {path}")
        if len(finding.paths) > MOST_PATHS:
            show(f"          and {len(finding.paths) - MOST_PATHS} more (--format json lists all)")
