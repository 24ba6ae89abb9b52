"""Labelled images -> the folder that all solutions read: plain class folders, whole and in splits."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.sources import read_source
from tellapart.data.sources.source import LabelledPath

SPLITS = (*["train"] * 8, "validation", "test")


def default_data(root: Path) -> str:
    """The development images beside the checkout, else those in the package."""
    beside = root.parent / "shared" / "data" / "cats-dogs"
    return str(beside) if beside.is_dir() else "builtin:pets"


def link(root: Path, rows: Iterable[tuple[str, str, str]], folder: Path) -> Path:
    """The images below root as links in split and class folders, by split, label and path. Returns the folder."""
    for split, label, path in rows:
        place = folder / split / label.replace("/", "-") / path.replace("/", "-")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to((root / path).resolve())
    return folder


def stage(data: str, folder: Path, limit: int | None) -> int:
    """Create `all/` and `split/` in the folder; returns the number of images, at most `limit`.

    Every class has the same share; of each ten images of a class eight are for training, one for validation, one for
    test.
    """
    source = read_source(data, DataConfig())
    by_class: dict[str, list[LabelledPath]] = defaultdict(list)
    for row in source.rows:
        by_class[row.label].append(row)
    share = None if limit is None else max(len(SPLITS), limit // len(by_class))
    count = 0
    for label, rows in sorted(by_class.items()):
        for number, row in enumerate(rows[:share]):
            name = f"{label.replace('/', '-')}/{number:05d}{Path(row.path).suffix.lower()}"
            whole = folder / "all" / name
            part = folder / "split" / SPLITS[number % len(SPLITS)] / name
            for path in (whole, part):
                path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.root / row.path, whole)
            os.link(whole, part)
            whole.read_bytes()  # now in the page cache, for all solutions alike
            count += 1
    return count
