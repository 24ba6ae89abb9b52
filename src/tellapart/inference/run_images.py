"""A run -> some of its images, or others if they are missing, that a file of its network is compared on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.batches import Images
from tellapart.data.catalog import Split
from tellapart.data.sources import open_row, read_source
from tellapart.errors import TellapartError
from tellapart.runs.run import RunFolder

COMPARED = 16


@dataclass(frozen=True)
class Held:
    """Images, uint8 (n, height, width, channels), with class positions (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def images_of(run: RunFolder, split: Split, most: int) -> Held:
    """Up to `most` images of a split, evenly spaced. Raises ImageError or OSError if one is missing."""
    catalog = run.catalog.split(split)
    rows = np.unique(np.linspace(0, len(catalog) - 1, min(most, len(catalog))).astype(np.intp))
    images = Images(catalog.root, catalog.images, run.spec, open_row=open_row, bounds=run.config.data)
    return Held(images.take(rows), catalog.class_indices()[rows])


def compared_images(run: RunFolder) -> Held:
    """A few validation images for the comparison; if they are missing, as on another machine, the built-in images,
    whose labels are not used then."""
    try:
        return images_of(run, "validation", COMPARED)
    except (TellapartError, OSError):
        source = read_source("builtin:pets", DataConfig())
        rows = source.rows[:: len(source.rows) // COMPARED][:COMPARED]
        read = [pixels.read(open_row(source.root, row.path), run.spec) for row in rows]
        return Held(np.stack(read), np.zeros(len(read), np.int64))
