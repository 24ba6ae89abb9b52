"""The data that a user names -> Source: every image with its label and, if given, its split and group.

Takes a folder, an archive, a table, shards, a DataFrame or `builtin:NAME`; the layout is detected, by the one ordered
table SOURCES; `SOURCE:PLACE` selects one row of it. Sources of plug-ins are tried if no other row matches.
Images are listed, never opened, and no file of the user is written, moved or deleted. Decisions made here:

- Images: by the suffixes of data.image_formats, in any case (.JPG). One that cannot be decoded becomes a broken row
  later, not here. Camera raw, drawings and videos are a finding; so is, as a note, every other file that is skipped.
- Skipped: names with a leading dot (so `._x`, .DS_Store), __MACOSX, @eaDir, Thumbs.db and the like.
- Links to files and folders are followed, each real folder is visited once; a broken link is a finding.
- Paths stay as they are on disk, including undecodable bytes; class names are normalised (NFC), so a class written in
  both Unicode forms is one class. `Cats` and `cats` are two.
- A class is the whole path of the folder that directly contains its images. A single folder that contains everything
  is skipped.
- Splits: every top-level folder with images must be named like a split (train, training_set, val, validation, test,
  testing, test1 ...), and one must be for training; `test` beside folders of other names is a class.
- Images of a class that training lacks, images without a label, rows of missing files and contradictory rows are
  left out, each with a finding. One class, or no image, is an error.
- Lists of images by split (train.txt): class folders and tables come first; a number without a name is the label.
- Tables: with one column per class, a row with several 1s, or cells such as a|b, make images with several labels, of
  which one may have none; data.kind overrules that. is_valid and the like give the split, as do numbered folds (the
  first is for testing), folders or names of several tables. Text that is not UTF-8 is read if its letters are certain.
- Labels are strings: 0 and 1.0 (in a column of whole numbers) become '0' and '1', booleans 'true' and 'false'.
- If there are only training images, the split is open. Rows are in natural order of their paths: 2 before 10.
- Labels in file names are the part before the last separator and number; IMG_0012 and 2024-01-05 name no class.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources.archive import unpacked
from tellapart.data.sources.hugging_face import SCHEME, folder_of_dataset, is_dataset, snapshot
from tellapart.data.sources.layouts import SOURCES, UNREAD, layouts
from tellapart.data.sources.listing import Listing, counted, kind_of, list_files, list_folder
from tellapart.data.sources.members import open_row
from tellapart.data.sources.patterns import is_pattern, matches
from tellapart.data.sources.reader import Reader
from tellapart.data.sources.remote import is_remote, local_copy
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.data.sources.table import read_frame
from tellapart.data.sources.table_file import is_frame
from tellapart.data.sources.tar_index import is_shard
from tellapart.data.sources.validate import settled
from tellapart.errors import ConfigError, SourceError, unknown
from tellapart.files import expanded
from tellapart.progress import SILENT, Progress
from tellapart.tables import NAME

__all__ = [
    "SOURCES", "UNREAD", "LabelledPath", "Source", "folder_of", "layouts", "open_row", "read_source", "refuse_unused",
]  # fmt: skip


_BUILTIN = Path(__file__).resolve().parent.parent / "builtin"


def read_source(data: Any, config: DataConfig, known: tuple[str, ...] = (), *, progress: Progress = SILENT) -> Source:
    """Read what was named as data: a path or address, a DataFrame, or a Dataset of Hugging Face. An archive is first
    unpacked into the cache, and what is on a server is copied there, once. known: the classes of the network
    that the images are for; then images of one class are enough, in any split.

    Raises SourceError if it does not exist or has no labelled images of two classes: the message tells what was found
    and shows the supported layouts; ConfigError for an invalid data.label_pattern.
    """
    if is_frame(data):
        return settled(read_frame(data, config), "DataFrame", known)
    if is_dataset(data):
        listing = list_folder(folder_of_dataset(data), type(data).__name__)
        return _read_listing(listing, config, known, SOURCES.find("parquet"))
    if not isinstance(data, (str, os.PathLike)):
        raise SourceError(
            f"Given {type(data).__name__} as data; expected a path, an address, builtin:NAME, a pandas DataFrame or a "
            "Dataset of Hugging Face."
        )
    asked, place = _asked(os.fspath(data))
    place = here(place, progress)
    if is_pattern(place):
        root, files = matches(place)
        return _read_listing(list_files(root, str(data), files), config, known, asked)
    path = _located(place)
    if path.is_dir():
        return _read_listing(list_folder(path, str(data)), config, known, asked)
    kind = kind_of(path.name)
    if asked is not None and kind != "archive":
        return settled(_read_file((asked,), path, config, str(data)), str(data), known)
    if kind == "image":
        raise SourceError(
            f"{data} is a single image. Name the folder, archive or table that holds images of each class."
        )
    if kind == "idx":
        raise SourceError(
            f"{data} is one part of an idx data set. Name the folder that holds its images and labels files."
        )
    readers, broken = _readers_of(path)
    if kind == "archive":
        outcomes = (reader.read_file(path, config) for reader in readers if reader.read_file is not None)
        if source := next((outcome for outcome in outcomes if isinstance(outcome, Source)), None):
            return settled(source, str(data), known)
    else:
        if readers:
            return settled(_read_file(readers, path, config, str(data)), str(data), known)
        if meaning := UNREAD.get(path.suffix.lower()):
            raise SourceError("\n".join((f"{data} is {meaning}", *broken)))
    folder, left_out = unpacked(path)
    source = _read_listing(list_folder(folder, str(data)), config, known, asked)
    findings = source.findings
    if left_out:
        meaning = f"{counted(len(left_out), 'link or device')} in the archive."
        findings = (
            *findings,
            Finding("not-unpacked", "warning", left_out, meaning, "Left out: only files are unpacked."),
        )
    return replace(source, layout=f"{source.layout}; unpacked from {path.name}", findings=findings)


def here(name: str, progress: Progress = SILENT) -> str:
    """A path on this machine: of an address, the copy in the cache; any other name as it is.

    Raises FetchError if an address cannot be read, MissingExtraError without what reads it.
    """
    if name.startswith(SCHEME):
        return str(snapshot(name))
    return str(local_copy(name, progress=progress)) if is_remote(name) else name


def refuse_unused(source: Source, config: DataConfig, data: object) -> None:
    """Raise ConfigError for settings on how labels are found that have no effect on the layout of `data`."""
    names = ("label_pattern", "path_column", "label_column", "root", "crop_boxes", "kind")
    given = (name for name in names if getattr(config, name) not in (None, False))
    unused = [f"data.{name}" for name in given if name not in source.taken]
    if unused:
        of = data if isinstance(data, str | os.PathLike) else f"a {type(data).__name__}"
        raise ConfigError(
            f"{' and '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect on {of}, read as "
            f"{source.layout}. Omit {'it' if len(unused) == 1 else 'them'}, or name the table that lists the "
            "images or the folder whose file names hold the labels."
        )


def folder_of(data: str | os.PathLike[str]) -> Path:
    """The folder that rows of this data are relative to: the folder itself, an unpacked archive, or a table's folder.

    Raises SourceError if there is none.
    """
    place = here(_asked(os.fspath(data))[1])
    if is_pattern(place):
        return matches(place)[0]
    path = _located(place)
    if path.is_dir() or is_shard(path):
        return path if path.is_dir() else path.parent
    return unpacked(path)[0] if kind_of(path.name) == "archive" else path.parent


def _asked(name: str) -> tuple[Reader | None, str]:
    """The row selected by `SOURCE:PLACE`, if any, and the place. Raises SourceError for a source with a similar name,
    PluginError for a broken one."""
    kind, colon, place = name.partition(":")
    if not colon or kind == "builtin" or not NAME.fullmatch(kind) or Path(name).exists():
        return None, name
    if kind not in SOURCES.names() and not difflib.get_close_matches(kind, SOURCES.names(), n=1):
        return None, name
    return SOURCES.find(kind), place


def _readers_of(path: Path) -> tuple[tuple[Reader, ...], tuple[str, ...]]:
    """The rows for files of this suffix, in their order; plug-ins are loaded if no built-in one matches, and broken
    ones are returned too."""
    suffix = ".tfrecord" if kind_of(path.name) == "records" else path.suffix.lower()

    def of(readers: Iterable[Reader]) -> tuple[Reader, ...]:
        return tuple(reader for reader in readers if suffix in reader.suffixes)

    if found := of(SOURCES.values()):
        return found, ()
    readers, broken = SOURCES.load_all()
    return of(readers), tuple(broken.values())


def _read_file(readers: tuple[Reader, ...], path: Path, config: DataConfig, name: str) -> Source:
    """The Source of the first row that reads the file."""
    reasons = []
    for reader in readers:
        if reader.read_file is None:
            raise SourceError(f"{name} is a file, and the source {reader.name} reads folders: {reader.example}")
        outcome = reader.read_file(path, config)
        if isinstance(outcome, Source):
            return outcome
        reasons.append(f"read as {reader.name}: {outcome}")
    raise SourceError(f"{name}, {'; '.join(reasons)}")


def _located(name: str) -> Path:
    """Raises SourceError for a path that does not exist, with similar names beside it, and for a pipe or a device."""
    if name.startswith("builtin:"):
        known = [entry.name for entry in _BUILTIN.iterdir() if entry.is_dir()] if _BUILTIN.is_dir() else []
        wanted = name.removeprefix("builtin:")
        if wanted not in known:
            raise SourceError(unknown("built-in data set", wanted, known))
        return _BUILTIN / wanted
    path = expanded(name)
    if name and path.exists():
        if not (path.is_file() or path.is_dir()):  # reading a pipe would block
            raise SourceError(f"{path} is neither a file nor a folder.")
        return path.absolute()  # so that a run finds its images from any working directory
    near: list[str] = []
    if path.parent.is_dir():
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=2)  # noqa: PTH208 - names only
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise SourceError(
        f"{name!r} does not exist{_looked_in(path)}.{hint} Give a folder, an archive, a table or builtin:NAME."
    )


def _looked_in(path: Path) -> str:
    """Where a relative path was looked for: the usual mistake is the wrong working directory."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def _read_listing(listing: Listing, config: DataConfig, known: tuple[str, ...], asked: Reader | None) -> Source:
    listing, name = replace(listing, known=known), listing.name
    reasons: dict[str, str] = {}

    def understood(readers: Iterable[Reader]) -> Source | None:
        for reader in readers:
            if reader.read is not None and reader.name not in reasons:
                outcome = reader.read(listing, config)
                if isinstance(outcome, Source):
                    return settled(replace(outcome, findings=(*listing.findings, *outcome.findings)), name, known)
                reasons[reader.name] = outcome
        return None

    if asked is not None:
        if found := understood([asked]):
            return found
        said = reasons.get(asked.name, f"it reads files such as {asked.example}")
        raise SourceError(f"{name} cannot be read by the source {asked.name}: {said}")
    if found := understood(SOURCES.values()):
        return found
    if found := understood(SOURCES.load_all()[0]):
        return found
    if not (listing.images or listing.tables or listing.archives or listing.records or listing.others):
        raise SourceError(f"{name} is empty.\n{layouts()}")
    told = "\n".join(f"  {reader:<14} {reason}" for reader, reason in reasons.items())
    raise SourceError(
        f"{name} has no known layout. It holds {listing.describe()}. {listing.advice}".rstrip()
        + f"\n{told}\n{layouts()}"
    )
