"""Folders of empty files, and what is read from them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources import Source, read_source


def fill(root: Path, names: Iterable[str]) -> Path:
    """Empty files: sources never open an image."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root: Path | str, /, **config: str) -> Source:
    return read_source(root, DataConfig(**config))


def table(source: Source) -> list[tuple[str, str, str]]:
    return [(row.path, row.label, row.split) for row in source.rows]


def finding(source: Source, kind: str) -> Finding:
    (found,) = [f for f in source.findings if f.kind == kind]
    return found
