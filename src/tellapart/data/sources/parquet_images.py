"""One image of a parquet file (a column of bytes, or of struct{bytes, path} as Hugging Face writes) -> its bytes.

Read by pyarrow in blocks of rows, of which a few are held: rows that are read in order are decoded once, whatever the
size of a row group. The member of a row is its number, `17`, or `17:COLUMN` where the file has several such columns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from tellapart.errors import ImageError, SourceError, require_extra
from tellapart.files import from_json
from tellapart.parallel import cores

BLOCK = 25
"""Rows of a block."""
HELD = 4 + 2 * cores()
"""Blocks held in memory: all cores read near each other."""
HELD_BYTES = 512 * 2**20
"""At most, of the blocks beyond two."""
_BUFFER = 1 << 20

_opening = Lock()


@dataclass(frozen=True)
class ImageColumns:
    """The columns that hold image files, in order; those that Hugging Face calls an image come first. classes: column
    of class numbers -> names (ClassLabel); several: columns that hold several values a row."""

    images: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]
    several: tuple[str, ...]


def open_parquet(path: Path) -> Any:
    """pyarrow's ParquetFile, which has read the metadata alone. Raises SourceError, MissingExtraError."""
    require_extra("Reading a parquet file", "tables", "pyarrow")
    from pyarrow import ArrowException, parquet

    try:
        file = parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        _ = file.schema_arrow  # names that are not UTF-8
        return file
    except (ArrowException, ValueError, OSError) as error:
        raise SourceError(
            f"{path} is not a parquet table, or it is damaged: {error}. Copy or download it again."
        ) from None


def has_bytes(file: Any, path: Path, column: str) -> bool:
    """Whether any row has bytes, or cannot be read; it looks no further than the first. (The counts in a file's
    metadata would tell it too, but pyarrow 25 ends the process where they are damaged.)"""
    try:
        return any(len(held) > held.null_count for held in _batches(file, path, column))
    except ImageError:
        return True


def image_columns(schema: Any) -> ImageColumns:
    """What the columns of an Arrow schema are, by their types and by Hugging Face's features in its metadata."""
    from pyarrow import types

    features = _features(schema)
    images, others, several = [], [], []
    for field in schema:
        kind = field.type
        struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        held = kind.field(kind.get_field_index("bytes")).type if struct else kind
        if types.is_binary(held) or types.is_large_binary(held):
            images.append(field.name)
        elif types.is_nested(kind):
            several.append(field.name)
        else:
            others.append(field.name)
    declared = {name for name, feature in features.items() if feature.get("_type") == "Image"}
    classes = {
        name: tuple(map(str, feature["names"]))
        for name, feature in features.items()
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }
    return ImageColumns(
        tuple(sorted(images, key=lambda name: name not in declared)), classes, tuple(others), tuple(several)
    )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        features = from_json(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    return {}


def read_parquet_image(path: Path, member: str, max_bytes: int) -> bytes:
    """The bytes of one image. Raises SourceError if there is no such row, ImageError for a row without bytes."""
    number, _, column = member.partition(":")
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError("unreadable", f"{path} cannot be opened: {error.strerror}") from error
    if not number.isdecimal() or len(number) > 12:
        raise SourceError(f"{path} has no row {member!r}.")
    with _opening:
        file = _opened(path, status.st_size, status.st_mtime_ns, column)
    content = file.row(int(number))
    if not content:
        raise ImageError("empty", f"row {number} of {path.name} holds no bytes")
    if len(content) > max_bytes:
        raise ImageError("too many bytes", f"{len(content):,}; at most {max_bytes:,} are read")
    return content


@lru_cache(maxsize=4)
def _opened(path: Path, size: int, changed: int, column: str) -> _Rows:  # noqa: ARG001 - of the key
    return _Rows(path, column)


def _bytes(rows: list[bytes | None]) -> int:
    return sum(len(row) for row in rows if row is not None)


class _Rows:
    """The images of a file by row, thread-safe: a reader per row group goes forward block by block."""

    def __init__(self, path: Path, column: str) -> None:
        self._path = path
        self._file = open_parquet(path)
        found = image_columns(self._file.schema_arrow).images
        if not found or (column and column not in found):
            raise SourceError(f"{path} has no column {column!r} of images." if column else f"{path} holds no images.")
        self._column = column or found[0]
        groups = range(self._file.num_row_groups)
        self._starts = [0, *accumulate(self._file.metadata.row_group(group).num_rows for group in groups)]
        self._lock = Lock()
        self._blocks: OrderedDict[tuple[int, int], list[bytes | None]] = OrderedDict()
        self._held = 0
        self._at: tuple[int, int] = (-1, 0)
        self._reader: Iterator[list[bytes | None]] = iter(())

    def row(self, number: int) -> bytes | None:
        if number >= self._starts[-1]:
            raise SourceError(f"{self._path} holds {self._starts[-1]} images; there is no image {number} (from 0).")
        group = next(n for n, end in enumerate(self._starts[1:]) if number < end)
        block, inside = divmod(number - self._starts[group], BLOCK)
        with self._lock:
            rows = self._block(group, block)
        if inside >= len(rows):
            raise SourceError(f"{self._path} is damaged: row group {group} has fewer rows than it says.")
        found: bytes | None = rows[inside]
        return found

    def _block(self, group: int, block: int) -> list[bytes | None]:
        key = group, block
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        if self._at[0] != group or self._at[1] > block:
            self._at, self._reader = (group, 0), self._read(group)
        while self._at[1] <= block:
            rows = next(self._reader, [])
            self._keep(self._at, rows)
            self._at = group, self._at[1] + 1
        return self._blocks[key]

    def _keep(self, key: tuple[int, int], rows: list[bytes | None]) -> None:
        self._held += _bytes(rows) - _bytes(self._blocks.pop(key, []))
        self._blocks[key] = rows
        while len(self._blocks) > HELD or (self._held > HELD_BYTES and len(self._blocks) > 2):
            self._held -= _bytes(self._blocks.popitem(last=False)[1])

    def _read(self, group: int) -> Iterator[list[bytes | None]]:
        for held in _batches(self._file, self._path, self._column, [group]):
            yield held.to_pylist()


def _batches(file: Any, path: Path, column: str, groups: list[int] | None = None) -> Iterator[Any]:
    """The bytes of the images, BLOCK rows at a time, of these row groups or of all. Raises ImageError."""
    from pyarrow import ArrowException, types

    struct = types.is_struct(file.schema_arrow.field(column).type)
    columns = [f"{column}.bytes" if struct else column]
    try:
        for batch in file.iter_batches(BLOCK, row_groups=groups, columns=columns, use_threads=False):
            held = batch.column(0)
            yield held.field("bytes") if struct else held
    except (ArrowException, OSError, ValueError, MemoryError) as error:
        raise ImageError("unreadable", f"{path.name} is damaged: {error}") from None
