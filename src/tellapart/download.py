"""Downloads of one file from a web server: resumed after an interruption, verified, complete or not there.

In: a URL and, if known, the size and checksum of the file. Out: the file. A partial download is kept in the cache,
named by its URL, so that a later call, or another process, resumes it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from tellapart.errors import FetchError
from tellapart.files import cache_root, from_json, replacing, to_json, write_text
from tellapart.progress import SILENT, Phase, Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT = 30.0
ATTEMPTS = 4  # consecutive ones without a single byte
PAUSE = 0.25  # seconds before the second attempt; doubled for each further one
CHUNK = 1 << 18
_PASSING = (408, 425, 429)  # status codes that may be temporary, like those from 500 on


def download(url: str, path: Path, *, checksum: str = "", size: int = 0, progress: Progress = SILENT) -> None:
    """Download `url` to the file `path`. A broken connection is resumed; so is a call that was killed.

    checksum: 64 hexadecimal digits of a SHA-256, or 32 of an MD5; size: in bytes; only given values are verified.
    Raises FetchError, with `path` unchanged, if the server cannot be reached, refuses, fails permanently, or returns
    another file than expected.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url} is not a web address; expected one that begins with https:// or http://.")
    place = cache_root() / "downloads" / f"{hashlib.blake2b(url.encode(), digest_size=16).hexdigest()}.part"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _opened(place, url) as part:
            _fill(url, part, path, checksum, size, progress)
            _check(url, part, checksum, size)
            _put(part, path)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
        if isinstance(reason, OSError) and reason.strerror:
            reason = reason.strerror + (" (is there a network?)" if isinstance(reason, socket.gaierror) else "")
        kept = " The part downloaded so far is kept; run again to resume." if place.exists() else ""
        raise FetchError(f"{url} could not be downloaded: {reason}.{kept}") from None


def file_checksum(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


class _Part:
    """The downloaded part of a file, and what the server told about it: the file's version and size."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.file = file
        self._notes = path.with_suffix(".json")
        try:
            notes = from_json(self._notes.read_text("utf-8"))
            self.version, self.total = str(notes["version"]), int(notes["total"])
        except (OSError, ValueError, KeyError, TypeError):
            self.version, self.total = "", 0

    @property
    def length(self) -> int:
        return self.file.seek(0, 2)

    def note(self, version: str, total: int) -> None:
        self.version, self.total = version, total
        write_text(self._notes, to_json({"version": version, "total": total}))

    def clear(self) -> None:
        self.file.truncate(0)
        self.forget()

    def forget(self) -> None:
        self.version, self.total = "", 0
        self._notes.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, url: str) -> Iterator[_Part]:
    """The part, locked by this process; removed once it is empty or was moved to its final place."""
    empty = False
    try:
        with path.open("ab") as file:
            _lock(file, path, url)
            part = _Part(path, file)
            try:
                yield part
            finally:
                empty = not path.exists() or not part.length
                if empty:
                    part.forget()
    finally:
        if empty:
            path.unlink(missing_ok=True)


def _lock(file: IO[bytes], path: Path, url: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, another process may have moved this very file to its final place.
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return
    except BlockingIOError:
        pass
    raise FetchError(f"Another process is downloading {url}. Wait for it, then try again.")


def _fill(url: str, part: _Part, path: Path, checksum: str, size: int, progress: Progress) -> None:
    """Send requests until the part is complete."""
    failures, came = 0, False
    while not (part.total and part.length == part.total):
        before = part.length
        try:
            _receive(url, part, path, bool(checksum), size, progress)
            return
        except HTTPError as error:
            error.close()
            if error.code == 416:  # the server has no such range: start again
                part.clear()
            elif error.code < 500 and error.code not in _PASSING:
                raise
            reason: Exception = error
        except (OSError, HTTPException) as error:
            unreachable = isinstance(error, URLError) and not came
            if unreachable or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = error
        grown = part.length > before
        came, failures = came or grown, 0 if grown else failures + 1
        if failures >= ATTEMPTS:
            raise reason
        time.sleep(PAUSE * 2**failures)


def _receive(url: str, part: _Part, path: Path, checked: bool, size: int, progress: Progress) -> None:
    """One request: the whole file, or the rest of it if the server still has the same version."""
    headers = {"User-Agent": "tellapart"}
    # Without a version, the rest may be of another file; then only a checksum can tell.
    if part.length and (part.version or checked):
        headers["Range"] = f"bytes={part.length}-"
        if part.version:
            headers["If-Range"] = part.version
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        start, total = _extent(answer)
        if start != part.length:
            part.clear()
            if start:
                raise OSError(f"the server sent another part than requested, from byte {start:,}")
        _refuse_other(url, answer, path, total, size)
        strong = answer.headers.get("ETag", "")
        version = strong if strong and not strong.startswith("W/") else answer.headers.get("Last-Modified", "")
        part.note(version, total)
        length = part.length
        while chunk := answer.read(CHUNK):
            part.file.write(chunk)
            length += len(chunk)
            _tell(progress, path.name, length, total or size)
        part.file.flush()
    # A broken connection looks like the end of the file.
    if total and length != total:
        short = f"the connection closed after {length:,} of {total:,} bytes"
        if length > total:
            part.clear()
        raise OSError(short)
    part.note(version, length)
    _tell(progress, path.name, length, length, ended=True)


def _extent(answer: HTTPResponse) -> tuple[int, int]:
    """(first byte of the response, size of the whole file or 0 if the server does not tell)."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None:
            raise OSError("the server sent part of the file without telling which part")
        return int(found[1]), 0 if found[2] == "*" else int(found[2])
    return 0, int(answer.headers.get("Content-Length") or 0)


def _refuse_other(url: str, answer: HTTPResponse, path: Path, total: int, size: int) -> None:
    """Stop before downloading if the response is obviously another file."""
    if answer.headers.get("Content-Type", "").startswith("text/html") and path.suffix.lower() not in (".html", ".htm"):
        raise FetchError(
            f"{url} returned a web page, not a file: it is the address of a page, or needs a login. Nothing was kept. "
            "Give the address of the file itself, or download it with a browser and name the file."
        )
    if size and total and total != size:
        raise _another(url, f"{total:,} bytes, not {size:,}")


def _tell(progress: Progress, name: str, length: int, total: int, ended: bool = False) -> None:
    """In megabytes; the stage ends with the file."""
    whole = max(1, round(total / 1e6)) if total else length // 1_000_000 + 2
    done = whole if ended else min(length // 1_000_000, whole - 1)
    progress.update(Phase.FETCHING.named(f"fetching {name}, MB"), done, whole)


def _check(url: str, part: _Part, checksum: str, size: int) -> None:
    length = part.length
    algorithm = "md5" if len(checksum) == 32 else "sha256"
    found = file_checksum(part.path, algorithm) if checksum else ""
    if found == checksum.lower() and (not size or length == size):
        return
    part.clear()
    if size and length != size:
        what = f"{length:,} bytes, not {size:,}"
    else:
        what = f"its {algorithm} is {found}, not {checksum}"
    raise _another(url, what)


def _another(url: str, what: str) -> FetchError:
    return FetchError(f"{url} returned another file than expected: {what}. Nothing was kept.")


def _put(part: _Part, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.path.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV and getattr(error, "winerror", None) is None:
            raise
        # Another disk; or Windows, which cannot rename an open file.
        with replacing(path) as neighbour:
            shutil.copyfile(part.path, neighbour)
        part.clear()
