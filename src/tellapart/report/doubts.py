"""Doubts -> doubts.html: a still page of them with their images, to send. One file, no request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tellapart.data.catalog import Catalog
from tellapart.data.doubts import KINDS, Doubt
from tellapart.files import printable, write_text
from tellapart.report.page import render_page
from tellapart.report.thumbnails import Album, Thumbnails
from tellapart.words import counted, probability

_SIDE = 320
_MOST_IN_DOUBT = 6
_LIKELY = 3


def write_doubts(catalog: Catalog, doubts: Sequence[Doubt], path: Path) -> Path:
    """Write the page, whole or not at all; returns its path. Doubts whose images no longer fit are counted there."""
    album = Album(Thumbnails(catalog))
    labels = {image.path: image for image in catalog.images}
    shown: list[dict[str, Any]] = []
    for doubt in doubts:
        paths = doubt.paths[:_MOST_IN_DOUBT]
        thumbnails = album.take(paths, _SIDE)
        if len(thumbnails) < len(paths):
            break
        images = [
            {"thumbnail": thumbnail, "path": printable(p), "label": labels[p].label, "split": labels[p].split}
            for p, thumbnail in zip(paths, thumbnails, strict=True)
        ]
        likely = [(name, probability(share)) for name, share in doubt.likely[:_LIKELY] if share is not None]
        more = len(doubt.paths) - len(paths)
        shown.append(
            {"kind": doubt.kind, "reason": printable(doubt.reason), "images": images, "likely": likely, "more": more}
        )
    sections = [
        {"title": words, "doubts": [one for one in shown if one["kind"] == kind]}
        for kind, words in KINDS.items()
        if any(one["kind"] == kind for one in shown)
    ]
    text = render_page(
        "doubts.html.jinja",
        name=printable(catalog.root.name),
        images=len(catalog),
        sections=sections,
        count=len(doubts),
        left=counted(len(doubts) - len(shown), "doubt") if len(shown) < len(doubts) else "",
    )
    write_text(path, text)
    return path
