"""What a person names -> the pictures it means: files, folders, archives, patterns, or paths on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from tellapart.data.findings import Finding
from tellapart.data.sources.archive import unpacked
from tellapart.data.sources.listing import kind_of, list_folder
from tellapart.errors import SourceError


def find_pictures(
    names: Iterable[str | os.PathLike[str]],
    stdin: TextIO | None = None,
    *,
    told: Callable[[Finding], object] = lambda _: None,
) -> Iterator[tuple[str, Path]]:
    """(name to show, file) of each picture, in order, found as they are asked for.

    A folder or an archive gives all pictures inside, sorted; a pattern such as `new/*.jpg` what it matches; `-` the
    paths on `stdin`, a line each. A named file is taken as it is, whatever its suffix: one that is no picture
    becomes a prediction with an error. told: takes what is left out of a folder, and why.
    Raises SourceError for a folder or pattern that holds none.
    """
    for given in names:
        name = os.fspath(given)
        path = Path(name)
        if name == "-" and stdin is not None:
            yield from ((line, Path(line)) for line in (line.rstrip("\r\n") for line in stdin) if line)
        elif path.is_dir():
            yield from _inside(path, name, told)
        elif path.is_file() and kind_of(path.name) == "archive":
            yield from _inside(unpacked(path)[0], name, told)
        elif not path.exists() and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - the pattern may be absolute
            if not matches:
                raise SourceError(f"Nothing matches {name!r}.")
            yield from find_pictures(matches, told=told)
        else:
            yield name, path


def _inside(folder: Path, name: str, told: Callable[[Finding], object]) -> Iterator[tuple[str, Path]]:
    listing = list_folder(folder, name)
    if not listing.pictures:
        raise SourceError(f"{name} holds no picture (.jpg, .png ...). {listing.advice}".rstrip())
    for finding in listing.findings:
        told(finding)
    for relative in listing.pictures:
        yield f"{name.rstrip(os.sep)}{os.sep}{relative}", folder / relative
