"""Files written atomically, strict JSON, csv cells safe for spreadsheets, text safe for terminals, cache folders."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

# What a spreadsheet would take for a formula, such as in the name of a file or class. Numbers are excepted.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
# Control characters except line breaks and tabs, which a terminal would obey, and marks that change the text direction.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Names made by `_draft_name`: the machine and process that a draft belongs to, then a unique part.
_DRAFT = re.compile(r"\.tellapart-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}(-.*)?", re.DOTALL)
_LONGEST = 40  # characters of the final name in the name of a draft
_FORGOTTEN = 24 * 3600  # seconds after which a draft of an unknown process is considered abandoned
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def replacing(path: Path, handle: int | None = None) -> Iterator[Path]:
    """Give a temporary neighbour to write; move it to `path` once it is complete and on disk.

    On an error the neighbour is removed and `path` keeps its content; a link at `path` is replaced, not followed.
    Neighbours that a killed process left in the folder are removed first. handle: of the folder, if already open; it is
    then used even if the folder's path was replaced since.
    """
    if handle is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    clear_drafts(path.parent, handle)
    name = _draft_name(path.name)
    neighbour = path.parent / name
    ours, place = (neighbour, path) if handle is None else (name, path.name)
    # Created exclusively, so that nothing placed there before, such as a link, is written through.
    os.close(os.open(ours, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOT_THROUGH_LINKS, 0o666, dir_fd=handle))
    try:
        yield neighbour
        written = os.open(ours, os.O_RDWR | _NOT_THROUGH_LINKS, dir_fd=handle)
        try:
            os.fsync(written)
        finally:
            os.close(written)
        os.replace(ours, place, src_dir_fd=handle, dst_dir_fd=handle)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(ours, dir_fd=handle)


@contextmanager
def drafting(folder: Path, name: str) -> Iterator[Path]:
    """A new folder inside `folder`, to prepare the content of `name`; its remaining content is removed at the end, and
    so are leftovers of killed processes. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    clear_drafts(folder)
    draft = folder / _draft_name(name)
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def clear_drafts(folder: Path, handle: int | None = None) -> None:
    """Remove what `replacing` and `drafting` of processes that no longer run left in a folder, and nothing else."""
    with suppress(OSError), os.scandir(folder if handle is None else handle) as entries:
        for entry in entries:
            with suppress(OSError):
                if is_draft(entry.name) and _abandoned(entry):
                    _remove(entry, handle)


def is_draft(name: str) -> bool:
    """Whether this is a name that tellapart gives to unfinished files."""
    return _DRAFT.fullmatch(name) is not None


def _draft_name(name: str) -> str:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name alone; libraries go by its suffix
    return f".tellapart-{machine()}-{os.getpid()}-{os.urandom(4).hex()}-{stem[:_LONGEST]}{suffix}"


def _abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether its process ended: asked from the system if it is on this machine, else by its age."""
    found = _DRAFT.fullmatch(entry.name)
    assert found is not None
    if os.name == "posix" and found[1] == machine():
        try:
            os.kill(int(found[2]), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FORGOTTEN


def _remove(entry: os.DirEntry[str], handle: int | None) -> None:
    name = entry.path if handle is None else entry.name
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(name, dir_fd=handle)
    else:
        os.unlink(name, dir_fd=handle)


@cache
def machine() -> str:
    """8 hexadecimal digits that identify this system since its start; different in each container."""
    import socket

    parts = [socket.gethostname()]
    with suppress(OSError):  # not Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically. A file name with bytes that are not UTF-8 keeps them."""
    with replacing(path) as neighbour:
        neighbour.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def read_text(path: Path) -> str:
    """What `write_text` wrote."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def to_json(value: Any, *, indent: int | None = None, ascii: bool = False, sort_keys: bool = False) -> str:
    """JSON as in RFC 8259. Raises ValueError for nan and infinity, which Python would accept.

    >>> to_json({"é": 0.5}), to_json("é", ascii=True)
    ('{"é": 0.5}', '"\\\\u00e9"')
    """
    return json.dumps(value, indent=indent, ensure_ascii=ascii, sort_keys=sort_keys, allow_nan=False)


def from_json(text: str | bytes | bytearray) -> Any:
    """What `to_json` wrote. Raises ValueError for anything else: nan, infinity, numbers larger than a float."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a JSON number")
    return value


def as_cell(text: str) -> str:
    """A csv cell that no spreadsheet evaluates: text that begins like a formula gets a leading apostrophe.

    >>> as_cell("=1+1"), as_cell("cat"), as_cell("-1")
    ("'=1+1", 'cat', '-1')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows with each value `as_cell`. path: such as `replacing` gives."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([as_cell(str(value)) for value in row] for row in rows)


def from_cell(cell: str) -> str:
    """The inverse of `as_cell`.

    >>> from_cell("'=1+1"), from_cell("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def cache_root() -> Path:
    """Folder of all caches: $TELLAPART_CACHE, else the user's cache folder, else one in the temporary folder, with a
    message. Safe to delete at any time."""
    given = os.environ.get("TELLAPART_CACHE")
    if given:
        return expanded(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if base:
        return Path(base) / "tellapart"
    root = expanded("~/.cache/tellapart")
    there = next((folder for folder in (root, *root.parents) if folder.exists()), root)
    # Containers may run as a user without a home folder, or with / as home.
    return root if root.is_absolute() and os.access(there, os.W_OK | os.X_OK) else _temporary_root()


@cache
def _temporary_root() -> Path:
    """A folder owned by this user, the same for each process; a new one if another user created it before."""
    root = Path(tempfile.gettempdir()) / f"tellapart-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        found = root.lstat()
        mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    except OSError:
        mine = False
    if not mine or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        root = Path(tempfile.mkdtemp(prefix="tellapart-"))
    print(
        f"tellapart: this user has no home folder that can be written, so caches are kept in {root}. "
        "Set TELLAPART_CACHE to choose another folder.",
        file=sys.stderr,
    )
    return root


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ~ expanded; unchanged if there is no home folder, for which Path.expanduser raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def terminal_safe(text: str) -> str:
    """`printable` text for people, in which names of files and classes cannot control the terminal: control characters
    are escaped.

    >>> terminal_safe("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))


def printable(text: str) -> str:
    """A path with bytes that are not UTF-8 escaped, as no output encoding can represent them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
