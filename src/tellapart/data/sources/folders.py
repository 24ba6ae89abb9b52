"""Listing -> Source for images in class folders, optionally inside split folders.

A class is the path of the folder that directly contains images, unchanged except for spaces at the ends of names: `a/x`
and `b/x` are two classes. A single folder that contains everything (common in archives) is skipped. Folders are splits
only if every top-level folder with images has the name of a split and one of them is the training split; so a class
called `test` beside others remains a class.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.catalog import Split
from tellapart.data.findings import Finding
from tellapart.data.sources.listing import Listing, counted, label_text
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import SourceError, some

# test1 is the name in Kaggle's dogs-vs-cats archive.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "train_set", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "val_set", "validation_set"), "validation"),
    **dict.fromkeys(("test", "testing", "test_set", "testing_set", "test1"), "test"),
}


def split_named(name: str) -> Split | None:
    """The split that a folder name or a table's cell means, in any case.

    >>> split_named("Training Set"), split_named("cats")
    ('train', None)
    """
    return SPLIT_NAMES.get(name.strip().casefold().replace(" ", "_").replace("-", "_"))


def base_folder(listing: Listing) -> str:
    """The deepest folder that contains all images. A single training folder is skipped (alone it tells nothing); a
    single validation or test folder is not."""
    places = [folder.split("/") if folder else [] for folder in listing.by_folder] or [[]]
    kept: list[str] = []
    # A prefix shared by the first and the last in order is shared by all.
    for name, last in zip(min(places), max(places), strict=False):
        if name != last or split_named(name) in ("validation", "test"):
            break
        kept.append(name)
    return "/".join(kept)


def below(base: str, folder: str) -> str:
    """`folder` relative to `base`, "" if they are the same.

    >>> below("a", "a/b/c")
    'b/c'
    """
    return folder[len(base) + 1 :] if base else folder


def split_folders(listing: Listing) -> dict[str, Split]:
    """Top-level folder -> split, if every top-level folder with images has the name of a split; else empty."""
    base = base_folder(listing)
    tops = {below(base, folder).partition("/")[0] for folder in listing.by_folder} - {""}
    splits = {top: split for top in tops if (split := split_named(top))}
    return splits if len(splits) == len(tops) else {}


def require_train(listing: Listing, splits: dict[str, Split]) -> None:
    """Raises SourceError if there are split folders but none for training."""
    if splits and "train" not in splits.values():
        raise SourceError(
            f"{listing.name} has images in {', '.join(sorted(splits))} only and no training images. "
            "Put training images into a folder named train next to it; or, if these are all you have, name that "
            "folder itself."
        )


def asks_for_other(config: DataConfig) -> str:
    """Why folder names are not used as labels although possible: the configuration tells where labels are."""
    if config.label_pattern is not None:
        return "data.label_pattern means that labels are in the file names"
    if config.label_column is not None or config.path_column is not None:
        return "data.label_column or data.path_column means that labels are in a table"
    return ""


def read_split_folders(listing: Listing, config: DataConfig) -> Source | str:
    """Split folders with class folders inside, or why the folder is something else."""
    if reason := asks_for_other(config):
        return reason
    splits = split_folders(listing)
    if not splits:
        return "not all top-level folders with images are named like train, validation and test"
    base = base_folder(listing)
    places: dict[str, tuple[Split | None, str]] = {}
    for folder in listing.by_folder:
        top, _, inner = below(base, folder).partition("/")
        # Nested archives give train/train/...: the inner folder is not a class.
        if inner.partition("/")[0].casefold() == top.casefold():
            inner = inner.partition("/")[2]
        places[folder] = (splits.get(top), inner)
    if not any(inner for _, inner in places.values()):
        return f"no class folders inside {', '.join(sorted(splits))}"
    held = {inner for _, inner in places.values()} - {""}
    if len(held) == 1 and listing.tables and not listing.known:
        return f"one class folder only, {held.pop()!r}, and there is a table"
    require_train(listing, splits)
    return _source(listing, places, f"class folders in the split folders {', '.join(sorted(splits))}")


def read_class_folders(listing: Listing, config: DataConfig) -> Source | str:
    """Class folders without splits, or why the folder is something else."""
    if reason := asks_for_other(config):
        return reason
    if split_folders(listing):
        return "the folders are named like splits, not like classes"
    base = base_folder(listing)
    places: dict[str, tuple[Split | None, str]] = {folder: (None, below(base, folder)) for folder in listing.by_folder}
    labels = {label for _, label in places.values()} - {""}
    if len(labels) < 2:
        if not listing.images:
            return "there are no images"
        held = next(iter(labels), base)
        known = _known_class(listing, held)
        if not known:
            where, needed = f", {held!r}" if held else "", "a classifier needs two classes"
            if listing.known:
                needed = f"its name is not among the classes {some(listing.known, 5)}"
            return f"images are in one folder only{where}; {needed}"
        if not labels:
            places = dict.fromkeys(places, (None, known))
    source = _source(listing, places, "class folders")
    hidden = tuple(sorted(f for f in listing.by_folder if any(map(split_named, below(base, f).split("/")[1:]))))
    if not hidden:
        return source
    meaning = f"{counted(len(hidden), 'class')} with the name of a split in the path."
    done = "Kept as classes. If they are splits, name the folder above them, or put the splits above the classes."
    return replace(source, findings=(*source.findings, Finding("split-below-class", "warning", hidden, meaning, done)))


def _known_class(listing: Listing, folder: str) -> str:
    """The known class that the path of a folder ends with, including the root's own name; "" for none."""
    path = class_name(f"/{Path(listing.name).name}/{folder}".rstrip("/"))
    return max((name for name in listing.known if path.endswith(f"/{name}")), key=len, default="")


