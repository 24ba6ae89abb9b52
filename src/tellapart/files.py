"""Files written whole or not at all, JSON that every reader takes, cells that no spreadsheet computes, text that no
terminal obeys, and where the caches of this user lie."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

# What a spreadsheet takes for a formula, which a file's or a class's name can be. A number is none.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
# Controls but for line breaks and tabs: a terminal obeys them. And the marks that turn the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a neighbour to write; put it in the place of `path` once it is whole and on the disk.

    On an error the neighbour is removed and `path` keeps what it had.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    neighbour = Path(name)
    try:
        yield neighbour
        with neighbour.open("rb+") as file:
            os.fsync(file.fileno())
        neighbour.chmod(0o666 & ~_umask())
        neighbour.replace(path)
    finally:
        neighbour.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all. A file name with bytes that are no UTF-8 keeps them."""
    with replacing(path) as neighbour:
        neighbour.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def read_text(path: Path) -> str:
    """What `write_text` wrote."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def to_json(value: Any, *, indent: int | None = None, ascii: bool = False, sort_keys: bool = False) -> str:
    """JSON as RFC 8259 has it. Raises ValueError for nan and infinity, which Python alone would write and read.

    >>> to_json({"é": 0.5}), to_json("é", ascii=True)
    ('{"é": 0.5}', '"\\\\u00e9"')
    """
    return json.dumps(value, indent=indent, ensure_ascii=ascii, sort_keys=sort_keys, allow_nan=False)


def from_json(text: str | bytes) -> Any:
    """What `to_json` wrote. Raises ValueError for anything else: nan, infinity, numbers larger than a float."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number that JSON has")
    return value


def as_cell(text: str) -> str:
    """A cell of a csv that a spreadsheet does not compute: what begins like a formula gets an apostrophe before it.

    >>> as_cell("=1+1"), as_cell("cat"), as_cell("-1")
    ("'=1+1", 'cat', '-1')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_cell(cell: str) -> str:
    """The text that `as_cell` made a cell of.

    >>> from_cell("'=1+1"), from_cell("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_root() -> Path:
    """Folder of all caches: $TELLAPART_CACHE, else the user's cache folder, else one in the temporary folder, which is
    told. Safe to delete at any time."""
    given = os.environ.get("TELLAPART_CACHE")
    if given:
        return expanded(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if base:
        return Path(base) / "tellapart"
    root = expanded("~/.cache/tellapart")
    there = next((folder for folder in (root, *root.parents) if folder.exists()), root)
    # Containers run as users that have no home, or / for one.
    return root if root.is_absolute() and os.access(there, os.W_OK | os.X_OK) else _temporary_root()


@cache
def _temporary_root() -> Path:
    """A folder of this user's alone, the same for each process; a new one where somebody else was there before."""
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
        f"tellapart: this user has no home folder that can be written, so caches lie in {root}. "
        "TELLAPART_CACHE names another folder.",
        file=sys.stderr,
    )
    return root


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with a home in the place of ~; as it is where nobody has that home, where Path.expanduser raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def harmless(text: str) -> str:
    """`printable` text for people, in which names of files and classes cannot steer the terminal: controls are escaped.

    >>> harmless("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))


def printable(text: str) -> str:
    """A path whose bytes are no UTF-8 is shown with them escaped, as no output encoding can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
