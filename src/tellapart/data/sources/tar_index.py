"""A WebDataset shard, a tar of 000001.jpg + 000001.cls (.json, .txt) -> where each image is, and its label.

The tar is read once, in order, and only its headers and labels; nothing is unpacked. Members belong together if their
names are equal up to the first dot.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tellapart.data.image_formats import SUFFIXES
from tellapart.data.sources.archive import DAMAGED, MAX_MEMBERS, BoundedHeader
from tellapart.data.sources.columns import USUAL, plain_name
from tellapart.data.sources.listing import ignored
from tellapart.data.sources.slices import Slice, SliceIndex, index_of, read_slice
from tellapart.errors import SourceError
from tellapart.files import from_json

LABELS = ("cls", "json", "txt")
"""Suffixes of the members that hold labels, best first."""
_MAX_LABEL = 1 << 20  # bytes
_FIRST = 16  # members that tell a shard from any other tar
_KEYS = {"label": ("cls", *USUAL["label"]), "group": USUAL["group"]}


def is_shard(path: Path) -> bool:
    """Whether a file is a tar, not compressed, that begins with an image and a label of the same name."""
    suffixes: dict[str, set[str]] = {}
    with suppress(*DAMAGED, OSError), tarfile.open(path, "r:", tarinfo=BoundedHeader) as bundle:
        for _, (key, suffix) in zip(
            range(_FIRST), (_parts(info.name) for info in bundle if info.isreg()), strict=False
        ):
            suffixes.setdefault(key, set()).add(suffix)
    return any(held & set(LABELS) and any(map(_is_image, held)) for held in suffixes.values())


def tar_index(path: Path) -> SliceIndex:
    """The images of a shard and their labels. Raises SourceError if it is damaged or cut short."""
    return index_of(path, _made)


def read_tar_image(path: Path, member: str, max_bytes: int) -> bytes:
    """The bytes of one image. Raises SourceError for a damaged shard, or without such a member."""
    return read_slice(path, member, _made, max_bytes)


def _parts(name: str) -> tuple[str, str]:
    """The key of a sample and the suffix of a member, as WebDataset splits names.

    >>> _parts("train/0001.seg.PNG")
    ('train/0001', 'seg.png')
    """
    folder, slash, leaf = name.rpartition("/")
    stem, _, suffix = leaf.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _is_image(suffix: str) -> bool:
    return suffix.rpartition(".")[2] in SUFFIXES


def _made(path: Path) -> SliceIndex:
    images: dict[str, dict[str, Slice]] = {}
    labels: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path, "r:", tarinfo=BoundedHeader) as bundle:
            for info in _files(bundle, path):
                key, suffix = _parts(info.name)
                if _is_image(suffix):
                    images.setdefault(key, {})[suffix] = Slice(info.name, info.offset_data, info.size)
                elif suffix in LABELS and info.size <= _MAX_LABEL and (content := bundle.extractfile(info)):
                    labels.setdefault(key, {})[suffix] = content.read()
    except (*DAMAGED, OSError) as error:
        raise SourceError(f"{path} is damaged or cut short: {error}. Copy or download it again.") from None
    origin = next((suffix for suffix in LABELS if any(suffix in held for held in labels.values())), "")
    found = []
    for key, held in images.items():
        image = _one(held, key, path)
        label, group = _label(labels.get(key, {}).get(origin, b""), origin, f"{path}, {key}.{origin}")
        found.append(Slice(image.member, image.offset, image.size, label, group))
    named = [each.label for each in found if each.label not in ("", "-1")]
    return SliceIndex(tuple(found), f".{origin}" if origin else "", bool(named) and all(map(str.isdecimal, named)))


def _files(bundle: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    for number, info in enumerate(bundle):
        if number >= MAX_MEMBERS:
            raise SourceError(f"{path} has more than {MAX_MEMBERS:,} members.")
        if info.isreg() and not any(map(ignored, info.name.split("/")[-1:])):
            yield info


def _one(images: dict[str, Slice], key: str, path: Path) -> Slice:
    """The image of a sample: a mask has a longer suffix, such as .seg.png."""
    plain = {suffix: image for suffix, image in images.items() if "." not in suffix} or images
    if len(plain) > 1:
        raise SourceError(f"{path}: the sample {key!r} has several images: {', '.join(plain)}. Keep one in each.")
    return next(iter(plain.values()))


def _label(content: bytes, origin: str, place: str) -> tuple[str, str]:
    """The label and the group of a sample, "" for none. Raises SourceError for text that is none, or several labels."""
    try:
        text = content.decode("utf-8-sig").strip()
        if origin != "json" or not text:
            return text, ""
        row = from_json(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{place} is damaged: {error}.") from None
    if not isinstance(row, dict):
        return _text(row, place), ""
    plain = {plain_name(key): value for key, value in reversed(row.items())}
    values = {role: next((plain[key] for key in keys if key in plain), None) for role, keys in _KEYS.items()}
    return _text(values["label"], place), _text(values["group"], place)


def _text(value: Any, place: str) -> str:
    if isinstance(value, dict | list):
        raise SourceError(f"{place} holds several labels or boxes; an image has one label here: a name or a number.")
    return "" if value is None else str(value).strip()
