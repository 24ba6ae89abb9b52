"""A folder of images without labels -> Labels: what to label next, and what was labelled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tellapart.config import Config
from tellapart.data.cache import DEFAULT_LIMIT
from tellapart.data.decisions import Decisions
from tellapart.data.sources import folder_of, read_source
from tellapart.data.sources.listing import kind_of, list_folder
from tellapart.errors import SourceError
from tellapart.progress import BY_HAND, Progress
from tellapart.training.labelling import Labels
from tellapart.training.unlabelled import Pool


def labels(
    data: str | os.PathLike[str],
    *,
    file: str | os.PathLike[str] | None = None,
    classes: Sequence[str] = (),
    config: Config | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
) -> Labels:
    """Label the images of a folder with a head that learns meanwhile; `tellapart studio FOLDER` is its page.

    data: a folder or archive of images at any depth. file: where labels are appended, as csv, which `train` reads;
    default: NAME.labels.csv in the current folder. classes: their names; more come with the labels. The features of all
    images are computed first, or taken from the cache.

    >>> labels = ta.labels("photos/", file="labels.csv", classes=["sick", "healthy"])
    >>> [each.how for each in labels.suggest(3)]
    ['random', 'typical', 'typical']
    """
    pool = Pool(data, config or Config(), cache_limit)
    found = Labels(pool, Decisions(labels_file(data, file)), classes)
    pool.fill(progress)
    return found


def labels_file(data: str | os.PathLike[str], file: str | os.PathLike[str] | None = None) -> Path:
    """The file of the labels of these images."""
    return Path(file) if file is not None else Path(f"{Path(data).absolute().stem}.labels.csv")


def without_labels(data: str | os.PathLike[str], config: Config) -> bool:
    """Whether this is a folder or an archive of images that are in none of the layouts that tell their labels, or whose
    labels were begun here. Raises SourceError for anything else that cannot be read."""
    if labels_file(data).exists():
        return True
    try:
        read_source(data, config.data)
    except SourceError:
        if not Path(data).is_dir() and kind_of(str(data)) != "archive":
            raise
        found = list_folder(folder_of(data))
        if found.tables or found.idx or not found.images:
            raise
        return True
    return False
