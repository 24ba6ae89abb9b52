"""What a user names as input -> Items: images, archives and pieces of tables, at addresses that every machine reads.

A single machine's `inference.inputs` finds what lies on this machine; here are the storage addresses, and what must not
be unpacked or read here: the members of an archive and the images inside a parquet table.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any, Literal, TextIO

from tellapart.cluster.storage import file_system, reason, whole_address
from tellapart.data.address import Address, has_scheme, is_address
from tellapart.data.findings import Finding
from tellapart.data.sources.image_paths import locate
from tellapart.data.sources.listing import ignored, kind_of
from tellapart.data.sources.members import Member
from tellapart.errors import ImageError, SourceError, require_extra
from tellapart.files import expanded
from tellapart.inference.inputs import column_of, find_images

STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "hdfs", "webhdfs", "oss", "file", "memory")
"""Addresses that a list may hold. Of others, such as web pages, the author of the list is not asked to decide."""
Kind = Literal["file", "archive", "rows", "error"]


@dataclass(frozen=True)
class Item:
    """name: as shown. place: path or address; of an `error` its text. first, last: of `rows`, the row groups of a
    parquet table, whose images are in `column`. An archive and each piece of a table are a part of their own."""

    name: str
    place: str
    kind: Kind = "file"
    first: int = 0
    last: int = 0
    column: str = ""

    @property
    def alone(self) -> bool:
        return self.kind in ("archive", "rows")


@dataclass(frozen=True)
class Given:
    """What the user gave besides the names. rows: of a table's images in a piece. told: gets findings."""

    stdin: TextIO | None = None
    path_column: str | None = None
    root: str | None = None
    rows: int = 2000
    told: Callable[[Finding], object] = lambda _: None


def find_items(names: Iterable[str], given: Given) -> Iterator[Item]:
    """In order, found lazily; the same for the same input. Raises SourceError as find_images does, and for storage
    that does not answer."""
    for name in names:
        if name == "-" and given.stdin is not None:
            yield from (_listed(line, line) for line in map(_line, given.stdin) if line)
        elif is_address(name) or not has_scheme(name):
            yield from _here(name, given)
        else:
            yield from _in_storage(name, given)


def _line(text: str) -> str:
    return text.rstrip("\r\n")


def _here(name: str, given: Given) -> Iterator[Item]:
    path = Path(name)
    kind = kind_of(path.name) if path.is_file() else ""
    if kind == "archive":
        yield Item(name, whole_address(path), "archive")
    elif path.suffix.lower() == ".parquet" and path.is_file():
        yield from _in_parquet(name, whole_address(path), given)
    elif has_magic(name) and not path.exists() and not is_address(name):
        matches = sorted(map(os.fspath, _matches(name)))
        if not matches:
            raise SourceError(f"Nothing matches {name!r}.")
        for match in matches:
            yield from _here(match, given)
    else:
        column, root = (given.path_column, given.root) if kind == "table" else (None, None)
        for shown, held in find_images([name], path_column=column, root=root, told=given.told):
            if isinstance(held, ImageError):
                yield Item(shown, str(held), "error")
            elif isinstance(held, Address):
                yield Item(shown, held.url)
            elif isinstance(held, Member):
                yield Item(shown, f"{whole_address(held.file)}#{held.member}")
            else:
                assert isinstance(held, Path)
                yield Item(shown, whole_address(held))


def _matches(pattern: str) -> list[str]:
    from glob import glob

    return glob(pattern, recursive=True)  # noqa: PTH207 - the pattern may be absolute


def _in_storage(name: str, given: Given) -> Iterator[Item]:
    files, path = file_system(name)
    try:
        if has_magic(path):
            matches = sorted(files.glob(path))
            if not matches:
                raise SourceError(f"Nothing matches {name!r}.")
            for match in matches:
                yield from _in_storage(files.unstrip_protocol(match), given)
        elif kind_of(path) == "archive":
            yield Item(name, name, "archive")
        elif path.lower().endswith(".parquet") and not files.isdir(path):
            yield from _in_parquet(name, name, given)
        elif kind_of(path) == "table":
            raise SourceError(
                f"{name}: of tables in storage, only .parquet is read. Write it as parquet, or copy it here."
            )
        elif files.isdir(path):
            yield from _below(name, files, path)
        elif files.exists(path) or kind_of(path) == "image":
            yield Item(name, name)
        else:
            raise SourceError(f"{name} does not exist.")
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - those of storage libraries share no class
        raise SourceError(f"{name} cannot be read: {reason(error)}.") from None