def _source(listing: Listing, places: dict[str, tuple[Split | None, str]], layout: str) -> Source:
    """Rows from folder -> (split, class folder); images in a folder without a class are unlabelled."""
    labels = {folder: class_name(inner) for folder, (_, inner) in places.items()}
    rows: list[LabelledPath] = []
    unlabelled: list[str] = []
    for path in listing.images:
        folder = path.rpartition("/")[0]
        if labels[folder]:
            rows.append(LabelledPath(path, labels[folder], places[folder][0] or ""))
        else:
            unlabelled.append(path)
    findings = []
    if listing.empty_folders:
        meaning = f"{counted(len(listing.empty_folders), 'class folder')} without any image."
        findings.append(Finding("empty-class", "warning", listing.empty_folders, meaning, "Not counted as classes."))
    findings.extend(unlabelled_finding(unlabelled, "outside the class folders"))
    findings.extend(_class_below_class(set(labels.values()) - {""}))
    if unused := (*listing.tables, *listing.lists):
        what = " and ".join(
            counted(len(paths), word) for paths, word in ((listing.tables, "table"), (listing.lists, "list")) if paths
        )
        meaning = f"{what} next to class folders."
        findings.append(
            Finding(
                "table-not-used",
                "note",
                unused,
                meaning,
                "Labels are taken from the folder names; to use a table or list, name it.",
            )
        )
    return Source(listing.root, tuple(rows), layout, tuple(findings))


def class_name(folder: str) -> str:
    """The name of a class folder as text, without the invisible spaces at the ends of folder names.

    >>> class_name("dogs /young")
    'dogs/young'
    """
    return label_text("/".join(part.strip() or part for part in folder.split("/")))


def _class_below_class(labels: set[str]) -> list[Finding]:
    """The finding for folders with images inside other folders with images, which may be meant as one class."""
    below = sorted(label for label in labels if any(label.startswith(f"{other}/") for other in labels))
    if not below:
        return []
    meaning = f"{counted(len(below), 'class')} in a folder inside another class folder."
    done = "Kept as classes of their own. If they are not classes, move their images up into the folder above."
    return [Finding("class-below-class", "warning", tuple(below), meaning, done)]


def unlabelled_finding(paths: list[str], where: str) -> list[Finding]:
    """The finding for images without a label; empty if there are none."""
    if not paths:
        return []
    meaning = f"{counted(len(paths), 'image')} {where}, without a label."
    return [Finding("unlabelled", "warning", tuple(paths), meaning, "Left out.")]
