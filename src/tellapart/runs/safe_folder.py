"""A possibly untrusted folder -> its files, read, written and removed without following a link.

Every path below a run, a ladder or a search comes from `Inside.place`. Whatever tellapart itself opens, writes or
removes there is opened level by level from the handle of the folder, so that replacing a path by a link in the meantime
has no effect. A library that needs a path gets one that was checked, and writes to a temporary neighbour created here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tellapart.errors import RunError
from tellapart.files import clear_drafts, is_draft, replacing

HANDLES = {os.open, os.mkdir, os.rmdir, os.unlink, os.stat, os.rename} <= os.supports_dir_fd
"""Whether this system can open files relative to a folder's handle; otherwise each level is checked before use."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)


class Inside:
    """The folder `path`. Each method raises RunError if a level below it is a link, or neither a file nor a folder, and
    OSError as the system does."""

    path: Path

    def place(self, *names: str) -> Path:
        """The path with these names, checked folder by folder; it need not exist yet."""
        found = self.path
        for level, name in enumerate(names, start=1):
            if name in ("", os.curdir, os.pardir) or {"/", "\0", os.sep, os.altsep} & {*name}:
                raise RunError(f"{self.path} refers to a file {name!r}: it is damaged or not from tellapart.")
            found = found / name
            try:
                known = found.lstat()
            except OSError:  # it does not exist; any other problem shows when it is used
                continue
            if stat.S_ISLNK(known.st_mode) or getattr(known, "st_reparse_tag", 0) == _JUNCTION:
                raise RunError(
                    f"{found} is a link, so reading, writing or clearing it could affect any file of yours. "
                    "Put the file or folder itself in its place."
                )
            if not stat.S_ISDIR(known.st_mode) and not (stat.S_ISREG(known.st_mode) and level == len(names)):
                raise RunError(f"{found} is neither a regular file nor a folder. Remove it.")
        return found

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Like files.replacing; missing folders are created."""
        with self._parent(path, make=True) as handle, replacing(path, handle) as neighbour:
            yield neighbour

    def write_text(self, path: Path, text: str) -> None:
        """Like files.write_text."""
        with self.replacing(path) as neighbour:
            neighbour.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")

    def read_text(self, path: Path) -> str:
        """What `write_text` wrote."""
        with (
            self._parent(path) as handle,
            os.fdopen(_open(path, os.O_RDONLY, handle), encoding="utf-8", errors="surrogateescape") as file,
        ):
            return file.read()

    @contextmanager
    def opening(self, path: Path, flags: int) -> Iterator[tuple[int, int | None]]:
        """Open the file with the flags of os.open; also gives the handle of its folder, if the system has one."""
        with self._parent(path) as handle:
            file = _open(path, flags, handle)
            try:
                yield file, handle
            finally:
                os.close(file)

    def make_folder(self, path: Path) -> Path:
        """The folder, created if missing."""
        with self._parent(path / "_", make=True):
            return path

    def remove(self, files: Iterable[Path]) -> None:
        """Remove these files, if they exist and are not folders."""
        for path in files:
            with suppress(FileNotFoundError), self._parent(path) as handle:
                if not path.is_dir():
                    os.unlink(_name(path, handle), dir_fd=handle)

    def remove_folder(self, path: Path) -> None:
        """Remove leftovers of killed processes from the folder, and then the folder if it is empty."""
        with suppress(FileNotFoundError), self._parent(path / "_") as handle:
            clear_drafts(path, handle)
        with suppress(OSError), self._parent(path) as handle:
            os.rmdir(_name(path, handle), dir_fd=handle)

    @contextmanager
    def _parent(self, path: Path, *, make: bool = False) -> Iterator[int | None]:
        """The handle of the folder that contains the path; None if the system has none."""
        names = path.relative_to(self.path).parts
        self.place(*names)  # raises an error in words
        if make:
            self.path.mkdir(parents=True, exist_ok=True)
        if not HANDLES:
            if make:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield None
            return
        handle = os.open(self.path, _FOLDER)
        try:
            for name in names[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=handle)
                below = os.open(name, _FOLDER | _NO_LINK, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        except OSError as error:
            if isinstance(error.filename, str) and (error.filename == path.name or is_draft(error.filename)):
                error.filename = os.fspath(path)  # the bare name means nothing to the caller
            raise
        finally:
            os.close(handle)


def _open(path: Path, flags: int, handle: int | None) -> int:
    return os.open(_name(path, handle), flags | _NO_LINK, 0o666, dir_fd=handle)


def _name(path: Path, handle: int | None) -> str:
    """The path relative to the handle."""
    return os.fspath(path) if handle is None else path.name
