"""A run, an evaluation or a catalog -> its HTML for a notebook: one element of limited size, without a script.

All names in it are untrusted and escaped; charts are embedded as images, so that their styles do not affect the
notebook. The element is card.html.jinja.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

from tellapart.data.catalog import SPLITS, Catalog, ImageRecord
from tellapart.evaluation.class_metrics import ClassMetrics
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.evidence import evaluations_of
from tellapart.evaluation.intervals import Estimate
from tellapart.evaluation.overfitting import kept
from tellapart.files import terminal_safe
from tellapart.report.drawing import confusion_drawing, counts_drawing, curves_drawing
from tellapart.report.page import render_page
from tellapart.report.report import figure_rows
from tellapart.report.thumbnails import Album, Thumbnails
from tellapart.runs.run import RunFolder
from tellapart.svg import Drawing
from tellapart.words import counted, duration, listed, measured, percent

MOST_CLASSES = 20
MOST_FINDINGS = 8
MOST_IMAGES = 12
MOST_DRAWN_CLASSES = 200
_SIDE = 96  # pixels
_BUDGET = 300_000  # bytes of all images of a card
_LONGEST_TEXT = 400
_CAPTIONS = {"Confusion matrix": "Confusion matrix: rows are true classes, columns predicted ones."}


@dataclass(frozen=True)
class CardTable:
    """A header and rows of text; the first column is left-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Card:
    """title, subtitle; mark: the status, such as of a verdict; then the parts below, in this order."""

    title: str
    subtitle: str = ""
    mark: str = ""
    lines: list[str] = field(default_factory=list)
    tables: list[CardTable] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    findings: list[tuple[str, str]] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)

    def html(self) -> str:
        """One element; every text is escaped, and truncated if very long."""
        images = [(each.title, _CAPTIONS.get(each.title, ""), _address(each)) for each in self.drawings]
        text = render_page("card.html.jinja", card=self, images=images, most=_LONGEST_TEXT)
        return terminal_safe(text)


def run_card(run: RunFolder) -> str:
    """A run in any state: its verdict and metrics, if it has them. Raises TellapartError for a damaged one."""
    record, history = run.record, run.history
    model = run.config.model.name
    subtitle = f"{model}, {listed(record.task.classes)}; {record.status}, started {record.created[:16]}"
    card = Card(run.path.name, subtitle.replace("T", " "))
    if run.metrics:
        evaluation, _ = evaluations_of(run)
        _judge(card, evaluation)
    elif record.status != "done":
        card.lines.append(f"Not finished. Resume with: tellapart train --resume {run.path}")
    if history:
        seconds = float(record.seconds or sum(row.seconds for row in history))
        which = f"{kept(history, record.best_epoch, record.stop)} " if record.status == "done" else ""
        card.lines.append(f"{which}Trained for {duration(seconds)}.")
        card.drawings.insert(0, curves_drawing(history, record.best_epoch))
    return card.html()


def evaluation_card(found: Evaluation) -> str:
    """An evaluation: verdict, metrics with intervals, classes and confusion matrix."""
    card = Card(f"{counted(found.n, 'image')} of the {found.split} split")
    _judge(card, found)
    return card.html()


def _judge(card: Card, found: Evaluation) -> None:
    classes = [row.label for row in found.per_class]
    if found.verdict is not None:
        card.mark = found.verdict.mark
        card.lines += [found.verdict.headline, *found.verdict.lines]
    card.lines += found.notes
    figures = [(row["name"], row["value"], row["interval"]) for row in figure_rows(found, classes)]
    heading = f"of {counted(found.n, 'image')} ({found.split})"
    card.tables.append(CardTable((heading, "", f"{percent(found.level, None)} interval"), figures))
    # The weakest first, as the most interesting.
    shown = sorted(found.per_class, key=lambda row: row.recall.value if row.recall else 2)[:MOST_CLASSES]
    left = len(classes) - len(shown)
    rows = [_class_row(row) for row in (found.per_class if not left else shown)]
    note = f"The {len(shown)} with the lowest recall; {left:,} others are not shown." if left else ""
    head = ("label" if found.several else "class", "images", "recall", "precision", "F1")
    card.tables.append(CardTable((*head, "average precision") if found.several else head, rows, note))
    if len(classes) <= MOST_DRAWN_CLASSES and not found.several:
        card.drawings.append(confusion_drawing(found.confusion, classes))


def _class_row(row: ClassMetrics) -> tuple[str, ...]:
    def figure(value: Estimate | None) -> str:
        return measured(value) if value else "-"

    cells = row.label, f"{row.support:,}", figure(row.recall), figure(row.precision), figure(row.f1)
    return (*cells, figure(row.average_precision)) if row.average_precision else cells


def catalog_card(catalog: Catalog) -> str:
    """A catalog: counts, findings, and a few images of each class."""
    counts, classes = catalog.counts(), catalog.task.classes
    broken = f", {len(catalog.broken):,} broken" if catalog.broken else ""
    title = f"{counted(len(catalog), 'image')} of {counted(len(classes), 'class', 'classes')}{broken}"
    card = Card(title, f"{catalog.root}: {catalog.layout}" if catalog.layout else str(catalog.root))
    totals = [catalog.sizes()[split] for split in SPLITS]
    rows = [(name, *(f"{counts[split][name]:,}" for split in SPLITS)) for name in classes[:MOST_CLASSES]]
    rows.append(("images" if catalog.task.several else "all", *(f"{total:,}" for total in totals)))
    left = len(classes) - MOST_CLASSES
    card.tables.append(
        CardTable(("class", *SPLITS), rows, f"{left:,} other classes are not shown." if left > 0 else "")
    )
    if len(classes) > 1:
        card.drawings.append(counts_drawing(counts))
    for finding in catalog.findings[:MOST_FINDINGS]:
        card.findings.append((finding.severity, f"{finding.meaning} {finding.done}".strip()))
    if (more := len(catalog.findings) - MOST_FINDINGS) > 0:
        card.findings.append(("note", f"and {counted(more, 'other finding')}"))
    chosen = _few(catalog)
    album = Album(Thumbnails(catalog), budget=_BUDGET)
    taken = album.take([image.path for image in chosen], _SIDE)
    labels = {image.path: image.label for image in chosen}
    card.images = [(labels[each.path], each.source) for each in taken if each.source]
    return card.html()


def _few(catalog: Catalog) -> list[ImageRecord]:
    """Usable images, one of each class in turn."""
    by_class: dict[str, list[ImageRecord]] = {name: [] for name in catalog.task.classes[:MOST_IMAGES]}
    for image in catalog.images:
        first = next(iter(catalog.task.labels(image.label)), "")
        if not image.error and len(by_class.get(first, [None] * MOST_IMAGES)) < MOST_IMAGES:
            by_class[first].append(image)
    turns = chain.from_iterable(zip_longest(*by_class.values()))
    return list(islice((image for image in turns if image is not None), MOST_IMAGES))


def _address(drawing: Drawing) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.svg.encode()).decode("ascii")


def problem_card(title: str, problem: str) -> str:
    """A message in place of the content."""
    return Card(title, mark="stop", lines=[problem]).html()
