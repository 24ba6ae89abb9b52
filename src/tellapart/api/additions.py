"""An earlier run + more labelled images -> the catalog of the next run, whose test images are those of the earlier one.

So both runs are compared on the same images, and what was tested is never trained on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tellapart.api.datasets import source_of, task_of
from tellapart.api.values import Catalog
from tellapart.config import Config
from tellapart.data.catalog import ImageRecord
from tellapart.data.checks import find_all
from tellapart.data.duplicates import groups_of
from tellapart.data.scan import scan
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.data.splits import assign_splits
from tellapart.errors import RunError, SourceError
from tellapart.progress import SILENT, Progress
from tellapart.runs.run import RunFolder
from tellapart.task import require_one_label
from tellapart.words import counted, listed


@dataclass(frozen=True)
class Joined:
    """catalog: of all images. told: what is new, in sentences."""

    catalog: Catalog
    told: tuple[str, ...]


def settings_of(run: RunFolder) -> Config:
    """Those that a run was trained with, but for those by which its images were found."""
    return Config.from_dict({**run.config.to_dict(), "data": {}})


def joined(run: RunFolder, data: Any, config: Config, progress: Progress) -> Joined:
    """The images of a run and those of `data`, which may hold the run's too: they are recognised by their content.

    Images of the run keep their split; their labels are those of `data` where it has them. New ones go to training and
    validation. A new image that looks like one of the test split is left out: it would be trained on and tested. Raises
    RunError where images of the run that `data` lacks are gone, SourceError where nothing is new.
    """
    before = run.catalog
    instead = "Train again on one table that names all images."
    require_one_label(before.task.several, "--from", instead)
    source = source_of(data, config)
    require_one_label(source.several, "--from", instead)
    given = scan(source, config.data, progress=progress)
    known = {image.digest: image for image in before.images if not image.error}
    found = {image.digest for image in given}
    old, fresh, relabelled, seen = [], [], 0, set()
    for image in given:
        earlier = known.get(image.digest) if not image.error else None
        if earlier is None:
            fresh.append(replace(image, split=""))
        elif image.digest not in seen:
            relabelled += image.label != earlier.label
            old.append(replace(image, split=earlier.split, group=earlier.group))
            seen.add(image.digest)
    if not any(not image.error for image in fresh) and not relabelled:
        raise SourceError(
            f"All {counted(len(given), 'image')} of {source.root} are in {run.path} already: nothing is new."
        )
    absent = [image for image in before.images if not image.error and image.digest not in found]
    if absent and not (before.root / absent[0].path.partition("#")[0]).exists():
        raise RunError(
            f"{before.root / absent[0].path} and perhaps others of {run.path} are gone. Give their new location first: "
            f"tellapart evaluate {run.path} --data FOLDER"
        )
    root, here, there = _common(source.root, before.root)
    kept = [*(_below(image, here) for image in old), *(_below(image, there) for image in absent)]
    added, copies = _placed([_below(image, here) for image in fresh], kept, config)
    images = (*kept, *added)
    task = task_of(images)
    catalog = Catalog(
        root, task, images, find_all(images, source.findings), f"{source.layout}, added to {run.path.name}"
    )
    return Joined(catalog, tuple(_told(run, catalog, added, relabelled, copies)))


def with_training_images(
    run: RunFolder, folder: Path, labels: Mapping[str, str], progress: Progress = SILENT
) -> Joined:
    """The images of a run, with others for training alone. labels: the class of each, by its path in the folder.

    Those that look like an image of the validation or test split are left out, as the network would be judged by what
    it learned; so are those that the run has already, and those that cannot be read.
    """
    before = run.catalog
    source = Source(folder, tuple(LabelledPath(path, label) for path, label in labels.items()), "added")
    given = [replace(image, split="train") for image in scan(source, run.config.data, progress=progress)]
    known = {image.digest for image in before.images if not image.error}
    usable = [image for image in given if not image.error]
    fresh = [image for image in usable if image.digest not in known]
    rows = (*before.images, *fresh)
    groups = groups_of(rows, [number for number, image in enumerate(rows) if not image.error])
    judged = {
        group
        for group, image in zip(groups, before.images, strict=False)
        if image.split in ("validation", "test") and not image.error
    }
    own = groups[len(before.images) :]
    added = [_below(image, folder.resolve()) for group, image in zip(own, fresh, strict=True) if group not in judged]
    told = [f"{counted(len(added), 'image')} added for training; the validation and test images stay the same"]
    for count, why in (
        (len(given) - len(usable), "cannot be read"),
        (len(usable) - len(fresh), "in the run already"),
        (len(fresh) - len(added), "like a validation or test image"),
    ):
        if count:
            told.append(f"{counted(count, 'image')} left out: {why}")
    return Joined(Catalog(before.root, before.task, (*before.images, *added)), tuple(told))


def _placed(fresh: list[ImageRecord], kept: list[ImageRecord], config: Config) -> tuple[tuple[ImageRecord, ...], int]:
    """The new images with their splits, and how many were left out as copies of test images."""
    rows = [*kept, *fresh]
    groups = groups_of(rows, [number for number, image in enumerate(rows) if not image.error])
    splits: dict[int, set[str]] = {}
    for group, image in zip(groups, kept, strict=False):
        splits.setdefault(group, set()).add(image.split)
    own = groups[len(kept) :]
    left = [image for group, image in zip(own, fresh, strict=True) if "test" not in splits.get(group, ())]
    held = {
        image.path: "validation"
        for group, image in zip(own, fresh, strict=True)
        if "validation" in splits.get(group, ())
    }
    drawn = assign_splits(left, seed=config.seed, test_fraction=0, validation_fraction=config.data.validation_fraction)
    return tuple(replace(image, split=held.get(image.path, image.split)) for image in drawn), len(fresh) - len(left)


def _told(
    run: RunFolder, catalog: Catalog, added: Iterable[ImageRecord], relabelled: int, copies: int
) -> Iterable[str]:
    usable = [image for image in added if not image.error]
    learned = sum(image.split == "train" for image in usable)
    kept = len(catalog.images) - len(list(added))
    yield (
        f"{counted(len(usable), 'new image')}, {learned:,} of them for training, beside {kept:,} of {run.path.name}, "
        f"whose {counted(len(catalog.split('test')), 'test image')} stay the test images"
    )
    classes = [name for name in catalog.task.classes if name not in run.task.classes]
    if classes:
        yield f"new classes: {listed(classes, 10)}; the test split has none of them"
    if relabelled:
        yield (
            f"{counted(relabelled, 'image')} of {run.path.name} has another label now"
            if relabelled == 1
            else (f"{relabelled:,} images of {run.path.name} have other labels now")
        )
    if copies:
        yield f"{counted(copies, 'new image')} left out: {'it looks' if copies == 1 else 'they look'} like test images"


def _common(one: Path, other: Path) -> tuple[Path, Path, Path]:
    """A folder that holds both, and their places in it."""
    one, other = one.resolve(), other.resolve()
    if one == other:
        return one, Path(), Path()
    try:
        root = Path(os.path.commonpath([one, other]))
    except ValueError:
        raise SourceError(f"{one} and {other} are on different drives. Copy one beside the other.") from None
    return root, one.relative_to(root), other.relative_to(root)


def _below(image: ImageRecord, place: Path) -> ImageRecord:
    return replace(image, path=(place / image.path).as_posix()) if place.parts else image
