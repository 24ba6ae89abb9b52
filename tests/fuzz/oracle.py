"""One input from a stranger -> whether what came of it is allowed: the verdict that every fuzz target shares.

Allowed are an answer and the project's own errors. Not allowed are any other exception, and whatever a reader of files
has no business with: writing outside the folder of the case, starting a process, looking a name up or connecting.
Python tells of these through its audit hooks (PEP 578), so a library in between is seen as well. Time, memory and
crashes of native code are watched from outside, by worker.py.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.target import Target

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Event -> where among its arguments the paths are that it changes, each with where the folder's descriptor is that a
# relative one counts from.
_CHANGING = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.truncate": ((0, -1),),
    "os.utime": ((0, 3),),
}
_FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn",
    "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request",
    "pickle.find_class", "webbrowser.open",
}  # fmt: skip

_CONNECTING = {"socket.connect", "socket.getaddrinfo"}


class _Watch:
    """What the hook of this process is to look at: a hook cannot be taken away again."""

    folder: str | None = None
    """The folder that may be written to; None while nobody watches."""
    connects = False
    """Whether the target itself is a client."""
    seen: list[str]
    hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.folder is None:
        return
    found = event if event in _FORBIDDEN and not (_Watch.connects and event in _CONNECTING) else ""
    if event == "open":
        path, _, flags = arguments
        found = f"writes {path}" if isinstance(flags, int) and flags & _WRITING and _outside(path) else ""
    elif event in _CHANGING:
        for place, beside in _CHANGING[event]:
            below = arguments[beside] if beside >= 0 else -1
            if _outside(arguments[place], below):
                found = f"{event} {arguments[place]}"
    if found:
        _Watch.seen.append(found)
        raise PermissionError(f"the fuzzer's watch refuses: {found}")


def _outside(path: Any, below: int = -1) -> bool:
    """below: the descriptor of the folder that a relative path counts from."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False  # a file descriptor, which was opened under our eyes
    named = os.fsdecode(path)
    # The event of opening tells no descriptor: a relative path counts from the folder of the case, where we stand.
    whole = os.path.realpath(named if below < 0 else f"/proc/self/fd/{below}/{named}")
    inside = f"{whole}{os.sep}".startswith(f"{_Watch.folder}{os.sep}")
    return not (inside or whole == os.devnull or "__pycache__" in whole)


@contextmanager
def watched(folder: Path, *, connects: bool = False) -> Iterator[list[str]]:
    """Gives the list that fills with what is done while the block runs and is not allowed; each is also prevented."""
    if not _Watch.hooked:
        sys.addaudithook(_hook)
        _Watch.hooked = True
    _Watch.seen, _Watch.connects = [], connects
    _Watch.folder = os.path.realpath(folder)
    try:
        with chdir(folder):
            yield _Watch.seen
    finally:
        _Watch.folder = None


def fault(target: Target, data: bytes, folder: Path) -> tuple[str, str]:
    """("", "accepted" or the error that was told), or a fault as (its place, which is the same for every input that
    finds the same fault; what it is, with the traceback)."""
    with watched(folder, connects=target.connects) as seen:
        try:
            target.run(data, folder)
            told = "accepted"
        except target.told() as error:
            told = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - any other is what is looked for
            if not seen:
                frames = traceback.extract_tb(error.__traceback__)
                last = frames[-1]
                place = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
                return place, "".join(traceback.format_exception(error))
            told = ""
    return (seen[0].partition(" ")[0], f"not allowed: {', '.join(seen)}") if seen else ("", told)
