"""Mistakes and likely label errors -> their sections of the report, so that no image is shown in both."""

from __future__ import annotations

from typing import Any

from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.suspects import Suspect, find_suspects
from tellapart.report.input import ReportInput
from tellapart.report.thumbnails import Album, Thumbnail, shrunk
from tellapart.words import counted, probability

MISTAKE_SIDE = 256  # pixels: seen larger when enlarged
MOST_MISTAKES = 18
_MOST_SUSPECTS = 12


def mistakes_section(report: ReportInput, album: Album) -> dict[str, Any]:
    """What the template shows of both: the most confident mistakes, those of them whose label is doubted, and the
    other doubted labels."""
    of_one = report.predictions is not None and not report.evaluation.several
    suspects = find_suspects(report.predictions) if of_one and report.predictions is not None else []
    shown = _mistakes(report, album)
    paths = {mistake.path for mistake, _, _ in shown["mistakes"]}
    others = [suspect for suspect in suspects if suspect.path not in paths]
    return {
        **shown,
        "doubted": {suspect.path for suspect in suspects},
        "suspects": _suspects(others[:_MOST_SUSPECTS], report, album),
        "suspect_count": len(suspects),
        "suspects_above": len(suspects) - len(others),
        "suspects_left": len(others),
    }


def _mistakes(report: ReportInput, album: Album) -> dict[str, Any]:
    found = report.evaluation
    chosen = found.mistakes[:MOST_MISTAKES]
    thumbnails = album.take([mistake.path for mistake in chosen], MISTAKE_SIDE)
    readable = [not thumbnail.missing for thumbnail in thumbnails]
    heats: list[Thumbnail | None] = [None] * len(thumbnails)
    without = 0
    if report.heat and any(readable):
        shown = [mistake for mistake, good in zip(chosen, readable, strict=False) if good]
        overlays = iter(report.heat([m.path for m in shown], [m.predicted for m in shown]))
        for place, good in enumerate(readable):
            overlay = next(overlays) if good else None
            without += good and overlay is None
            if overlay is not None:
                heats[place] = album.add(chosen[place].path, shrunk(overlay, MISTAKE_SIDE))
    return {
        "evaluation_mistakes": len(found.mistakes),
        "mistakes": list(zip(chosen, thumbnails, heats, strict=False)),
        "heated": any(heats),
        "without_heat": without,
        "mistakes_sentence": _sentence(found, len(thumbnails)),
    }


def _sentence(found: Evaluation, shown: int) -> str:
    wrong = len(found.mistakes)
    if not wrong:
        return f"None among {counted(found.n, 'image')}. New images may still have some: see the interval."
    which = f"the {shown} most confident are shown" if wrong > shown else "all are shown, the most confident first"
    what = (
        ("has a wrong label" if wrong == 1 else "have a wrong label")
        if found.several
        else ("is misclassified" if wrong == 1 else "are misclassified")
    )
    return (
        f"{wrong:,} of {counted(found.n, 'image')} {what}; {which}. "
        "The percentage is the network's confidence. Inspect them to separate hard images from label errors."
    )


def _suspects(chosen: list[Suspect], report: ReportInput, album: Album) -> list[dict[str, Any]]:
    classes = report.catalog.task.classes
    thumbnails = album.take([suspect.path for suspect in chosen], MISTAKE_SIDE)
    return [
        {
            "thumbnail": thumbnail,
            "label": classes[suspect.label],
            "given": probability(suspect.given),
            "suggested": classes[suspect.suggested],
            "wanted": probability(suspect.wanted),
        }
        for suspect, thumbnail in zip(chosen, thumbnails, strict=False)
    ]
