"""A pattern of files (`shards/train-{000000..000146}.tar`, `data/train-*.parquet`) -> the files, and their folder."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from tellapart.errors import SourceError, some
from tellapart.files import expanded

MAX_FILES = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern of files, and no file of this name exists."""
    return (_BRACES.search(name) is not None or glob.has_magic(name)) and not expanded(name).exists()


def braces_expanded(name: str) -> list[str]:
    """The names that braces stand for, as WebDataset and shells write them. Raises SourceError for too many.

    >>> braces_expanded("{train,test}-{08..10}.tar")[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'test-08.tar']
    """
    names = [name]
    while (match := _BRACES.search(names[0])) is not None:
        inner = match[1]
        if found := _RANGE.fullmatch(inner):
            first, last = int(found[1]), int(found[2])
            if abs(last - first) * len(names) >= MAX_FILES:
                raise SourceError(f"{name!r} stands for more than {MAX_FILES:,} files.")
            step = 1 if first <= last else -1
            parts = [str(number).zfill(len(found[1])) for number in range(first, last + step, step)]
        else:
            parts = inner.split(",")
        if len(names) * len(parts) > MAX_FILES:
            raise SourceError(f"{name!r} stands for more than {MAX_FILES:,} files.")
        names = [each.replace(match[0], part, 1) for each in names for part in parts]
    return names


def matches(name: str) -> tuple[Path, list[Path]]:
    """The folder that holds all files of a pattern, and the files. Raises SourceError if there are none, or one that
    braces name is missing."""
    found: list[Path] = []
    missing: list[str] = []
    for each in braces_expanded(name):
        path = expanded(each)
        if glob.has_magic(each):
            named = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - it may be absolute
            found += filter(Path.is_file, map(Path, named))
        elif path.is_file():
            found.append(path)
        else:
            missing.append(each)
    if missing and found:
        raise SourceError(f"{name!r}: {len(missing)} of its files do not exist: {some(missing, 3)}.")
    if not found:
        raise SourceError(f"Nothing matches {name!r}.")
    files = [path.absolute() for path in dict.fromkeys(found)]
    return Path(os.path.commonpath([path.parent for path in files])), files
