"""Annotations of boxes (COCO, YOLO) -> Source of the boxes as images, if --crop-boxes asks for that; else a refusal.

A row is a part of an image, `images/train/1.jpg#10,20,64,48` (x, y, width, height in pixels of the upright image), with
the class of its box and the image as its group, so that boxes of one image are in one split.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.findings import Finding
from tellapart.data.image_file import read_file
from tellapart.data.sources.listing import Listing, counted, label_text
from tellapart.data.sources.lists import class_names
from tellapart.data.sources.shard_names import split_in_name
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ImageError, SourceError, some
from tellapart.files import from_json

MAX_BYTES = 1_000_000_000
"""Of an annotation file, which is read whole."""
_FIRST = 20  # images whose label files tell YOLO from other text
_LINE = re.compile(r"\d{1,6}(?:\s+-?\d+(?:\.\d*)?(?:e-?\d+)?){4,}\s*", re.IGNORECASE)
_NAMES = re.compile(
    r"^names:[ \t]*(?P<inline>\[[^\]]*\])?[ \t]*(?:#[^\n]*)?\n?(?P<block>(?:[ \t-][^\n]*\n?|\n)*)", re.MULTILINE
)
_ENTRY = re.compile(r"^[ \t]*(?:-|(?P<number>\d+)[ \t]*:)[ \t]*(?P<name>[^#\n]+?)[ \t]*(?:#.*)?$", re.MULTILINE)
_ADVICE = (
    "An image has one label here. --crop-boxes (crop_boxes=True in Python) reads each box as an image of its class, "
    "and keeps the boxes of one image in one split; for whole images, put each into the folder of its class."
)


@dataclass(frozen=True, slots=True)
class _Box:
    """In pixels of the image at `path`."""

    path: str
    label: str
    split: str
    x: float
    y: float
    width: float
    height: float


def read_boxes(listing: Listing, config: DataConfig) -> Source | str:
    """Source of the boxes of a folder, or why it has none. Raises SourceError if it has and they are not asked for."""
    files = _coco_files(listing)
    labels = {} if files else _yolo_labels(listing, config.crop_boxes)
    if not files and not labels:
        return "there are no boxes: a COCO json, or labels/*.txt beside images/ (YOLO)"
    kind = f"COCO ({some([path.name for path in files], 3)})" if files else "YOLO (labels/*.txt)"
    if not config.crop_boxes:
        raise SourceError(f"{listing.name} holds boxes of objects, as {kind}. {_ADVICE}")
    findings: list[Finding] = []
    boxes = _coco(listing, files) if files else _yolo(listing, labels, findings)
    rows: dict[str, LabelledPath] = {}
    flat: list[str] = []
    for box in boxes:
        ends = [max(0.0, box.x), max(0.0, box.y), box.x + box.width, box.y + box.height]
        if not all(map(math.isfinite, ends)) or max(ends) > 2**31:
            flat.append(box.path)
            continue
        left, top, right, bottom = (round(end) for end in ends)
        if right - left < 1 or bottom - top < 1:
            flat.append(box.path)
            continue
        path = f"{box.path}#{left},{top},{right - left},{bottom - top}"
        rows.setdefault(path, LabelledPath(path, box.label, box.split, box.path))
    if flat:
        meaning = f"{counted(len(flat), 'box')} without a whole pixel."
        findings.append(Finding("empty-box", "warning", tuple(dict.fromkeys(flat)), meaning, "Left out."))
    layout = f"boxes of {kind}, each an image"
    return Source(listing.root, tuple(rows.values()), layout, tuple(findings), ("crop_boxes",))


def _coco_files(listing: Listing) -> list[Path]:
    """Files that begin like COCO's and hold boxes."""
    if not listing.others.get(".json"):
        return []
    tops = [folder for folder in listing.folders if "/" not in folder or folder.rpartition("/")[2] == "annotations"]
    found = []
    for folder in ("", *tops):
        with suppress(OSError):
            found += [path for path in sorted((listing.root / folder).glob("*.json")) if _is_coco(path)]
    return found


