"""A run whose pictures were moved -> the same run, which finds them in their new place."""

from __future__ import annotations

import os

from tellapart.data.batches import catalogued
from tellapart.data.catalog import Picture
from tellapart.data.sources import folder_of, open_row
from tellapart.errors import RunError, TellapartError
from tellapart.parallel import in_order
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.run import RunFolder


def relocate(run: RunFolder, data: str | os.PathLike[str], *, progress: Progress = SILENT) -> None:
    """Look for the run's pictures in `data`, a folder, archive or table beside them, and keep the place in run.json.

    Every picture must have the content that the catalog says. Raises RunError where one has not, and nothing is
    changed; SourceError where there is no such place.
    """
    root = folder_of(data)
    pictures = [picture for picture in run.catalog.pictures if picture.digest]

    def difference(picture: Picture) -> str:
        try:
            catalogued(root, picture, open_row)
        except (TellapartError, OSError) as error:
            return f"{picture.path} ({error})"
        return ""

    wrong: list[str] = []
    for number, found in enumerate(in_order(difference, pictures), start=1):
        wrong += [found] if found else []
        progress.update(Phase.COMPARING.named("comparing pictures"), number, len(pictures))
    if wrong:
        raise RunError(
            f"{len(wrong):,} of the {len(pictures):,} pictures of {run.path} are not in {data} as they were, the "
            f"first: {wrong[0]}. Name the folder or archive that holds {pictures[0].path}."
        )
    run.update(data=str(root))
