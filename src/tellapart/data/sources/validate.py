"""Source -> Source that meets the requirements of every layout: two or more classes, all in the training images."""

from __future__ import annotations

from dataclasses import replace

from tellapart.data.findings import Finding
from tellapart.data.sources.listing import counted
from tellapart.data.sources.source import Source
from tellapart.errors import SourceError


def settled(source: Source, name: str, known: tuple[str, ...] = ()) -> Source:
    """Check a source: unchanged if it is for evaluating a network with known classes; otherwise it must be usable for
    training.

    Leaves out images of a class without training images; opens the split again if all images are in train.

    Raises SourceError if no image has a label, if there are only validation or test images, or only one class.
    """
    rows = source.rows
    if not rows:
        told = " ".join(finding.meaning for finding in source.findings)
        raise SourceError(f"{name}, read as {source.layout}, leaves no image with a label. {told}".rstrip())
    if known:
        return source
    taught = {name for row in rows if row.split in ("", "train") for name in source.labels_of(row)}
    if not any(row.split in ("", "train") for row in rows):
        splits = " and ".join(sorted({row.split for row in rows}))
        raise SourceError(
            f"{name}, read as {source.layout}, has {splits} images only. Add training images, or remove the splits."
        )
    findings = list(source.findings)
    strange = tuple(row.path for row in rows if not taught.issuperset(source.labels_of(row)))
    if strange:
        labels = ", ".join(sorted(source.labels - taught))
        meaning = f"{counted(len(strange), 'validation or test image')} of a class without training images: {labels}."
        done = "Left out: a class without training images cannot be recognised, and would only lower the metrics."
        findings.append(Finding("class-not-in-train", "error", strange, meaning, done))
        rows = tuple(row for row in rows if taught.issuperset(source.labels_of(row)))
    if len(taught) < 2:
        label = next(iter(taught), "")
        raise SourceError(
            f"{name}, read as {source.layout}, has one class only: {label[:100]!r} "
            f"with {counted(len(rows), 'image')}. "
            "A classifier needs two classes. Add images of another class, or name the folder above."
        )
    if {row.split for row in rows} == {"train"}:  # the name of a single split tells nothing
        rows = tuple(replace(row, split="") for row in rows)
    return replace(source, rows=rows, findings=tuple(findings))