def _below(name: str, files: Any, path: str) -> Iterator[Item]:
    """The images in a folder of storage, sorted; only the names of one folder are held."""
    found, others = False, ""
    for folder, inner, leaves in files.walk(path):
        # walk reads these lists again to go on.
        inner[:] = sorted(each for each in inner if not ignored(each))
        inside = folder[len(path.rstrip("/")) :].strip("/")
        for leaf in sorted(leaves):
            kind = kind_of(leaf)
            shown = posixpath.join(name.rstrip("/"), inside, leaf)
            if kind == "image" and not ignored(leaf):
                found = True
                yield Item(shown, files.unstrip_protocol(f"{folder.rstrip('/')}/{leaf}"))
            elif kind in ("archive", "table"):
                others = leaf.rpartition(".")[2]
    if not found:
        advice = f" Name its archives or tables with a pattern: {name.rstrip('/')}/*.{others}" if others else ""
        raise SourceError(f"{name} holds no image (.jpg, .png ...).{advice}")


def _in_parquet(name: str, place: str, given: Given) -> Iterator[Item]:
    """The paths in its column, or pieces of it if the column holds the images themselves."""
    require_extra("Reading a parquet table", "cluster", "pyarrow", "fsspec")
    from pyarrow import ArrowException, parquet, types

    files, path = file_system(place)
    try:
        with files.open(path, "rb") as opened:
            table = parquet.ParquetFile(opened)
            schema = table.schema_arrow
            chosen = column_of(schema.names, given.path_column, name)
            kind = schema.field(chosen).type
            if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
                yield from _pieces(name, place, table, chosen, given.rows)
                return
            folder = _folder_of(place, given.root)
            number = 0
            for batch in table.iter_batches(batch_size=10_000, columns=[chosen]):
                for cell in batch.column(0).to_pylist():
                    number += 1
                    if not isinstance(cell, str) or not cell.strip():
                        shown = f"row {number} of {posixpath.basename(name)}"
                        yield Item(shown, str(ImageError("not an image", "the row names no image")), "error")
                    else:
                        yield _listed(cell.strip(), _within(folder, cell.strip()))
    except (ArrowException, ValueError) as error:
        raise SourceError(f"{name} is not a parquet table, or it is damaged: {error}") from None


def _pieces(name: str, place: str, table: Any, column: str, rows: int) -> Iterator[Item]:
    """Consecutive row groups with about `rows` rows."""
    first, held = 0, 0
    groups: int = table.num_row_groups
    for number in range(groups):
        held += table.metadata.row_group(number).num_rows
        if held >= rows or number == groups - 1:
            yield Item(f"{name}#{first}-{number}", place, "rows", first, number, column)
            first, held = number + 1, 0


def _folder_of(place: str, root: str | None) -> str:
    if root is None:
        return place.rpartition("/")[0]
    return root.rstrip("/") if has_scheme(root) else whole_address(expanded(root))


def _within(folder: str, named: str) -> str:
    if has_scheme(named):
        return named
    if has_scheme(folder):
        return posixpath.join(folder, named.lstrip("/"))
    return os.fspath(Path(folder) / (locate(Path(folder), named) or named))


def _listed(name: str, place: str) -> Item:
    """A line of a list: an image at a path, or in storage."""
    if not has_scheme(place):
        return Item(name, whole_address(place))
    if "::" not in place and place.partition("://")[0].lower() in STORES:
        return Item(name, place)
    words = "URLs in a list are opened only if they are of storage, such as s3://; name it as an argument"
    return Item(name, str(ImageError("not an image", words)), "error")
