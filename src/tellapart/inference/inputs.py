"""What a user names as input -> images: files, folders, archives, tables, URLs, standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tellapart.data.address import Address, has_scheme, is_address
from tellapart.data.findings import Finding
from tellapart.data.image_formats import PREFIX, format_of
from tellapart.data.pixels import Source
from tellapart.data.sources import UNREAD, here
from tellapart.data.sources.archive import unpacked
from tellapart.data.sources.columns import USUAL, plain_name
from tellapart.data.sources.hugging_face import SCHEME
from tellapart.data.sources.image_paths import locate
from tellapart.data.sources.listing import kind_of, list_folder
from tellapart.data.sources.members import Member, holds_members, member_there, members_of
from tellapart.data.sources.patterns import braces_expanded, is_pattern
from tellapart.data.sources.remote import is_remote
from tellapart.data.sources.table_file import load_table
from tellapart.errors import ConfigError, ImageError, SourceError, unknown
from tellapart.files import expanded

Held = Source | Address | Member | ImageError
"""An image, its location, or why there is none."""

Read = TypeVar("Read")


def read_held(image: Held, max_bytes: int, read: Callable[[Source], Read]) -> Read | ImageError:
    """What `read` gives of an image, such as its pixels, or why it has none. max_bytes: of an image elsewhere."""
    try:
        if isinstance(image, ImageError):
            return image
        return read(image.read(max_bytes) if isinstance(image, Address | Member) else image)
    except ImageError as error:
        # A new one: the frames of one that was raised hold the image, in a cycle with whoever keeps it.
        return ImageError(error.reason, error.detail)
    except (OSError, SourceError) as error:  # SourceError: a damaged container
        return ImageError("unreadable", getattr(error, "strerror", None) or str(error))


def find_images(
    names: Iterable[str | os.PathLike[str]],
    stdin: TextIO | None = None,
    *,
    path_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    told: Callable[[Finding], object] = lambda _: None,
) -> Iterator[tuple[str, Held]]:
    """(name to show, image) for each image, in order, found lazily.

    A folder or archive gives all images inside, sorted; a table (csv, tsv, parquet) those named in its path column; a
    shard (parquet with images inside, WebDataset, TFRecord) its members, and a folder without image files those of its
    shards; a pattern such as `new/*.jpg` or `shard-{00..07}.tar` its matches; a web URL the image there, and a folder,
    table or shard on a server (s3://, gs://, az://, https://, hf://) the same as here; `-` the paths on `stdin`, one
    per line. A named file is always taken, whatever its suffix: if it is not an image, its prediction has an error.
    URLs in a table or on `stdin` are not opened, as their author may not be the person who runs this.

    path_column, root: for a table: the column, if it has no usual name, and the folder that its paths are relative to
    (default: the table's). told: receives a finding for files of a folder that are skipped. Raises SourceError for a
    folder or pattern without images, or a table without such a column.
    """
    for given in names:
        name = os.fspath(given)
        path = Path(name)
        if name == "-" and stdin is not None:
            lines = (line.rstrip("\r\n") for line in stdin)
            yield from ((line, _listed(line, Path(line), "on standard input")) for line in lines if line)
        elif path.is_dir():
            yield from _inside(path, name, told)
        elif path.is_file():
            kind = kind_of(path.name)
            if kind in ("archive", "table", "records") and holds_members(path):
                yield from _members(path, name, path_column)
            elif kind == "archive":
                yield from _inside(unpacked(path)[0], name, told)
            elif kind == "table":
                yield from _in_table(path, path_column, root)
            else:
                yield name, _named(path)
        elif name.startswith(SCHEME) or (is_remote(name) and not (is_address(name) and _one_image(name))):
            yield from find_images([here(name)], told=told, path_column=path_column, root=root)
        elif is_address(name):
            yield name, Address(name)
        elif has_scheme(name):
            raise SourceError(
                f"{name} is not a supported kind of URL; supported are https://, http://, s3://, gs://, az:// and "
                "hf://. Give a local file by its path."
            )
        elif is_pattern(name):
            matches = [match for each in braces_expanded(name) for match in _matching(each)]
            if not matches:
                raise SourceError(f"Nothing matches {name!r}.")
            yield from find_images(matches, told=told, path_column=path_column, root=root)
        else:
            yield name, _at(path)


def require_table(names: Iterable[Any], path_column: str | None, root: str | os.PathLike[str] | None) -> None:
    """Raises ConfigError if options for a table are given without a table."""
    named = (os.fspath(name) for name in names if isinstance(name, str | os.PathLike))
    if (path_column, root) != (None, None) and not any(kind_of(Path(name).name) == "table" for name in named):
        raise ConfigError(
            "--path-column and --root (in Python path_column and root) apply to a table of paths, but no table is "
            "named. Omit them, or name the table (.csv, .tsv or .parquet)."
        )


def _one_image(address: str) -> bool:
    """Whether the address of a web server is that of one image, and not of a folder, a pattern, a table or a shard."""
    name = address.partition("?")[0].rpartition("/")[2]
    return name != "" and kind_of(name) in ("image", "") and braces_expanded(address) == [address]


def _matching(pattern: str) -> list[str]:
    # The pattern may be absolute; a name from braces alone is taken, so that a missing file has an error.
    return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 - it may be absolute


def _members(path: Path, name: str, column: str | None = None) -> Iterator[tuple[str, Member]]:
    return ((f"{name}#{member.member}", member) for member in members_of(path, column))


def _inside(folder: Path, name: str, told: Callable[[Finding], object]) -> Iterator[tuple[str, Path | Member]]:
    listing = list_folder(folder, name)
    named = (*listing.tables, *listing.archives, *listing.records) if not listing.images else ()
    if shards := [path for path in named if holds_members(folder / path)]:
        for shard in shards:
            yield from _members(folder / shard, f"{name.rstrip(os.sep)}{os.sep}{shard}")
        return
    if not listing.images:
        raise SourceError(f"{name} holds no image (.jpg, .png ...). {listing.advice}".rstrip())
    for finding in listing.findings:
        told(finding)
    for relative in listing.images:
        yield f"{name.rstrip(os.sep)}{os.sep}{relative}", folder / relative


def _named(path: Path) -> Path | ImageError:
    """The path; or, if its suffix is that of another known file type and it is not an image, an error with advice."""
    words = UNREAD.get(path.suffix.lower())
    if words is None:
        return path
    with suppress(OSError), path.open("rb") as file:
        if format_of(file.read(PREFIX)) is None:
            return ImageError("not an image", f"it is {words.rstrip('.')}")
    return path


def _in_table(path: Path, column: str | None, root: str | os.PathLike[str] | None) -> Iterator[tuple[str, Held]]:
    """The images named in the rows of a table, in order."""
    table = load_table(path)
    folder = table.folder if root is None else expanded(root)
    if not folder.is_dir():
        raise ConfigError(f"--root is {root}, which is not a folder.")
    if table.uneven:
        raise SourceError(f"{table.uneven[0]} has more cells than the header; a cell may hold the delimiter.")
    chosen = column_of(list(table.columns), column, str(path))
    for number, cell in enumerate(table.columns[chosen], start=1):
        if not isinstance(cell, str) or not cell.strip():
            yield f"row {number} of {path.name}", ImageError("not an image", "the row names no image")
        else:
            named = cell.strip()
            yield named, _listed(named, folder / (locate(folder, named) or named), "in a table")


def _at(path: Path) -> Path | Member:
    """The member of a container if the path names one, such as train.parquet#17."""
    return (member_there(path.parent, path.name) if "#" in path.name else None) or path


def _listed(name: str, path: Path, where: str) -> Held:
    """The path, or an error for a URL: the list may be written by someone else."""
    if not has_scheme(name) or path.exists():
        return _at(path)
    advice = "give it as an argument (xargs), or to tellapart.predict in Python"
    return ImageError("not an image", f"URLs {where} are not opened; {advice}")


def column_of(names: list[str], asked: str | None, table: str) -> str:
    """The column with image paths: the requested one, else the first with a usual name.

    Raises SourceError if there is none.
    """
    plain = {plain_name(name): name for name in reversed(names)}
    wanted = USUAL["path"] if asked is None else (plain_name(asked),)
    found = next((plain[name] for name in wanted if name in plain), None)
    if asked in names:
        return str(asked)
    if found is not None:
        return found
    if asked is not None:
        raise SourceError(f"{table}: {unknown('column', asked, names)}")
    raise SourceError(
        f"{table} has the columns {', '.join(map(repr, names)) or 'none'}; none has a usual name for image paths "
        f"({', '.join(USUAL['path'][:5])} ...). Name it: --path-column NAME, in Python path_column=NAME."
    )
