"""Files that hold images as they are, one after the other (tar, TFRecord) -> an index of where each is, made once.

The index is stored in the cache by the file's path, size and modification time, and holds the label beside each image;
an image is then read by one seek. The files are not trusted: an index that leads outside its file is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from tellapart.errors import ImageError, SourceError
from tellapart.files import cache_root, from_json, to_json, write_text

VERSION = 1
_making = Lock()


@dataclass(frozen=True, slots=True)
class Slice:
    """One image in a file: its name there, where its bytes are, and its label and group as written; "" for none."""

    member: str
    offset: int
    size: int
    label: str = ""
    group: str = ""


@dataclass(frozen=True)
class SliceIndex:
    """origin: what the labels were read from, in words, such as `.cls`. numbered: whether they are class numbers."""

    slices: tuple[Slice, ...]
    origin: str = ""
    numbered: bool = False


MakeIndex = Callable[[Path], SliceIndex]
"""Reads a whole file once, in order. Raises SourceError if it is damaged."""


def index_of(path: Path, make: MakeIndex) -> SliceIndex:
    """The index of a file, from memory, from the cache, or made. Raises SourceError as `make`, and for a file that
    cannot be read."""
    return _held(path, make)[0]


def read_slice(path: Path, member: str, make: MakeIndex, max_bytes: int) -> bytes:
    """The bytes of one member. Raises SourceError if there is no such member; ImageError if it is too large, or the
    file ends before it does."""
    found = _held(path, make)[1].get(member)
    if found is None:
        raise SourceError(f"{path} holds no image {member!r}.")
    if found.size > max_bytes:
        raise ImageError("too many bytes", f"{found.size:,}; at most {max_bytes:,} are read")
    try:
        with path.open("rb") as file:
            file.seek(found.offset)
            content = file.read(found.size)
    except OSError as error:
        raise ImageError("unreadable", f"{path} cannot be opened: {error.strerror}") from error
    if not content:
        raise ImageError("empty", "it has no bytes")
    if len(content) < found.size:
        raise ImageError("truncated", f"{path} ends within it")
    return content


def _held(path: Path, make: MakeIndex) -> tuple[SliceIndex, dict[str, Slice]]:
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None
    with _making:  # one thread makes it, the others then find it
        return _loaded(path, status.st_size, status.st_mtime_ns, make)


@lru_cache(maxsize=16)
def _loaded(path: Path, size: int, changed: int, make: MakeIndex) -> tuple[SliceIndex, dict[str, Slice]]:
    state = f"{VERSION}\0{make.__module__}\0{os.path.realpath(path)}\0{size}\0{changed}"
    kept = cache_root() / "indexes" / f"{hashlib.blake2b(os.fsencode(state), digest_size=16).hexdigest()}.json"
    index = _stored(kept, size)
    if index is None:
        index = make(path)
        with suppress(OSError):  # without a writable cache it is made in each process
            kept.parent.mkdir(parents=True, exist_ok=True)
            rows = [astuple(each) for each in index.slices]
            write_text(kept, to_json([index.origin, index.numbered, rows], ascii=True))
    return index, {each.member: each for each in index.slices}


def _stored(kept: Path, size: int) -> SliceIndex | None:
    """The stored index; None without one, or if it is damaged or leads outside a file of this size."""
    with suppress(OSError, ValueError, TypeError):
        origin, numbered, rows = from_json(kept.read_bytes())
        slices = tuple(Slice(*row) for row in rows)
        if all(min(each.offset, each.size) >= 0 and each.offset + each.size <= size for each in slices):
            return SliceIndex(slices, origin, numbered)
    return None
