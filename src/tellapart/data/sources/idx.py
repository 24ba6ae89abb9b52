"""idx files (the format of MNIST and Fashion-MNIST) -> Source, and one image of such a file -> pixels.

A folder holds train-images-idx3-ubyte and train-labels-idx1-ubyte, and the same for t10k (the test split), each also as
.gz. A row's path is the images file and the position in it: `train-images-idx3-ubyte.gz#17`. Class names are the lines
of labels.txt beside the files; else Fashion-MNIST's where the folder's name says fashion; else the digits.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tellapart.config import DataConfig
from tellapart.data.sources.archive import MAX_RATIO, SMALL
from tellapart.data.sources.folders import split_named
from tellapart.data.sources.listing import IDX_NAME, Listing, label_text, natural_key
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import SourceError

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_UNSIGNED_BYTE = 0x08
_loading = Lock()


def read_idx_image(path: Path, member: str, max_bytes: int) -> NDArray[np.uint8]:  # noqa: ARG001 - of every container
    """One image of an idx file: grey, uint8 (height, width), read-only. member: its position, from 0.

    The idx file is loaded once per process, and again if it changes. Raises SourceError for an idx file that is damaged
    or too short, or has no such image.
    """
    images = _load(path, dimensions=3)
    if not member.isdecimal() or len(member) > 12 or int(member) >= len(images):
        raise SourceError(f"{path} holds {len(images)} images; there is no image {member} (counted from 0).")
    position = int(member)
    image: NDArray[np.uint8] = images[position]
    return image


def read_idx(listing: Listing, config: DataConfig) -> Source | str:  # noqa: ARG001 - every reader takes it
    """Source from the idx files of a folder, or why there are none.

    Raises SourceError for files that are damaged, too short, without their partner, of an unknown split or in several
    folders.
    """
    if not listing.idx:
        return "there are no idx files"
    folders = {path.rpartition("/")[0] for path in listing.idx}
    if len(folders) > 1:
        raise SourceError(f"{listing.name} holds idx files in {', '.join(sorted(folders))}; name one of these folders.")
    (folder,) = folders
    parts: dict[str, dict[str, str]] = {}
    for path in listing.idx:
        match = IDX_NAME.fullmatch(path.rpartition("/")[2])
        if match:
            # In natural order the plain file comes before its .gz and is used.
            parts.setdefault(match["part"].lower(), {}).setdefault(match["what"].lower(), path)
    rows: list[LabelledPath] = []
    found = []
    names = _class_names(listing, folder)
    for part, files in parts.items():
        split = "test" if part.endswith("t10k") else split_named(part.rpartition("-")[2])
        if not split:
            raise SourceError(
                f"{listing.name}: {part}-... is not a known part of an idx data set; expected train-... and t10k-..."
            )
        if len(files) < 2:
            (what,) = files
            raise SourceError(f"{listing.name}: {files[what]} has no counterpart; images and labels are both needed.")
        images = _load(listing.root / files["images"], dimensions=3)
        labels = _load(listing.root / files["labels"], dimensions=1)
        if len(images) != len(labels):
            raise SourceError(
                f"{listing.name}: {part} has {len(images)} images and {len(labels)} labels; expected equal numbers."
            )
        if names and len(labels) and int(labels.max()) >= len(names):
            raise SourceError(
                f"{listing.name}: {files['labels']} holds label {labels.max()}, but {len(names)} classes are named."
            )
        words = names or [str(number) for number in range(256)]
        rows.extend(
            LabelledPath(f"{files['images']}#{i}", words[label], split) for i, label in enumerate(labels.tolist())
        )
        found.append(f"{len(images)} {split} images of {images.shape[1]}x{images.shape[2]}")
    rows.sort(key=lambda row: natural_key(row.path))
    return Source(listing.root, tuple(rows), f"idx files: {', '.join(found)}")


def _class_names(listing: Listing, folder: str) -> list[str]:
    """Class names by label, empty if the labels are the names."""
    place = listing.root / folder
    lines = place / "labels.txt"
    if lines.is_file():
        try:
            return [label_text(line.strip()) for line in lines.read_text("utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{lines} cannot be read as UTF-8 text: {error}.") from None
    called = f"{Path(listing.name).name}/{folder}"
    return list(FASHION) if "fashion" in called.casefold() else []


def _load(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None
    with _loading:  # one thread loads, the others then find it loaded
        return _loaded(path, status.st_size, status.st_mtime_ns, dimensions)


@lru_cache(maxsize=4)
def _loaded(path: Path, size: int, changed: int, dimensions: int) -> NDArray[np.uint8]:  # noqa: ARG001 - of the key
    """The array of an idx file: two zero bytes, the element type, the number of dimensions, each size as a big-endian
    uint32, then the elements."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UNSIGNED_BYTE or start[3] != dimensions:
                raise SourceError(
                    f"{path} does not begin like an idx file of bytes in {dimensions} dimensions: {start.hex(' ')}."
                )
            sides = file.read(4 * dimensions)
            if len(sides) < 4 * dimensions:
                raise SourceError(f"{path} is too short: it ends within its header. Copy or download it again.")
            shape = struct.unpack(f">{dimensions}I", sides)
            expected = math.prod(shape)
            if expected > max(SMALL, MAX_RATIO * size):
                raise SourceError(
                    f"{path} is too short: its header promises {expected:,} bytes, more than a file of this size can "
                    "hold. Copy or download it again."
                )
            data = _up_to(file, expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path} is damaged: {error}. Copy or download it again.") from None
    if len(data) != expected:
        given = f"it has {len(data)}" if len(data) < expected else "it has more"
        raise SourceError(
            f"{path} is too {'short' if len(data) < expected else 'long'}: its header promises {expected} bytes, "
            f"{given}. Copy or download it again."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _up_to(file: BufferedIOBase, count: int) -> bytes:
    """At most count bytes, read in pieces: a damaged header may claim more than fits into memory."""
    pieces = []
    while count > 0 and (piece := file.read(min(count, 1 << 24))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
