"""Source: the images found by a reader, with label and split as given by their location."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tellapart.data.catalog import Catalog
from tellapart.data.findings import Finding


@dataclass(frozen=True, slots=True)
class LabelledPath:
    """One image in a source. split is empty, train, validation or test; group marks images that must stay in the same
    split (one patient, one video)."""

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Source:
    """root: the folder (or idx folder) that the rows' paths are relative to. layout: how it was understood, in words.
    taken: the settings of config.data that were used; others of their kind had no effect."""

    root: Path
    rows: tuple[LabelledPath, ...]
    layout: str
    findings: tuple[Finding, ...] = ()
    taken: tuple[str, ...] = ()


def source_of_catalog(catalog: Catalog) -> Source:
    """The images of a catalog, with the splits and groups that it gave them."""
    rows = tuple(LabelledPath(p.path, p.label, p.split, p.group) for p in catalog.images)
    return Source(catalog.root, rows, catalog.layout)
