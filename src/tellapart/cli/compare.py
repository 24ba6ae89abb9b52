"""`tellapart compare RUN RUN ...`: which run is better on the same images, and whether significantly so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table
from tellapart.files import printable
from tellapart.words import measured, percent, probability

if TYPE_CHECKING:
    from tellapart.experiments.comparison import RunsComparison
    from tellapart.runs.shared_images import CommonImage

IMAGES = 10
MOST_CLASSES = 12
MOST_COLUMNS = 4


def command(
    runs: Annotated[list[str], typer.Argument(help="Two or more run folders.", show_default=False)],
    images: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of images with differing predictions to list.",
            show_default="10; json: all",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for an HTML page and a figure with all learning curves.")
    ] = None,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """Compare runs on their shared test images: McNemar's exact test and a confidence interval of the difference.

    With more than two runs, each is compared with the best, corrected for multiple comparisons. Images that any of
    them was trained on are excluded.
    """

    found = ta.compare(*runs)
    written = []
    if out is not None:
        with display() as progress:
            written = ta.write_comparison(found, out, progress=progress)
    if format is options.OutputFormat.json:
        show_json(found.to_dict(images) | ({"written": [str(path) for path in written]} if written else {}))
        return
    show(found.verdict + "\n")
    for note in found.notes:
        show(f"note: {note}")
    for left in found.left_out:
        show(f"left out: {left.images:,} {'image' if left.images == 1 else 'images'}: {left.reason}")
    _show_runs(found)
    if len(found.pairs) == 1:
        _show_classes(found)
    _show_images(found, IMAGES if images is None else images)
    for path in written:
        show(f"written  {path}")


def _show_runs(found: RunsComparison) -> None:
    from tellapart.experiments.comparison import p_text, points

    if len(found.pairs) == 1:
        pair = found.pairs[0]
        rows = table("run", f">accuracy on {found.n:,} (95 % interval)", ">only this one is right")
        for name, accuracy, alone in zip(
            found.names, found.accuracies, (pair.comparison.only_first, pair.comparison.only_second), strict=True
        ):
            rows.add_row(name, measured(accuracy), f"{alone:,}")
        show(rows)
        show(
            f"{pair.second} minus {pair.first}: {points(pair.comparison.difference, found.n)} percentage points; "
            f"p {p_text(pair.adjusted_p)}; both right on {pair.comparison.both_right:,}, "
            f"both wrong on {pair.comparison.neither:,}"
        )
        return
    rows = table(
        "run", f">accuracy on {found.n:,} (95 % interval)", ">points below the best (interval)", ">p", "difference"
    )
    pairs = {pair.first: pair for pair in found.pairs}
    for index in sorted(range(len(found.names)), key=lambda i: -found.accuracies[i].value):
        name = found.names[index]
        reached = measured(found.accuracies[index])
        if name in pairs:
            below = points(pairs[name].comparison.difference, found.n)
            p = p_text(pairs[name].adjusted_p)
            rows.add_row(name, reached, below, p, "shown" if pairs[name].shown else "not shown")
        else:
            rows.add_row(name, reached, "best", "", "")
    show(rows)


def _show_classes(found: RunsComparison) -> None:
    from tellapart.experiments.comparison import points

    pair = found.pairs[0]
    rows = table("class", ">images", f">{pair.first}", f">{pair.second}", ">difference in points (95 % interval)")
    classes = pair.comparison.per_class
    if len(classes) > MOST_CLASSES:
        classes = tuple(sorted(classes, key=lambda row: -abs(row.difference.value))[:MOST_CLASSES])
    for row in classes:
        recalls = (percent(recall.value) for recall in (row.first, row.second))
        rows.add_row(row.label, f"{row.support:,}", *recalls, points(row.difference, row.support))
    show(rows)
    if len(classes) < len(pair.comparison.per_class):
        show(f"The {len(classes)} classes that differ most; --format json lists all.")


def _show_images(found: RunsComparison, most: int) -> None:
    shown = found.differing[:most]
    if not shown:
        return
    few = len(found.names) <= MOST_COLUMNS
    rows = table("image", "truth", *(found.names if few else ("right", "wrong")))
    for image in shown:
        rows.add_row(printable(image.path), image.truth, *(_answers(image) if few else _sides(found, image)))
    show(rows)
    others = f"; the first {len(shown):,} are shown" if len(shown) < len(found.differing) else ""
    show(f"The predictions differ on {len(found.differing):,} of {found.n:,} images{others}.")


def _answers(image: CommonImage) -> list[str]:
    return [f"{answer.label} {probability(answer.probability)}" for answer in image.answers]


def _sides(found: RunsComparison, image: CommonImage) -> tuple[str, str]:
    named = list(zip(found.names, image.answers, strict=True))
    right = [name for name, answer in named if answer.label == image.truth]
    wrong = [f"{name} ({answer.label})" for name, answer in named if answer.label != image.truth]
    return ", ".join(right), ", ".join(wrong)
