"""Shards of images with their labels beside them (WebDataset tar, TFRecord) -> Source.

The split is in the names of the shards. Numbers as labels are named by a file of class names beside the shards:
classnames.txt, labels.txt (also as lines `0:daisy`), or label.labels.txt of TensorFlow Datasets. Nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources.folders import unlabelled_finding
from tellapart.data.sources.listing import Listing, counted, label_text
from tellapart.data.sources.lists import class_names, read_names_file
from tellapart.data.sources.shard_names import parted
from tellapart.data.sources.slices import SliceIndex
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.data.sources.tar_index import is_shard, tar_index
from tellapart.data.sources.tfrecord_file import tfrecord_index
from tellapart.errors import SourceError

_CAPTIONS = 20
"""Images of which most have a text of their own: the texts are captions, not classes."""


@dataclass(frozen=True)
class _Kind:
    """noun: what a shard is called. index: of a shard. names_file: a further file of class names, by the feature."""

    noun: str
    index: Callable[[Path], SliceIndex]
    names_file: str = ""


_WEBDATASET = _Kind("WebDataset shard", tar_index)
_TFRECORD = _Kind("TFRecord file", tfrecord_index, "{}.labels.txt")


def read_webdataset(listing: Listing, config: DataConfig) -> Source | str:
    """Source from the tar shards of a folder, or why there are none."""
    shards = [path for path in listing.archives if path.lower().endswith(".tar") and is_shard(listing.root / path)]
    if not shards:
        return "there is no tar that begins with an image and its label (0001.jpg, 0001.cls)"
    return _asked_otherwise(config) or _read(_WEBDATASET, listing.root, shards, listing.name)


def read_webdataset_file(path: Path, config: DataConfig) -> Source | str:
    """Source from one tar shard, or why it is none."""
    if not is_shard(path):
        return "it does not begin with an image and its label (0001.jpg, 0001.cls)"
    return _asked_otherwise(config) or _read(_WEBDATASET, path.parent, [path.name], str(path))


def read_tfrecords(listing: Listing, config: DataConfig) -> Source | str:
    """Source from the TFRecord files of a folder, or why there are none."""
    if not listing.records:
        return "there is no TFRecord file"
    return _asked_otherwise(config) or _read(_TFRECORD, listing.root, listing.records, listing.name)


def read_tfrecord(path: Path, config: DataConfig) -> Source | str:
    """Source from one TFRecord file."""
    return _asked_otherwise(config) or _read(_TFRECORD, path.parent, [path.name], str(path))


def _asked_otherwise(config: DataConfig) -> str:
    asked = config.label_pattern or config.label_column or config.path_column
    return "labels are in the shards; omit label_pattern, label_column and path_column" if asked else ""


def _read(kind: _Kind, root: Path, paths: Sequence[str], name: str) -> Source:
    findings: list[Finding] = []
    splits = parted(paths, findings)
    indexes = {path: kind.index(root / path) for path in paths if path in splits}
    rows = []
    told: dict[str, None] = {}
    for path, index in indexes.items():
        names = _names(kind, index, root / path, root)
        for each in index.slices:
            label = _label(each.label, names, root / path)
            rows.append(LabelledPath(f"{path}#{each.member}", label, splits[path], each.group))
        told.setdefault(f"labels {index.origin}" + (f" of {len(names)} names" if names else ""))
    labels = {row.label for row in rows if row.label}
    if len(rows) >= _CAPTIONS and len(labels) > len(rows) / 2:
        raise SourceError(
            f"{name} has a text of its own beside most images, such as {max(labels, key=len)[:60]!r}: captions, not "
            "classes. Write the class of each image as a number or name into .cls beside it."
        )
    findings += unlabelled_finding([row.path for row in rows if not row.label], f"in the {kind.noun}s")
    by = "; splits by file name" if any(splits.values()) else ""
    layout = f"{counted(len(indexes), kind.noun)}: {'; '.join(told)}{by}"
    return Source(root, tuple(row for row in rows if row.label), layout, tuple(findings))


def _names(kind: _Kind, index: SliceIndex, shard: Path, root: Path) -> dict[str, str]:
    """Number -> name, from a file beside the shard, or in a folder above it up to the root; empty without one."""
    if not index.numbered:
        return {}
    folders = [shard.parent]
    while folders[-1] != root and root in folders[-1].parents:
        folders.append(folders[-1].parent)
    own = kind.names_file.format(index.origin.rpartition("/")[2])
    for folder in folders:
        if own and (folder / own).is_file():
            return read_names_file(folder / own)
        if names := class_names(folder):
            return names
    return {}


def _label(label: str, names: dict[str, str], shard: Path) -> str:
    """Raises SourceError for a number outside the names."""
    if label == "-1":  # as data sets write the labels of their test images that are not public
        return ""
    if not label or not names:
        return label_text(label)
    if label not in names:
        raise SourceError(f"{shard} holds the class {label[:50]!r}, but {len(names)} classes are named.")
    return names[label]
