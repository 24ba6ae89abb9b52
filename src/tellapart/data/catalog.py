"""Catalog: one validated table of every image, stored in the run, so that splits are never recomputed.

Made from: sources, scan, splits, checks (api.datasets). Never imports Keras.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tellapart.data.findings import Finding
from tellapart.errors import RunError
from tellapart.files import from_cell, replacing, write_csv
from tellapart.task import Task, split_labels

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
COLUMNS = ("path", "label", "split", "group", "digest", "width", "height", "mode", "error", "fingerprint", "warning")
OLDER_COLUMNS = (COLUMNS[:-1], COLUMNS[:-2])
"""Columns of runs before warnings, and, before 0.2, before fingerprints."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One row. path is relative to the catalog's root with forward slashes; label is the class, or, of an image with
    several labels, all of them as `a|b`, empty for none; digest is of the file's bytes; error is
    empty for an image that decodes; fingerprint: a perceptual hash (data.perceptual_hash), empty for a flat image;
    warning tells what is damaged in an image that still decodes; shot is its time and camera (data.exif), which only a
    scan knows: a catalog stores it as the group, if requested."""

    path: str
    label: str
    split: str = ""
    group: str = ""
    digest: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    error: str = ""
    fingerprint: str = ""
    warning: str = ""
    shot: str = ""

    def in_split(self, split: str) -> ImageRecord:
        """The same image in a split, in less than half of the time of dataclasses.replace: a second less a million."""
        return ImageRecord(
            self.path, self.label, split, self.group, self.digest, self.width, self.height, self.mode, self.error,
            self.fingerprint, self.warning, self.shot,
        )  # fmt: skip


@dataclass(frozen=True)
class Catalog:
    """Every image with its label and split, including broken ones (they have an error and belong to no split).

    `layout` describes how the source was understood.
    """

    root: Path
    task: Task
    images: tuple[ImageRecord, ...]
    findings: tuple[Finding, ...] = ()
    layout: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        """Short: it may hold thousands of images."""
        counts = [f"{count} {split}" for split, count in self.sizes().items()]
        broken = f", {len(self.broken)} broken" if self.broken else ""
        return (
            f"<Catalog {str(self.root)!r}: {len(self)} images of {len(self.task.classes)} classes "
            f"({', '.join(counts)}{broken}), {len(self.findings)} findings>"
        )

    def split(self, name: Split) -> Catalog:
        """Only the usable images of one split, in catalog order."""
        return replace(self, images=tuple(p for p in self.images if p.split == name and not p.error))

    @property
    def broken(self) -> tuple[ImageRecord, ...]:
        """Images that do not decode, with their errors."""
        return tuple(p for p in self.images if p.error)

    def class_indices(self) -> NDArray[np.int64]:
        """Position of each image's label in task.classes, shape (n,); where images have several labels, whether each
        has each of them, 0 or 1, shape (n, classes)."""
        position = {name: index for index, name in enumerate(self.task.classes)}
        if not self.task.several:
            return np.array([position[p.label] for p in self.images], dtype=np.int64)
        table = np.zeros((len(self.images), len(position)), np.int64)
        for row, image in enumerate(self.images):
            table[row, [position[name] for name in self.task.labels(image.label)]] = 1
        return table

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of usable images by split, then class: every class appears, with 0 if it has none. An image with
        several labels counts for each."""
        table: dict[str, dict[str, int]] = {split: dict.fromkeys(self.task.classes, 0) for split in SPLITS}
        for image in self.images:
            if not image.error and image.split:
                for name in self.task.labels(image.label):
                    table[image.split][name] += 1
        return table

    def sizes(self) -> dict[str, int]:
        """Number of usable images by split."""
        return {split: sum(p.split == split and not p.error for p in self.images) for split in SPLITS}

    @property
    def digest(self) -> str:
        """Changes if any content, label or split changes; not if the folder moves."""
        state = hashlib.blake2b(digest_size=16)
        for p in sorted(self.images, key=lambda p: p.path):
            state.update("\0".join((p.path, p.label, p.split, p.digest)).encode("utf-8", "surrogateescape") + b"\n")
        return state.hexdigest()

    def write(self, path: Path) -> None:
        """Write the table as csv, atomically."""
        with replacing(path) as neighbour:
            write_csv(neighbour, [COLUMNS, *map(attrgetter(*COLUMNS), self.images)])


def by_label(images: Iterable[ImageRecord]) -> tuple[ImageRecord, ...]:
    """A row for each label of each image.

    >>> [row.label for row in by_label([ImageRecord("1.jpg", "cat|dog"), ImageRecord("2.jpg", "")])]
    ['cat', 'dog']
    """
    return tuple(replace(image, label=name) for image in images for name in split_labels(image.label))


def read_images(path: Path) -> tuple[ImageRecord, ...]:
    """The rows of a catalog.csv. Raises RunError for a file that is not a catalog.

    A row in a split has the digest of its image, by which the file is verified when opened: a catalog from a stranger
    may name any file of this machine.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) not in (COLUMNS, *OLDER_COLUMNS):
                raise RunError(
                    f"{path} is not a tellapart catalog: its columns are {rows.fieldnames}, expected {list(COLUMNS)}."
                )
            return tuple(_image(row) for row in rows)
    except (csv.Error, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged or not from tellapart ({error}).") from None


def _image(row: dict[str, str]) -> ImageRecord:
    words = {name: from_cell(value) for name, value in row.items() if name not in ("width", "height")}
    image = ImageRecord(**words, width=int(row["width"]), height=int(row["height"]))
    if image.split not in ("", *SPLITS) or (image.split and not image.error and not image.digest):
        raise ValueError(f"the row of {image.path!r} has no digest, or an unknown split")
    return image
