"""Files written whole or not at all, cells that no spreadsheet computes, text that no terminal obeys, and where the
caches of this user lie."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """Folder of all caches: $TELLAPART_CACHE, else the user's cache folder. Safe to delete at any time."""
    given = os.environ.get("TELLAPART_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "tellapart"


def harmless(text: str) -> str:
    """`printable` text for people, in which names of files and classes cannot steer the terminal: controls are escaped.

    >>> harmless("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))


def printable(text: str) -> str:
    """A path whose bytes are no UTF-8 is shown with them escaped, as no output encoding can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
