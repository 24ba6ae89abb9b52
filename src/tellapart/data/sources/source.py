"""Source: the images found by a reader, with label and split as given by their location."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tellapart.data.catalog import Catalog
from tellapart.data.findings import Finding
from tellapart.task import labels_of


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
    taken: the settings of config.data that were used; others of their kind had no effect. several: whether an image may
    have several labels, joined as `a|b`, or none."""

    root: Path
    rows: tuple[LabelledPath, ...]
    layout: str
    findings: tuple[Finding, ...] = ()
    taken: tuple[str, ...] = ()
    several: bool = False

    @property
    def labels(self) -> set[str]:
        """All that occur."""
        return {name for row in self.rows for name in self.labels_of(row)}

    def labels_of(self, row: LabelledPath) -> tuple[str, ...]:
        """Of one of the rows."""
        return labels_of(row.label, self.several)


def source_of_catalog(catalog: Catalog) -> Source:
    """The images of a catalog, with the splits and groups that it gave them."""
    rows = tuple(LabelledPath(p.path, p.label, p.split, p.group) for p in catalog.images)
    return Source(catalog.root, rows, catalog.layout, several=catalog.task.several)
