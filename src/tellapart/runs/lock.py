"""One writer per folder: a lock on a run, ladder or search, released by the system when the process ends.

Not the library filelock, because: the lock file is in a folder that may come from a stranger, so it is opened without
following links, like everything there; it names its owner; and on a file system without locks, work continues.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tellapart.errors import RunError
from tellapart.files import from_json, machine, to_json
from tellapart.runs.safe_folder import Inside
from tellapart.runs.versions import command_line

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

LOCK = ".tellapart.lock"
_TAKEN = (BlockingIOError, PermissionError)
_FAR = 1 << 30  # Windows locks byte ranges, which cannot be read meanwhile: one beyond the end of the file
_LONGEST = 4096  # bytes of a signature
_LONGEST_COMMAND = 500  # characters: any of them takes at most six bytes


def take(file: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; returns whether that worked. A file system without locks counts as
    success."""
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        elif sys.platform == "win32":
            import msvcrt

            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    except _TAKEN:
        return False
    except OSError:
        return True
    return True


@contextmanager
def one_writer(folder: Inside, *, beside_others: bool = False) -> Iterator[None]:
    """Hold the lock of an existing folder. beside_others: any number of processes with this flag may write at once, as
    each has files of its own. Raises RunError, which names the owner, if another process holds the lock."""
    path, held = folder.place(LOCK), False
    while not held:
        with folder.opening(path, os.O_RDWR | os.O_CREAT) as (file, handle):
            if not take(file, shared=beside_others):
                raise RunError(f"{folder.path} is being written by {_owner(file)}. Wait until it finishes, or stop it.")
            name = os.fspath(path) if handle is None else path.name
            held = _is_there(file, name, handle)
            if not held:
                continue  # its owner removed it when it ended
            _sign(file, "" if beside_others else to_json(_signature()))
            try:
                yield
            finally:
                # Other processes with a shared lock still hold the file; the last one removes it.
                if not beside_others or take(file):
                    with suppress(OSError):  # Windows cannot remove an open file; leaving it does no harm
                        os.unlink(name, dir_fd=handle)


def _is_there(file: int, name: str, handle: int | None) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(name, dir_fd=handle, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _signature() -> dict[str, Any]:
    command = command_line()
    shown = command if len(command) <= _LONGEST_COMMAND else f"{command[:_LONGEST_COMMAND]} ..."
    return {"process": os.getpid(), "host": socket.gethostname(), "boot": machine(), "command": shown}


def _sign(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, text.encode("utf-8", "surrogateescape")[:_LONGEST])


def _owner(file: int) -> str:
    """The owner in words, as far as it is recorded."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        found = from_json(os.read(file, _LONGEST))
        where = "on this machine" if found["boot"] == machine() else f"on {found['host']}"
        return f"process {found['process']} {where} ({found['command']})"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "another process that writes its report or an export"
