"""Folds and their average -> folds.html: the figures over all images, each fold, and the model to use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.intervals import Estimate
from tellapart.files import write_text
from tellapart.inference.predictor import Metadata
from tellapart.report.confusion import cells_of, worst_pairs
from tellapart.report.page import floor_tenth, link_to, render_page
from tellapart.report.report import figure_rows
from tellapart.runs.run import RunFolder
from tellapart.words import counted, percent, size

PAGE = "folds.html"
_MOST_CONFUSIONS = 24


def write_folds(
    model: Path,
    metadata: Metadata,
    found: Evaluation,
    folds: Sequence[tuple[RunFolder, Estimate, int]],
    difference: float,
) -> Path:
    """Write the page next to the model; returns its path. found: over all images. folds: each run with its accuracy on
    its own test images, and their number. difference: of the file from the mean of its networks."""
    place = model.parent
    spec, limits = metadata.spec, metadata.thresholds
    facts = [
        ("File", f"{model.name}, {size(model.stat().st_size)}"),
        ("Networks", f"{len(folds)} of {folds[0][0].config.model.name}, whose probabilities are averaged"),
        ("Image", f"{spec.height} × {spec.width}, {'colour' if spec.channels == 3 else 'grey'}, {spec.fit}"),
        ("Checked", f"differs from the mean of its networks by at most {difference:.1g}"),
    ]
    if limits is not None:
        reached = f"from a probability of {percent(limits.sure)}" if limits.sure <= 1 else "never"
        facts.append(("Sure", f"{reached}; chosen on {counted(found.n, 'image')}, for {percent(limits.target)} right"))
    text = render_page(
        "folds.html.jinja",
        name=place.name,
        model=model.name,
        found=found,
        figures=figure_rows(found, metadata.task.classes),
        folds=[
            {
                "name": run.path.name,
                "n": n,
                "accuracy": own,
                "link": link_to(place, place / run.path.name / run.report_file.name),
            }
            for run, own, n in folds
        ],
        start=floor_tenth([own.low for _, own, _ in folds]),
        classes=metadata.task.classes,
        confusions=worst_pairs(cells_of(found), _MOST_CONFUSIONS),
        facts=facts,
    )
    write_text(place / PAGE, text)
    return place / PAGE
