"""Reader: one row of the table of sources: a folder layout, or a file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.sources.listing import Listing
from tellapart.data.sources.source import Source


@dataclass(frozen=True)
class Reader:
    """read: a listed folder -> Source, or why it has another layout, in words. read_file: the same for a file with one
    of the suffixes, in lower case with the dot. One of both may be None. example: shown if no layout fits. about: what
    is read and which programs write it, in a sentence or two."""

    name: str
    example: str
    read: Callable[[Listing, DataConfig], Source | str] | None = None
    read_file: Callable[[Path, DataConfig], Source | str] | None = None
    suffixes: tuple[str, ...] = ()
    about: str = ""
