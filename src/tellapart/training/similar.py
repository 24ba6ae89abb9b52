"""An image + a run -> the training images that look most like it, as the bundled backbone sees them; needs no Keras."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tellapart.data import pixels
from tellapart.data.batches import Images
from tellapart.data.neighbours import nearest
from tellapart.data.sources import open_row
from tellapart.models.pretrained import PRETRAINED
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.run import RunFolder
from tellapart.task import ImageSpec
from tellapart.training.features import BACKBONE, bundled_features, every_feature, extract

MOST_COMPARED = 2000
"""Training images that are compared; of more, evenly spaced ones: their features may not be in the cache."""


@dataclass(frozen=True)
class Similar:
    """path: as in the catalog; similarity: the cosine of the features, -1..1."""

    path: str
    label: str
    similarity: float


def similar_images(
    run: RunFolder, image: Path, count: int, *, progress: Progress = SILENT
) -> tuple[list[Similar], int]:
    """The nearest training images, the nearest first, without the image itself; and how many were compared.

    Raises ImageError, or OSError, if a training image was changed or removed.
    """
    catalog, spec = run.catalog, run.spec
    if run.config.model.name != BACKBONE or spec.channels != 3:
        side = PRETRAINED[BACKBONE].side
        spec = ImageSpec(side, side, 3)
    rows = [row for row in catalog.split("train").images if not row.error]
    with suppress(ValueError):  # it lies elsewhere
        own = image.resolve().relative_to(catalog.root.resolve()).as_posix()
        rows = [row for row in rows if row.path != own]
    if not rows:
        return [], 0
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_COMPARED)).astype(int).tolist()
    rows = [rows[place] for place in chosen]
    images = Images(catalog.root, rows, spec, open_row=open_row, bounds=run.config.data)
    with bundled_features(spec, every_feature(spec)) as (engine, features):
        averages = engine.widths[0]
        known = extract(engine, images, features, tell=partial(progress.update, Phase.FEATURES), first=averages)
    bounds = run.config.data
    seen = pixels.read(image, spec, max_pixels=bounds.max_pixels, max_bytes=bounds.max_bytes)
    asked = engine.compute(seen[None])[:, :averages].astype(np.float32)
    values = np.concatenate([asked, known.astype(np.float32)])
    found = nearest(values, 0, np.arange(1, len(values)), count)
    return [Similar(rows[place - 1].path, rows[place - 1].label, value) for place, value in found], len(rows)
