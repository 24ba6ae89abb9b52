"""The path of a row -> the image: a file, or a member of a container.

A member is written CONTAINER#MEMBER: `train-00000-of-00004.parquet#17`, `shard-000000.tar#000001.jpg`,
`train-images-idx3-ubyte.gz#17`; `photo.jpg#10,20,64,48` is a part of an image. CONTAINERS is the table of all: whatever
reads images by row reads these too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.image_file import MAX_BYTES
from tellapart.data.image_formats import SUFFIXES
from tellapart.data.sources.crop import read_crop
from tellapart.data.sources.idx import read_idx_image
from tellapart.data.sources.listing import kind_of
from tellapart.data.sources.parquet_images import image_columns, open_parquet, read_parquet_image
from tellapart.data.sources.tar_index import is_shard, read_tar_image, tar_index
from tellapart.data.sources.tfrecord_file import read_tfrecord_image, tfrecord_index
from tellapart.errors import SourceError, unknown


@dataclass(frozen=True)
class Container:
    """file: what its name ends with. read: (file, member, limit of bytes) -> the bytes of an image file, or pixels.
    member: what members look like."""

    file: str
    read: Callable[[Path, str, int], bytes | NDArray[np.uint8]]
    member: str = ".+"


CONTAINERS = (
    Container(r"-images[-.]idx3-ubyte(?:\.gz)?", read_idx_image),
    Container(r"\.parquet", read_parquet_image),
    Container(r"\.tar", read_tar_image),
    Container(r"\.tfrecords?|[-_.]\d{5}-of-\d{5}(?:\.tfrecords?)?", read_tfrecord_image),
    Container(rf"\.(?:{'|'.join(sorted(SUFFIXES))})", read_crop, r"\d{1,9}(?:,\d{1,9}){3}"),
)
_MEMBER = re.compile(
    "|".join(f"(?P<file{n}>.+?(?:{each.file}))#(?P<member{n}>{each.member})" for n, each in enumerate(CONTAINERS)),
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Member:
    """An image in a container, read when it is needed."""

    file: Path
    member: str
    container: Container

    def read(self, max_bytes: int = MAX_BYTES) -> bytes | NDArray[np.uint8]:
        """Bytes of an image file; or pixels, uint8 (height, width) or (height, width, channels).

        Raises ImageError if it cannot be read, SourceError if the container is damaged or has no such member.
        """
        return self.container.read(self.file, self.member, max_bytes)


def member_of(root: Path, path: str) -> Member | None:
    """The member that the path of a row names; None for a file, also for one whose own name contains #."""
    match = _MEMBER.fullmatch(path) if "#" in path else None
    if match is None:
        return None
    number = next(n for n in range(len(CONTAINERS)) if match[f"file{n}"])
    return Member(root / match[f"file{number}"], match[f"member{number}"], CONTAINERS[number])


def member_there(root: Path, path: str) -> Member | None:
    """The same, if there is such a container."""
    member = member_of(root, path)
    return member if member is not None and member.file.is_file() else None


def holds_members(path: Path) -> bool:
    """Whether a file is a container of encoded images: TFRecord, a WebDataset shard, or parquet with images inside."""
    kind = kind_of(path.name)
    if kind == "table":
        return path.suffix.lower() == ".parquet" and bool(image_columns(open_parquet(path).schema_arrow).images)
    return kind == "records" or (kind == "archive" and path.name.lower().endswith(".tar") and is_shard(path))


def members_of(path: Path, column: str | None = None) -> Iterator[Member]:
    """Every image of such a file, in order, whether or not it has a label. column: of a parquet file with several.

    Raises SourceError for a damaged file, or without such a column.
    """
    if kind_of(path.name) == "table":
        file = open_parquet(path)
        names = image_columns(file.schema_arrow).images
        if column is not None and column not in names:
            raise SourceError(f"{path}: {unknown('column of images', column, names)}")
        suffix = f":{column}" if column is not None and column != names[0] else ""
        members: Iterable[str] = (f"{row}{suffix}" for row in range(file.metadata.num_rows))
    else:
        index = tfrecord_index(path) if kind_of(path.name) == "records" else tar_index(path)
        members = (each.member for each in index.slices)
    for name in members:
        found = member_of(path.parent, f"{path.name}#{name}")
        if found is not None:
            yield found


def open_row(root: Path, path: str) -> Path | bytes | NDArray[np.uint8]:
    """What data.pixels.read takes for a row: its file, or the bytes or pixels of a member, read-only.

    Raises SourceError for a container that is damaged or too short, ImageError for a member that cannot be read.

    >>> open_row(Path("photos"), "cats/a#1.jpg").as_posix()
    'photos/cats/a#1.jpg'
    """
    member = member_there(root, path)
    return root / path if member is None else member.read()
