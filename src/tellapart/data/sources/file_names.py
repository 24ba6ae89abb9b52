"""Listing -> Source for images with the label in the file name: cat.0.jpg, american_bulldog_3.jpg.

The label is the part before the last separator and number, or the group `label` of data.label_pattern (searched in the
whole file name). The images are in one folder, or in split folders. Words that cameras and programs write (IMG_0012)
and names without a letter (2024-01-05) are not labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tellapart.config import DataConfig
from tellapart.data.sources.folders import (
    SPLIT_NAMES,
    base_folder,
    below,
    require_train,
    split_folders,
    unlabelled_finding,
)
from tellapart.data.sources.listing import Listing, label_text
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ConfigError, SourceError

_NUMBERED = re.compile(r"(?P<label>.+?)(?:[\s._-]+\(?\d+\)?|\(\d+\))\.[^.]+")
_NO_LABELS = frozenset(SPLIT_NAMES) | {
    *("img", "image", "images", "pict", "pic", "picture", "photo", "scan", "frame", "file", "screenshot", "untitled"),
    *("dsc", "dscn", "dscf", "dcim", "pxl", "mvimg", "pano"),
}


def label_in_name(name: str) -> str:
    """The label before the last separator and number of a file name, "" if there is none.

    >>> label_in_name("american_bulldog_3.jpg"), label_in_name("cat.0.jpg"), label_in_name("IMG_0012.jpg")
    ('american_bulldog', 'cat', '')
    """
    match = _NUMBERED.fullmatch(name)
    if not match:
        return ""
    label = match["label"].strip(" ._-")
    word = re.sub(r"[\W\d_]+", "", label).casefold()
    return "" if not word or word in _NO_LABELS else label_text(label)


def read_names(listing: Listing, config: DataConfig) -> Source | str:
    """Labels from file names, or why there are none.

    Raises ConfigError for a pattern that is not a regular expression or has no group `label`, SourceError for one that
    matches nothing, and if there are split folders but none for training.
    """
    if config.label_column is not None or config.path_column is not None:
        return "data.label_column or data.path_column means that labels are in a table"
    if not listing.images:
        return "there are no images"
    find = label_in_name if config.label_pattern is None else _finder(config.label_pattern)
    splits = split_folders(listing)
    base = base_folder(listing)
    rows: list[LabelledPath] = []
    unlabelled: list[str] = []
    unlabelled_test = 0
    for path in listing.images:
        split = splits.get(below(base, path).partition("/")[0], "")
        label = find(path.rpartition("/")[2])
        if label:
            rows.append(LabelledPath(path, label, split))
        else:
            unlabelled.append(path)
            unlabelled_test += split == "test"
    if config.label_pattern is None:
        if reason := _why_not(rows, len(unlabelled) - unlabelled_test):
            return reason
        how = "file names such as " + rows[0].path.rpartition("/")[2]
    elif not rows:
        sample = listing.images[0].rpartition("/")[2]
        raise SourceError(
            f"data.label_pattern {config.label_pattern!r} finds no label in any of {len(listing.images)} file names, "
            f"such as {sample!r}. Change the pattern, or omit it."
        )
    else:
        how = f"file names by the pattern {config.label_pattern}"
    require_train(listing, splits)
    where = f" in the split folders {', '.join(sorted(splits))}" if splits else ""
    findings = unlabelled_finding(unlabelled, "whose file name holds no class")
    return Source(listing.root, tuple(rows), f"labels in {how}{where}", tuple(findings), ("label_pattern",))


def _why_not(rows: list[LabelledPath], unlabelled: int) -> str:
    """Why guessed labels are not credible, "" if they are. Unlabelled test images are common and do not count."""
    if len(rows) <= unlabelled:
        return f"{len(rows)} of {len(rows) + unlabelled} names hold a class and a number, such as cat.0.jpg"
    labels = len({row.label for row in rows})
    # If nearly all labels differ, they are numbered images, not classes.
    if labels > max(10, len(rows) / 2):
        return f"{len(rows)} names would give {labels} classes; set data.label_pattern to tell which part is the class"
    return ""


def _finder(pattern: str) -> Callable[[str], str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.label_pattern {pattern!r} is not a regular expression: {error}.") from None
    if "label" not in compiled.groupindex:
        raise ConfigError(f"data.label_pattern {pattern!r} has no group named label; write it as (?P<label>...).")

    def find(name: str) -> str:
        match = compiled.search(name)
        return label_text((match["label"] or "").strip()) if match else ""

    return find
