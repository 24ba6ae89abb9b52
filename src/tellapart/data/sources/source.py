"""Source: the images found by a reader, with label and split as their location tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tellapart.data.findings import Finding


@dataclass(frozen=True, slots=True)
class LabelledPath:
    """One image as its source names it. split is empty, train, validation or test; group ties images that must
    stay on one side of a split (one patient, one video)."""

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Source:
    """root: the folder (or idx folder) that the rows' paths are relative to. layout: what was understood, in words.
    taken: the settings of config.data that said how it was read; others of their kind had no effect."""

    root: Path
    rows: tuple[LabelledPath, ...]
    layout: str
    findings: tuple[Finding, ...] = ()
    taken: tuple[str, ...] = ()
