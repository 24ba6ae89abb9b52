"""A source: a file with a JSON object a line, such as {"image": "cats/1.jpg", "label": "cat"}."""

from __future__ import annotations

import json
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.plugins import LabelledPath, Source, source


@source(
    "manifest", example='photos.manifest with lines {"image": "cats/1.jpg", "label": "cat"}', suffixes=(".manifest",)
)
def manifest(path: Path, config: DataConfig) -> Source | str:  # noqa: ARG001 - what a source is given
    """Paths are relative to the file's folder. The text that is returned instead says why the file cannot be read."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            rows.append(LabelledPath(str(values["image"]), str(values["label"])))
        except (ValueError, TypeError, KeyError):
            return f"line {number} is no JSON object with image and label."
    return Source(path.parent, tuple(rows), f"lines of {path.name}")
