"""RunsComparison -> a folder with compare.html and curves.svg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tellapart.experiments.comparison import Pair, RunsComparison, p_text, points, share
from tellapart.files import write_text
from tellapart.progress import SILENT, Phase, Progress
from tellapart.report.charts import chart_drawing
from tellapart.report.curves import Curve, curves_charts, curves_svg
from tellapart.report.page import ShownChart, floor_tenth, reach, render_page
from tellapart.report.thumbnails import Album, Thumbnails
from tellapart.runs.shared_images import CommonImage
from tellapart.svg import series_colour
from tellapart.words import between, probability

IMAGES = 24
THUMBNAIL_SIDE = 176
MOST_ANSWERS = 4  # of more runs, only wrong answers are listed beside an image


def write_comparison(found: RunsComparison, folder: Path, *, progress: Progress = SILENT) -> list[Path]:
    """Write the page and the figure atomically; returns their paths."""
    from markupsafe import Markup

    stage = Phase.REPORTING.named("writing the comparison")
    progress.update(stage, 0, 2)
    histories = [
        Curve(name, run.history, run.record.best_epoch or None)
        for run, name in zip(found.runs, found.names, strict=True)
    ]
    curves = curves_svg(histories, f"Validation accuracy and loss of {', '.join(found.names)}")
    shown = ShownChart(Markup(curves), tuple(chart.table() for chart in curves_charts(histories)))
    figure, page = folder / "curves.svg", folder / "compare.html"
    chart_drawing("Curves", curves).save(figure)
    progress.update(stage, 1, 2)
    write_text(page, render_page("compare.html.jinja", **_values(found, shown)))
    progress.update(stage, 2, 2)
    return [page, figure]


def _values(found: RunsComparison, curves: ShownChart) -> dict[str, Any]:
    differences = [pair.comparison.difference for pair in found.pairs]
    classes = found.pairs[0].comparison.per_class if len(found.pairs) == 1 else ()
    shown = found.differing[:IMAGES]
    more = f"; {len(shown)} are shown" if len(shown) < len(found.differing) else ""
    return {
        "names": found.names,
        "n": found.n,
        "verdict": found.verdict.replace(" %", "\N{NO-BREAK SPACE}%"),
        "notes": found.notes,
        "runs": _runs(found),
        "start": floor_tenth([accuracy.low for accuracy in found.accuracies]),
        "reach": reach(differences),
        "curves": curves,
        "classes": [
            {
                "label": row.label,
                "support": row.support,
                "first": share(row.first.value, row.support),
                "second": share(row.second.value, row.support),
                "points": points(row.difference, row.support),
                "difference": row.difference,
            }
            for row in classes
        ],
        "class_reach": reach(row.difference for row in classes),
        "images": _images(found, shown),
        "images_sentence": f"{len(found.differing):,} of {found.n:,}{more}, the most confident mistakes first."
        if shown
        else f"None of {found.n:,}.",
        "left_out": found.left_out,
    }


def _runs(found: RunsComparison) -> list[dict[str, Any]]:
    """For two runs in their order, the second against the first; for more, by descending accuracy, against the best."""
    two = len(found.pairs) == 1
    of: dict[str, Pair] = {(pair.second if two else pair.first): pair for pair in found.pairs}
    order = range(len(found.names))
    rows = []
    for index in order if two else sorted(order, key=lambda i: -found.accuracies[i].value):
        name, accuracy = found.names[index], found.accuracies[index]
        pair = of.get(name)
        rows.append(
            {
                "name": name,
                "colour": series_colour(index),
                "accuracy": accuracy,
                "value": share(accuracy.value, found.n),
                "between": between(accuracy),
                "difference": pair and pair.comparison.difference,
                "points": points(pair.comparison.difference, found.n) if pair else "",
                "alone": "" if two else "the best",
                "p": p_text(pair.adjusted_p) if pair else "",
                "shown": ("shown" if pair.shown else "not shown") if pair else "",
            }
        )
    return rows


def _images(found: RunsComparison, shown: tuple[CommonImage, ...]) -> list[dict[str, Any]]:
    catalog = found.runs[0].catalog
    few = len(found.names) <= MOST_ANSWERS
    thumbnails = Album(Thumbnails(catalog)).take([image.path for image in shown], THUMBNAIL_SIDE)
    return [
        {
            "path": image.path,
            "truth": image.truth,
            "thumbnail": thumbnail,
            "answers": [
                {
                    "name": name,
                    "colour": series_colour(index),
                    "label": answer.label,
                    "wrong": answer.label != image.truth,
                    "sure": probability(answer.probability),
                }
                for index, (name, answer) in enumerate(zip(found.names, image.answers, strict=True))
                if few or answer.label != image.truth
            ],
            "right": 0 if few else sum(answer.label == image.truth for answer in image.answers),
        }
        for image, thumbnail in zip(shown, thumbnails, strict=True)
    ]
