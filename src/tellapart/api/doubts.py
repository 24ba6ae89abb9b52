"""Images or a run -> what a person should look at, and what is near an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.api.datasets import check
from tellapart.config import Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.corrections import read_corrections
from tellapart.data.deep_checks import Checked, Deep
from tellapart.data.doubts import MOST, Doubt, SuspectLabel, doubts_of
from tellapart.data.map import UmapMaker, principal
from tellapart.data.neighbours import nearest
from tellapart.data.sources.source import source_of_catalog
from tellapart.evaluation.suspects import find_suspects
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.predictions import Predictions, read_predictions
from tellapart.runs.run import RunFolder, open_run
from tellapart.task import require_one_label


@dataclass(frozen=True, eq=False)
class Doubts:
    """What `doubts` found, the gravest first: a sequence of Doubt. catalog: all images. deep: what the look into them
    gave, None without one.

    >>> found = ta.doubts("photos/", deep=False)
    >>> len(found), found.catalog.task.classes[0]
    (0, 'Abyssinian')
    """

    catalog: Catalog
    rows: tuple[Doubt, ...]
    deep: Deep | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Doubt]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> Doubt:
        return self.rows[place]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {} if self.deep is None else {image.path: place for place, image in enumerate(self.deep.images)}

    def neighbours(self, path: str, count: int = 5, split: Split | None = "train") -> list[tuple[str, float]]:
        """The images of a split (None: of all) that look most like one, as the bundled backbone sees them: paths with
        the cosine of their features, -1..1, the nearest first. Empty without a deep check."""
        if self.deep is None or path not in self._places:
            return []
        wanted = (place for place, image in enumerate(self.deep.images) if split in (None, image.split))
        among = np.fromiter(wanted, np.intp)
        found = nearest(self.deep.values, self._places[path], among, count)
        return [(self.deep.images[place].path, similarity) for place, similarity in found]

    def plane(self, maker: UmapMaker | None = None) -> dict[str, tuple[float, float]]:
        """Where each image lies on a map of all, by path, 0..1: images that look alike to the bundled backbone are near
        each other, as far as two axes can show it. Principal components, or what `maker` makes. Empty without a deep
        check, and of a maker that makes none."""
        if self.deep is None:
            return {}
        found = principal(self.deep.values) if maker is None else maker.make(self.deep.values)
        if found is None:
            return {}
        rows = zip(self.deep.images, found.tolist(), strict=True)
        return {image.path: (x, y) for image, (x, y) in rows if x == x}

    def write_page(self, path: str | os.PathLike[str]) -> Path:
        """A still page with the doubts and their images, in one file without requests to anywhere, to send to whoever
        knows the images. Returns its path."""
        from tellapart.report.doubts import write_doubts

        return write_doubts(self.catalog, self.rows, Path(path))


INSTEAD = (
    "`tellapart check` finds broken images, copies and leakage; labels are corrected in the table, or by --corrections."
)
"""Of what shows doubts, where images have several labels."""


def doubts(
    data: Any,
    *,
    deep: bool = True,
    config: Config | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Doubts:
    """What a person should look at, of images or of a run: labels that look wrong, copies under two labels or across
    splits, blank, dark, blurred and damaged images, outliers, bursts.

    data: a run's folder, or images as `check` takes them, with its options. deep: look into the images, with the extra
    `check` also for wrong labels; without it, what fingerprints and the run's predictions tell. `tellapart studio`
    shows them.

    >>> [doubt.kind for doubt in ta.doubts("photos/", deep=False)]
    []
    """
    run = run_at(data)
    if run is not None:
        require_one_label(run.task.several, "The studio", INSTEAD)
        return _of_run(run, deep, cache_limit, progress)
    checked = check(data, deep=deep, config=config, cache_limit=cache_limit, progress=progress, **options)
    require_one_label(checked.catalog.task.several, "The studio", INSTEAD)
    return doubts_of_checked(checked)


def doubts_of_checked(checked: Checked) -> Doubts:
    """Of images that `check` looked at."""
    return Doubts(checked.catalog, doubts_of(checked.catalog, checked.deep, drawn=checked.drawn), checked.deep)


def run_at(data: Any) -> RunFolder | None:
    """The run in a folder; None for anything else."""
    if isinstance(data, RunFolder):
        return data
    there = isinstance(data, str | os.PathLike) and (Path(data) / "run.json").is_file()
    return open_run(data) if there else None


def predictions_of(run: RunFolder) -> Predictions | None:
    """What a run said of the images that it was judged on; None before that."""
    return read_predictions(run.predictions_file, run.task)


def _of_run(run: RunFolder, deep: bool, cache_limit: int, progress: Progress) -> Doubts:
    catalog, predictions = run.catalog, predictions_of(run)
    suspects = () if predictions is None else _suspects(predictions, run.task.classes)
    found = _look(run, catalog, cache_limit, progress) if deep else None
    return Doubts(catalog, doubts_of(catalog, found, suspects), found)


def _suspects(predictions: Predictions, classes: tuple[str, ...]) -> tuple[SuspectLabel, ...]:
    rows = {path: row for row, path in enumerate(predictions.paths)}
    found = []
    for suspect in find_suspects(predictions):
        values = predictions.probabilities[rows[suspect.path]]
        order = np.argsort(-values, kind="stable")[:MOST].tolist()
        found.append(SuspectLabel(suspect.path, tuple((classes[c], float(values[c])) for c in order)))
    return tuple(found)


def _look(run: RunFolder, catalog: Catalog, cache_limit: int, progress: Progress) -> Deep | None:
    """Of a run's images, in the splits that it has."""
    from tellapart.training.deep_check import inspection_spec, look_into

    config = Config(data=run.config.data.model_copy(update={"corrections": None}), seed=run.config.seed)
    usable = replace(catalog, images=tuple(image for image in catalog.images if not image.error))
    source = source_of_catalog(usable)
    with PixelCache(inspection_spec(config, source), limit_bytes=cache_limit) as cache:
        corrected = read_corrections(run.corrections_file) if run.corrections_file.exists() else ()
        return look_into(usable, config, cache, drawn=frozenset(), corrected=corrected, progress=progress).deep