def _is_coco(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        start = file.read(4096)
        if not re.match(rb'\s*\{\s*"(info|licenses|images|annotations|categories|type)"\s*:', start):
            return False
        before = b""
        while start:
            if b'"bbox"' in before + start:
                return True
            before, start = start[-8:], file.read(1 << 20)
    return False


def _coco(listing: Listing, files: Sequence[Path]) -> Iterator[_Box]:
    by_leaf: dict[str, list[str]] = {}
    for path in listing.images:
        by_leaf.setdefault(path.rpartition("/")[2], []).append(path)
    for file in files:
        within = file.relative_to(listing.root).with_suffix("").as_posix()
        split = split_in_name(re.sub(r"\d+", "", within)) or ""  # annotations/instances_train2017.json
        try:
            if file.stat().st_size > MAX_BYTES:
                raise SourceError(f"{file} has more than {MAX_BYTES:,} bytes.")
            held = from_json(file.read_bytes())
            names = {row["id"]: label_text(str(row["name"])) for row in held["categories"]}
            images = {row["id"]: _found(str(row["file_name"]), by_leaf, file, split) for row in held["images"]}
            for row in held["annotations"]:
                path = images.get(row["image_id"], "")
                if path and not row.get("iscrowd") and "bbox" in row:
                    x, y, width, height = map(float, row["bbox"])
                    yield _Box(path, names[row["category_id"]], split, x, y, width, height)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise SourceError(f"{file} is not COCO, or it is damaged: {type(error).__name__} {error}.") from None


def _found(name: str, by_leaf: dict[str, list[str]], file: Path, split: str) -> str:
    """The image of this name in the listing, "" if there is none: never a file elsewhere."""
    held = [path for path in by_leaf.get(name.rpartition("/")[2], ()) if f"/{path}".endswith(f"/{name.lstrip('./')}")]
    near = [path for path in held if f"/{path}".rpartition("/")[0].endswith(file.parent.name)]
    of_split = [path for path in held if split and _split_of_folder(path) == split]
    return next(iter(of_split or near or held), "")


def _split_of_folder(path: str) -> str:
    """train2017/1.jpg is in train."""
    folders = (re.sub(r"\d+$", "", part) for part in path.split("/")[:-1])
    return split_in_name("/".join((*folders, "x"))) or ""


def _yolo_labels(listing: Listing, beside: bool) -> dict[str, Path]:
    """Image -> its label file, if the first of these hold boxes. beside: also in the folder of the image."""
    if not beside and not any("labels" in folder.split("/") for folder in listing.folders):
        return {}
    found = {path: file for path in listing.images if (file := _label_file(listing.root, path, beside)) is not None}
    first = [line for file in list(found.values())[:_FIRST] for line in _lines(file)]
    return found if first and all(map(_LINE.fullmatch, first)) else {}


def _label_file(root: Path, path: str, beside: bool) -> Path | None:
    *folders, name = path.split("/")
    name = name.rpartition(".")[0] + ".txt"
    places = []
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        places.append("/".join((*folders[:last], "labels", *folders[last + 1 :], name)))
    if beside:
        places.append("/".join((*folders, name)))
    return next((file for place in places if (file := root / place).is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_BYTES // 100:
            return ["too large"]
        return [line.strip() for line in path.read_text("ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return ["no text"]


def _yolo(listing: Listing, labels: dict[str, Path], findings: list[Finding]) -> Iterator[_Box]:
    """Boxes are fractions of the image: class, x and y of the centre, width, height; more numbers are a polygon."""
    names = _yolo_names(listing)
    unreadable = []
    for path, file in labels.items():
        lines = _lines(file)
        if not lines:
            continue
        try:
            size = pixels.look(read_file(listing.root / path)[0])
        except ImageError:
            unreadable.append(path)
            continue
        split = split_in_name(path) or ""
        for line in lines:
            if not _LINE.fullmatch(line):
                raise SourceError(f"{file}: {line[:60]!r} is not a class and a box.")
            number, *values = line.split()
            if names and number not in names:
                raise SourceError(f"{file} holds the class {number}, but {len(names)} classes are named.")
            x, y, width, height = _box([float(value) for value in values])
            box = (x * size.width, y * size.height, width * size.width, height * size.height)
            yield _Box(path, names.get(number, number), split, *box)
    if unreadable:
        meaning = f"{counted(len(unreadable), 'image')} with boxes cannot be read."
        findings.append(Finding("not-a-file", "error", tuple(unreadable), meaning, "Its boxes are left out."))


def _box(values: list[float]) -> tuple[float, float, float, float]:
    """Left, top, width, height within the image, as fractions."""
    if len(values) == 4:
        x, y, width, height = values
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    else:
        left, top, right, bottom = min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])
    left, top, right, bottom = (min(1.0, max(0.0, end)) for end in (left, top, right, bottom))
    return left, top, right - left, bottom - top


def _yolo_names(listing: Listing) -> dict[str, str]:
    """Number -> name, from `names` of data.yaml or another .yaml of the folder, or from classes.txt."""
    for path in sorted((*listing.root.glob("*.yaml"), *listing.root.glob("*.yml"))):
        with suppress(OSError, UnicodeDecodeError):
            if path.stat().st_size <= MAX_BYTES // 100 and (names := names_in_yaml(path.read_text("utf-8-sig"))):
                return names
    return class_names(listing.root) or class_names(listing.root / "labels")


def names_in_yaml(text: str) -> dict[str, str]:
    """The class names of a data.yaml, as YOLO writes it: a list in one line, a line each, or numbered.

    >>> names_in_yaml("nc: 2\\nnames: ['cat', 'dog']\\n"), names_in_yaml("names:\\n  0: cat\\n  1: dog\\n")
    ({'0': 'cat', '1': 'dog'}, {'0': 'cat', '1': 'dog'})
    """
    match = _NAMES.search(text)
    if match is None:
        return {}
    if match["inline"]:
        listed = [part.strip().strip("'\"") for part in match["inline"][1:-1].split(",")]
        return {str(number): label_text(name) for number, name in enumerate(filter(None, listed))}
    names: dict[str, Any] = {}
    for number, entry in enumerate(_ENTRY.finditer(match["block"])):
        names[entry["number"] or str(number)] = label_text(entry["name"].strip("'\""))
    return names
