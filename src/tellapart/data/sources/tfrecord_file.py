"""A TFRecord file of tf.train.Example (TensorFlow Datasets, TF-Slim) -> where each image is, and its label.

Read once, in order, without TensorFlow: each record is a length and its bytes, both with a CRC-32C, and an Example is
four nested messages of protocol buffers. Every checksum is verified; a length or field that leads outside is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tellapart.data.image_formats import PREFIX, format_of
from tellapart.data.sources.columns import USUAL
from tellapart.data.sources.slices import Slice, SliceIndex, index_of, read_slice
from tellapart.errors import SourceError, require_extra

MAX_RECORD = 2**30
MAX_RECORDS = 20_000_000
_IMAGES = ("image/encoded", *USUAL["path"])
_TEXTS = ("image/class/text",)
_LABELS = ("image/class/label", *USUAL["label"])
_GROUPS = ("image/group", *USUAL["group"])
_BOXES = ("image/object/bbox/xmin", "objects/bbox")
_GZIP = b"\x1f\x8b"


@dataclass
class Feature:
    """The values of one feature: (start, end) of each bytes value in the record, or whole numbers."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


def tfrecord_index(path: Path) -> SliceIndex:
    """The images of a file and their labels. Raises SourceError if it is damaged, cut short, or holds no images;
    MissingExtraError without the extra `tfrecord`."""
    return index_of(path, _made)


def read_tfrecord_image(path: Path, member: str, max_bytes: int) -> bytes:
    """The bytes of one image; member: the number of its record, from 0. Raises SourceError as tfrecord_index."""
    return read_slice(path, member, _made, max_bytes)


def _made(path: Path) -> SliceIndex:
    require_extra("Reading TFRecord files", "tfrecord", "google_crc32c")
    found: list[Slice] = []
    image = label = group = ""
    try:
        for number, (start, record) in enumerate(records(path)):
            features = example(record)
            if not found:
                image = _image_of(features, record, path)
                label = next((key for key in (*_TEXTS, *_LABELS) if _filled(features.get(key))), "")
                group = next((key for key in _GROUPS if _filled(features.get(key))), "")
                if not label and any(key in features for key in _BOXES):
                    raise SourceError(
                        f"{path} holds boxes and no class of the whole image. Crop each box to an image of its class, "
                        "and write these into one folder a class."
                    )
            spans = features[image].spans if image in features else []
            if len(spans) != 1:
                raise SourceError(f"{path}: record {number} holds {len(spans)} images in {image!r}; expected one.")
            begin, end = spans[0]
            texts = (_text(features.get(key), record, f"{path}: record {number}, {key!r},") for key in (label, group))
            found.append(Slice(str(number), start + begin, end - begin, *texts))
    except _Damage as error:
        raise SourceError(f"{path} is damaged or cut short: {error}. Copy or download it again.") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None
    named = [each.label for each in found if each.label not in ("", "-1")]
    return SliceIndex(tuple(found), label, bool(named) and all(map(str.isdecimal, named)))


class _Damage(Exception):
    """What is wrong with a record, in words."""


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset of its bytes in the file, bytes) of each record, verified. Raises _Damage."""
    import google_crc32c

    def verified(content: bytes, told: bytes, what: str) -> None:
        crc = google_crc32c.value(content)
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        if struct.pack("<I", masked) != told:
            raise _Damage(f"the checksum of {what} does not match")

    size = path.stat().st_size
    at = number = 0
    with path.open("rb") as file:
        while head := file.read(12):
            if number == 0 and head.startswith(_GZIP):
                raise _Damage("it is compressed; unpack it with gunzip")
            if len(head) < 12:
                raise _Damage(f"it ends within record {number}")
            verified(head[:8], head[8:], f"the length of record {number}")
            (length,) = struct.unpack("<Q", head[:8])
            if length > MAX_RECORD or number >= MAX_RECORDS:
                raise _Damage(
                    f"record {number} has {length:,} bytes; at most {MAX_RECORD:,} and {MAX_RECORDS:,} records"
                )
            if at + 16 + length > size:
                raise _Damage(f"it ends within record {number}")
            content = file.read(length)
            verified(content, file.read(4), f"record {number}")
            yield at + 12, content
            at += 16 + length
            number += 1


def example(record: bytes) -> dict[str, Feature]:
    """The features of a tf.train.Example by name. Raises _Damage for bytes that are none."""
    found: dict[str, Feature] = {}
    for number, begin, end in _fields(record, 0, len(record)):
        if number != 1:  # Example.features
            continue
        for inner, start, stop in _fields(record, begin, end):
            if inner == 1:  # an entry of the map Features.feature
                key, value = "", Feature()
                for part, first, last in _fields(record, start, stop):
                    if part == 1:
                        key = record[first:last].decode("utf-8", "replace")
                    elif part == 2:
                        value = _feature(record, first, last)
                found[key] = value
    return found


def _feature(record: bytes, begin: int, end: int) -> Feature:
    """bytes_list 1, float_list 2 (not needed), int64_list 3; each holds its values as field 1."""
    value = Feature()
    for kind, start, stop in _fields(record, begin, end):
        for number, first, last in _fields(record, start, stop) if kind in (1, 3) else ():
            if number != 1:
                continue
            if kind == 1:
                value.spans.append((first, last))
            else:
                while first < last:  # packed, or one number
                    whole, first = _varint(record, first, last)
                    value.numbers.append(whole - 2**64 if whole >= 2**63 else whole)
    return value


def _fields(record: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each field of a message."""
    while at < end:
        tag, at = _varint(record, at, end)
        start = at
        if tag & 7 == 0:
            _, at = _varint(record, at, end)
        elif tag & 7 == 2:
            length, start = _varint(record, at, end)
            at = start + length
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            raise _Damage("a record is not a tf.train.Example")
        if at > end:
            raise _Damage("a field of a record ends outside it")
        yield tag >> 3, start, at


def _varint(record: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = record[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Damage("a number of a record has no end")


def _filled(feature: Feature | None) -> bool:
    return feature is not None and bool(feature.spans or feature.numbers)


def _image_of(features: dict[str, Feature], record: bytes, path: Path) -> str:
    """The feature that holds the image: by its usual name, else the only one that begins like an image file."""
    held = [
        key
        for key, feature in features.items()
        if len(feature.spans) == 1 and format_of(record[feature.spans[0][0] : feature.spans[0][0] + PREFIX]) is not None
    ]
    usual = [key for key in _IMAGES if key in held]
    if usual or len(held) == 1:
        return (usual or held)[0]
    names = ", ".join(map(repr, sorted(features)[:10])) or "no features"
    raise SourceError(
        f"{path} holds no encoded image that can be told: its first record has {names}. Expected JPEG or PNG bytes in "
        "image/encoded or image, and the class in image/class/label or label."
    )


def _text(feature: Feature | None, record: bytes, place: str) -> str:
    """A label or group as text, "" for none. Raises SourceError for several."""
    values: list[Any] = [] if feature is None else [*feature.spans, *feature.numbers]
    if len(values) > 1:
        raise SourceError(f"{place} holds {len(values)} values; an image has one label here.")
    if not values:
        return ""
    if feature and feature.numbers:
        return str(feature.numbers[0])
    begin, end = values[0]
    return record[begin:end].decode("utf-8", "backslashreplace").strip()
