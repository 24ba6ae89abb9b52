"""A run whose images were moved -> the same run with their new location."""

from __future__ import annotations

import os

from tellapart.data.batches import catalogued
from tellapart.data.catalog import ImageRecord
from tellapart.data.sources import folder_of, open_row
from tellapart.errors import RunError, TellapartError
from tellapart.parallel import in_order
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.run import RunFolder


def relocate(run: RunFolder, data: str | os.PathLike[str], *, progress: Progress = SILENT) -> None:
    """Find the run's images in `data`, a folder, archive or table, and store the new location in run.json.

    Every image must have the content recorded in the catalog. Raises RunError if one has not, and changes nothing then;
    SourceError if `data` does not exist.
    """
    root = folder_of(data)
    images = [image for image in run.catalog.images if image.digest]

    def difference(image: ImageRecord) -> str:
        try:
            catalogued(root, image, open_row)
        except (TellapartError, OSError) as error:
            return f"{image.path} ({error})"
        return ""

    wrong: list[str] = []
    for number, found in enumerate(in_order(difference, images), start=1):
        wrong += [found] if found else []
        progress.update(Phase.COMPARING.named("comparing images"), number, len(images))
    if wrong:
        raise RunError(
            f"{len(wrong):,} of the {len(images):,} images of {run.path} are missing or changed in {data}, the "
            f"first: {wrong[0]}. Name the folder or archive that holds {images[0].path}."
        )
    run.update(data=str(root))
