"""Image names in a table -> paths of existing files.

First relative to a folder; if none is found there, anywhere below it: for tables that name `0a1b` for train/0a1b.jpg.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tellapart.data.sources.listing import counted, ignored, kind_of, leads_to_folder
from tellapart.data.sources.members import member_there
from tellapart.data.sources.table_file import undecoded
from tellapart.errors import SourceError, some

# Tried in this order for a name without a suffix, as in tables of ids.
_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG", ".webp", ".tif", ".tiff", ".bmp", ".gif")
MAX_DEPTH = 3
MAX_ENTRIES = 2_000_000
"""Limit of files and folders visited below a table's folder, which may be someone's home folder."""


def located(root: Path, names: Sequence[str], table: str) -> tuple[list[str], str]:
    """The path of each name relative to root with forward slashes (absolute if elsewhere), "" if it does not exist; and
    where they are in words, empty if where the table says.

    Raises SourceError if files of the same names are in several folders below.
    """
    paths = [locate(root, name) for name in names]
    if any(paths):
        return paths, ""
    below, folders = _below(root, {name for name in names if name}, table)
    if 2 * len(below) < len(set(names)):  # a few are there by chance
        return paths, ""
    return [below.get(name, "") for name in names], f"found in {some(sorted(folders), 3)}"


def locate(root: Path, named: str) -> str:
    """Path of an existing file relative to root with forward slashes (absolute if elsewhere), "" if there is none.

    A member of a container, as a catalog of shards names it, is there if its container is. Besides the name itself, it
    tries backslashes as slashes, the other Unicode forms, and a suffix for a name without one.
    """
    if not named:
        return ""
    if "#" in named and (member := member_there(root, named)) is not None:
        return f"{relative(os.path.normpath(member.file), root)}#{member.member}"
    place = f"{root}/"
    suffixes = ("",) if kind_of(named) == "image" else ("", *_SUFFIXES)
    for name in dict.fromkeys((named, *_forms(named))):
        for suffix in suffixes:
            whole = os.path.normpath(name + suffix if os.path.isabs(name) else place + name + suffix)  # noqa: PTH117 - speed
            if os.path.isfile(whole):  # noqa: PTH113 - a Path for each of many rows costs more than the look
                return relative(whole, root)
    return ""


def _forms(named: str) -> Iterator[str]:
    """Other forms that a file of that name may have on disk."""
    slashed = named.replace("\\", "/")
    read = [slashed]
    if undecoded([slashed]):
        read.append(slashed.encode("utf-8", "surrogateescape").decode("cp1252", "replace"))
    for text in read:
        yield text
        for form in ("NFC", "NFD"):
            yield unicodedata.normalize(form, text)


def relative(whole: str, root: Path) -> str:
    """A normalized path relative to root with forward slashes; unchanged if it is elsewhere."""
    inside = os.path.normpath(root) + os.sep
    path = whole[len(inside) :] if whole.startswith(inside) else whole
    return path.replace(os.sep, "/")


def _below(root: Path, names: set[str], table: str) -> tuple[dict[str, str], set[str]]:
    """Name -> path of the image found below root, and the folders of these images."""
    whole: dict[str, list[str]] = defaultdict(list)
    stems: dict[str, list[str]] = defaultdict(list)
    for name in names:
        leaf = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
        if leaf and not os.path.isabs(name):  # noqa: PTH117 - speed
            (whole if kind_of(leaf) == "image" else stems)[leaf].append(name)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for folder, file in _files_below(root, table):
        leaf = unicodedata.normalize("NFC", file)
        for name in (*whole.get(leaf, ()), *stems.get(leaf.rpartition(".")[0], ())):
            inner = name.replace("\\", "/").rpartition("/")[0]
            if not inner or folder == inner or folder.endswith(f"/{inner}"):
                at, path = folder.removesuffix(inner).rstrip("/"), f"{folder}/{file}"
                found[name][at] = min(found[name].get(at, path), path, key=_by_suffix)
    if not found:
        return {}, set()
    folders = {at for places in found.values() for at in places}
    if any(len(places) > 1 for places in found.values()):
        holds_all = [at for at in sorted(folders) if all(at in places for places in found.values())]
        if len(holds_all) != 1:
            name, places = next((name, places) for name, places in sorted(found.items()) if len(places) > 1)
            raise SourceError(
                f"{table}: {name!r} matches images in {counted(len(places), 'folder')} below {root}: "
                f"{some(sorted(places), 5)}. Choose one with --root FOLDER (root in Python), or write the "
                "folder into the table, such as "
                f"{next(iter(sorted(places.values())))!r}."
            )
        folders = set(holds_all)
    return {name: next(path for at, path in places.items() if at in folders) for name, places in found.items()}, folders


def _by_suffix(path: str) -> tuple[int, str]:
    suffix = f".{path.rpartition('.')[2]}"
    return (_SUFFIXES.index(suffix) if suffix in _SUFFIXES else len(_SUFFIXES), path)


def _files_below(root: Path, table: str) -> Iterator[tuple[str, str]]:
    """(folder, file name) of each image in subfolders of the root; each real folder once.

    Raises SourceError if there are too many.
    """
    pending = [("", 0)]
    seen: set[tuple[int, int]] = set()
    looked = 0
    while pending:
        folder, depth = pending.pop()
        for entry in _entries(f"{root}/{folder}", seen):
            looked += 1
            if looked > MAX_ENTRIES:
                raise SourceError(
                    f"{table}: none of its images is in {root}, and there are more than {MAX_ENTRIES:,} files below "
                    "it. Tell where they are with --root FOLDER (root in Python)."
                )
            if ignored(entry.name):
                continue
            inner = f"{folder}/{entry.name}".lstrip("/")
            if folder and kind_of(entry.name) == "image":
                yield folder, entry.name
            elif depth < MAX_DEPTH and leads_to_folder(entry):
                pending.append((inner, depth + 1))


def _entries(place: str, seen: set[tuple[int, int]]) -> Iterable[os.DirEntry[str]]:
    """The entries of a folder; none if it was visited before or cannot be listed."""
    try:
        status = os.stat(place)  # noqa: PTH116 - a Path for each folder costs more than the look
        if (status.st_dev, status.st_ino) in seen:
            return ()
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except OSError:
        return ()
