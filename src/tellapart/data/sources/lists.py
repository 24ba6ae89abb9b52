"""Lists of images (train.txt and val.txt with lines `path label`) -> Source.

A line is the path of an image and, after the last space, tab or comma, its label: a name, or a number that names a line
of classes.txt (labels.txt, classnames.txt ...) beside the list or above it. A line of a path alone has the folder of
the image as label. The split is in the name of the list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.image_formats import SUFFIXES
from tellapart.data.sources.folders import class_name, unlabelled_finding
from tellapart.data.sources.image_paths import located
from tellapart.data.sources.listing import NAMES_FILES, Listing, counted, label_text
from tellapart.data.sources.shard_names import split_in_name
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.data.sources.table import once
from tellapart.data.sources.table_file import MAX_ROWS, undecoded
from tellapart.errors import SourceError
from tellapart.files import expanded

MAX_BYTES = 2_000_000_000
MAX_NAMES_BYTES = 10_000_000
_SEVERAL = re.compile(r"-?[\d.]+(?:[\s,;]+-?[\d.]+)+")
_NUMBERED_NAME = re.compile(r"(?P<number>\d+)\s*[:,\t ]\s*(?P<name>.+)")
_SURE = 20  # lines that are looked at to tell a list of images from any other text


def read_list_file(path: Path, config: DataConfig) -> Source | str:
    """Source from one list, or why it is none. Raises SourceError if none of its images exists."""
    root = expanded(config.root) if config.root is not None else path.parent
    return _read([path], root, config)


def read_lists(listing: Listing, config: DataConfig) -> Source | str:
    """Source from the lists of a folder that give a split each, or its only one; or why there is none."""
    if config.label_pattern is not None:
        return "data.label_pattern means that labels are in the file names"
    if config.path_column is not None or config.label_column is not None:
        return "data.label_column or data.path_column means that labels are in a table"
    if not listing.lists:
        return "there is no list such as train.txt"
    root = listing.root if config.root is None else expanded(config.root)
    return _read([listing.root / path for path in listing.lists], root, config)


def _read(lists: Sequence[Path], root: Path, config: DataConfig) -> Source | str:
    read = {path: rows for path in lists if (rows := _lines(path))}
    if not read:
        return f"{lists[0].name} does not begin with paths of images, such as cats/1.jpg 0"
    parted = {path: rows for path, rows in read.items() if split_in_name(path.name)}
    if len(read) > 1 and "train" in {split_in_name(path.name) for path in parted}:
        read = parted  # all.txt beside train.txt and test.txt repeats them
    elif len(read) > 1:
        raise SourceError(
            f"{root} holds {len(read)} lists of images: {', '.join(path.name for path in read)}. Name one of them; or, "
            "if they are splits, call them train.txt, val.txt and test.txt."
        )
    for path, rows in read.items():
        if several := next((label for _, label in rows if _SEVERAL.fullmatch(label)), ""):
            raise SourceError(
                f"{path} has several numbers after a path, such as {several[:50]!r}: several labels, or boxes. An "
                "image has one label here: keep the lines with one, and write it as a number or a name."
            )
    findings: list[Finding] = []
    there: list[LabelledPath] = []
    missing: list[str] = []
    places: set[str] = set()
    for path, rows in read.items():
        names = _class_names(path, root)
        base = root if config.root is not None else path.parent
        paths, where = located(base, [name.lstrip("/") for name, _ in rows], path.name)
        if not any(paths) and base != root:  # lists in a folder of their own, beside that of the images
            base = root
            paths, where = located(base, [name.lstrip("/") for name, _ in rows], path.name)
        places |= {where} - {""}
        split = (split_in_name(path.name) or "") if len(read) > 1 else ""
        for (name, label), at in zip(rows, paths, strict=True):
            if not at:
                missing.append(name)
                continue
            inside = at if base == root else _below(base / at, root)
            there.append(LabelledPath(inside, _label(label, names, path) or _folder(inside), split))
    if not there:
        return (
            f"{next(iter(read)).name}: none of its {counted(len(missing), 'image')} exists below {root}; the first is "
            f"{missing[0]!r}. Tell where they are with --root FOLDER."
        )
    if missing:
        meaning = f"{counted(len(missing), 'line')} of the lists without an image below {str(root)!r}."
        findings.append(Finding("missing-file", "error", tuple(missing), meaning, "Left out."))
    findings.extend(unlabelled_finding([row.path for row in there if not row.label], "in the lists"))
    kept = once(there, findings)
    layout = f"{'lists' if len(read) > 1 else 'list'} {', '.join(path.name for path in read)}"
    return Source(
        root, kept, layout + "".join(f"; images {where}" for where in sorted(places)), tuple(findings), ("root",)
    )


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _folder(path: str) -> str:
    """The folder of an image, for a list without labels."""
    return class_name(path.rpartition("/")[0].rpartition("/")[2])


def _lines(path: Path) -> list[tuple[str, str]]:
    """(path, label or "") of each line; empty if the file is not a list of images."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or len(lines) > MAX_ROWS or not all(_is_image(_parted(line)[0]) for line in lines[:_SURE]):
        return []
    return [_parted(line) for line in lines]


def _parted(line: str) -> tuple[str, str]:
    """The path and the label of a line; the path may contain spaces.

    >>> _parted("my cats/1.jpg 3"), _parted("cats/1.jpg,black cat"), _parted("cats/1.jpg")
    (('my cats/1.jpg', '3'), ('cats/1.jpg', 'black cat'), ('cats/1.jpg', ''))
    """
    if _is_image(line):
        return line, ""
    for match in re.finditer(r"\s*[,;\t]\s*|\s+", line):
        if _is_image(line[: match.start()]):
            return line[: match.start()], line[match.end() :]
    return line, ""


def _is_image(name: str) -> bool:
    return "." in name and name.rpartition(".")[2].lower() in SUFFIXES


def _label(label: str, names: dict[str, str], path: Path) -> str:
    """Raises SourceError for a number without a name, or text that is not UTF-8."""
    if undecoded([label]):
        raise SourceError(f"{path} is not UTF-8, and the encoding of its label {label_text(label)!r} is unclear.")
    if not names or not label or label in names.values():
        return label_text(label)
    if label not in names:
        raise SourceError(f"{path} holds the label {label[:50]!r}, but {len(names)} classes are named.")
    return names[label]


def _class_names(path: Path, root: Path) -> dict[str, str]:
    """Number -> name, from a file of class names beside the list or in the root; empty without one."""
    for folder in dict.fromkeys((path.parent, root)):
        if names := class_names(folder):
            return names
    return {}


def class_names(folder: Path) -> dict[str, str]:
    """Number -> name, from labels.txt, classes.txt or the like: a name a line, counted from 0, or lines `0:daisy`.

    Empty without such a file. Raises SourceError for one that is not UTF-8 text.
    """
    found = next((folder / name for name in sorted(NAMES_FILES) if (folder / name).is_file()), None)
    return {} if found is None else read_names_file(found)


def read_names_file(path: Path) -> dict[str, str]:
    """The same from this file."""
    try:
        if path.stat().st_size > MAX_NAMES_BYTES:
            raise SourceError(f"{path} is too large for a list of class names.")
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    numbered = [_NUMBERED_NAME.fullmatch(line) for line in lines]
    if numbered and all(numbered):
        return {match["number"]: label_text(match["name"].strip()) for match in numbered if match}
    return {str(number): label_text(line) for number, line in enumerate(lines)}
