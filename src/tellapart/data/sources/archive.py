"""A zip or tar archive, nested archives included -> a cache folder with its images, tables and idx files.

The archive is not trusted: it is refused if a member would be written outside the folder; links and devices are
skipped; the number of members, bytes actually written and depth are limited. The folder appears complete or not at all
and is named by the archive's path, size and modification time, so that a changed archive is unpacked again.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from tellapart.data.sources.listing import ARCHIVE_SUFFIXES, ignored, kind_of
from tellapart.errors import SourceError
from tellapart.files import cache_root, from_json, to_json

MAX_MEMBERS = 2_000_000
MAX_BYTES = 50_000_000_000
MAX_DEPTH = 2
MAX_RATIO = 200  # bytes written per byte of the archive: images hardly compress, idx files and drawings tenfold
SMALL = 1_000_000_000  # bytes that may be written whatever the ratio
_MAX_HEADER = 1 << 20  # bytes of a tar's extended header, which tarfile reads into memory at once
STALE_SECONDS = 600.0  # an unfinished folder without writes for so long belongs to no running process
_CHUNK = 1 << 20
_CHUNK_AT_ONCE = 1 << 12  # of a zip's LZMA members, which zipfile unpacks without limiting the output
_TAR_PADDING = 1 << 24  # far more padding than any program writes at the end of a tar
_LEFT_OUT = ".left-out.json"
_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
# RecursionError: tarfile reads consecutive headers recursively.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: Literal["file", "folder", "other"]
    open: Callable[[], IO[bytes]]
    chunk: int = _CHUNK


def unpacked(archive: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder with the archive's content, and the links and devices that were skipped. Unpacked once.

    Raises SourceError for a file that is not an archive, or is damaged, password-protected, hostile or too large.
    """
    try:
        whole = archive.resolve()
        status = whole.stat()
    except OSError as error:
        raise SourceError(f"{archive} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{archive} is neither a file nor a folder.")
    state = f"{whole}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
    target = cache_root() / "archives" / hashlib.blake2b(state, digest_size=16).hexdigest()
    if not (target / _LEFT_OUT).is_file():
        unpack(whole, target)
    return target, tuple(from_json((target / _LEFT_OUT).read_text("utf-8")))


def unpack(
    archive: Path,
    target: Path,
    *,
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Unpack into a temporary neighbour of target and rename it: target is complete or does not exist. Other processes
    may do the same.

    max_members counts every member, max_bytes what is written; both include nested archives. Beyond SMALL, at most
    MAX_RATIO times the archive's size is written. Raises SourceError.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(target.parent)
        neighbour = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    except OSError as error:
        raise SourceError(
            f"Cannot write into {target.parent}: {error.strerror}. Set $TELLAPART_CACHE to another folder."
        ) from None
    try:
        allowed = min(max_bytes, max(SMALL, MAX_RATIO * archive.stat().st_size))
        work = _Unpacking(neighbour, str(archive), max_members, allowed, MAX_DEPTH)
        work.into(archive, neighbour, str(archive), depth=1)
        (neighbour / _LEFT_OUT).write_text(to_json(work.left_out, ascii=True), encoding="utf-8")
        _put(neighbour, target)
    except OSError as error:
        raise SourceError(f"Cannot unpack {archive} into {target.parent}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(neighbour, ignore_errors=True)


def _put(neighbour: Path, target: Path) -> None:
    """What another process has put there stays; what was partly deleted, without the list that is written last, is
    moved away."""
    try:
        neighbour.rename(target)
    except OSError:
        if (target / _LEFT_OUT).is_file():
            return
        if not target.is_dir():
            raise
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent, ignore_cleanup_errors=True) as aside:
            target.rename(Path(aside, "partly deleted"))
            neighbour.rename(target)


def _remove_unfinished(folder: Path) -> None:
    """Remove leftovers of killed processes; a running one updates its folder's time as it writes."""
    for left in folder.glob(".unfinished-*"):
        try:
            stale = time.time() - left.stat().st_mtime > STALE_SECONDS
        except FileNotFoundError:  # its process has just finished
            continue
        if stale:
            shutil.rmtree(left, ignore_errors=True)


class _Unpacking:
    """One archive with its nested ones, sharing the limits."""

    def __init__(self, folder: Path, archive: str, max_members: int, max_bytes: int, max_depth: int) -> None:
        self.left_out: list[str] = []
        self._folder = folder
        self._archive = archive
        self._limits = max_members, max_bytes, max_depth
        self._members = 0
        self._bytes = 0
        self._touched = time.monotonic()

    def into(self, archive: Path, folder: Path, name: str, depth: int) -> None:
        """Unpack one archive; name: for messages."""
        nested: list[tuple[Path, str]] = []
        passed: list[Path] = []
        try:
            for member in _members_of(archive, name):
                self._count_member()
                parts = safe_parts(member.name, name)
                if not parts or any(ignored(part) for part in parts):
                    continue
                place = folder.joinpath(*parts)
                if member.kind == "folder":
                    place.mkdir(parents=True, exist_ok=True)
                elif member.kind == "other":
                    self.left_out.append(member.name)
                elif kind := kind_of(parts[-1]):
                    self._write(member, place)
                    if kind == "archive":
                        nested.append((place, f"{member.name} inside {name}"))
                else:
                    passed.append(place)
            for place in passed:  # reported by name as in a folder, but without blocking a member's path
                with suppress(FileExistsError, NotADirectoryError):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.touch(exist_ok=False)
        except DAMAGED as error:
            raise SourceError(_why_not(archive, name, str(error).partition("\n")[0].rstrip(":."))) from None
        except NotImplementedError as error:
            raise SourceError(
                f"{name} uses an unsupported compression: {error}. Pack it as an ordinary zip or tar."
            ) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise SourceError(f"{name} is damaged: {error}.") from None  # a broken compressed stream
        for place, inner in nested:
            if depth == self._limits[2]:
                raise SourceError(
                    f"{inner} is nested in more than {depth} archives, the deepest supported. Unpack it yourself."
                )
            self.into(place, _free_folder(place), inner, depth + 1)
            place.unlink()

    def _count_member(self) -> None:
        self._members += 1
        if self._members > self._limits[0]:
            raise SourceError(
                f"{self._archive} has more than {self._limits[0]:,} members. Unpack it yourself and name the folder."
            )

    def _write(self, member: _Member, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, place.open("wb") as file:
            while chunk := source.read(member.chunk):
                self._bytes += len(chunk)
                if self._bytes > self._limits[1]:
                    raise SourceError(
                        f"{self._archive} unpacks to more than {self._limits[1]:,} bytes. "
                        "If you expect that, unpack it yourself and name the folder."
                    )
                file.write(chunk)
                if time.monotonic() - self._touched > STALE_SECONDS / 20:
                    os.utime(self._folder)
                    self._touched = time.monotonic()


_OTHER_ARCHIVES = {b"Rar!\x1a\x07": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"\x28\xb5\x2f\xfd": "Zstandard"}


def _why_not(archive: Path, name: str, detail: str) -> str:
    """What to do about a file that cannot be unpacked, by its first bytes, as its name may be wrong."""
    with archive.open("rb") as file:
        start = file.read(8)
    if not start:
        return f"{name} is empty. Copy or download it again."
    for mark, kind in _OTHER_ARCHIVES.items():
        if start.startswith(mark):
            return f"{name} is a {kind} archive, which is not supported. Unpack it yourself and name the folder."
    if start.startswith(_ZIP):
        return f"{name} is damaged, perhaps an incomplete download: {detail}. Copy or download it again."
    return (
        f"{name} is damaged, or neither a zip nor a tar archive: {detail}. "
        "Images are read from a folder, a zip, a tar or a table."
    )


def safe_parts(name: str, archive: str) -> tuple[str, ...]:
    """The parts of a member's name, with backslashes as slashes. Raises SourceError if it would lead outside."""
    slashed = name.replace("\\", "/")
    parts = tuple(part for part in slashed.split("/") if part not in ("", "."))
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
        raise SourceError(
            f"{archive} is refused: its member {name!r} would be written outside the folder it is unpacked into."
        )
    return parts


def _free_folder(archive: Path) -> Path:
    """train.zip -> train, or train.zip.unpacked if a file or folder of that name exists."""
    suffix = max((s for s in ARCHIVE_SUFFIXES if archive.name.lower().endswith(s)), key=len)
    folder = archive.with_name(archive.name[: -len(suffix)] or archive.name)
    return archive.with_name(f"{archive.name}.unpacked") if folder.exists() else folder


def _members_of(archive: Path, name: str) -> Iterator[_Member]:
    with archive.open("rb") as file:
        start = file.read(4)
    # By its first bytes: a tar that ends with a zip would also be recognised as a zip.
    return _zip_members(archive, name) if start in _ZIP else _tar_members(archive)


def _zip_members(archive: Path, name: str) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            # Not info.is_dir(), which fails for a member without a name.
            kind: Literal["file", "folder", "other"] = "folder" if info.filename.endswith("/") else "file"
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "other"
            at_once = info.compress_type == zipfile.ZIP_LZMA
            yield _Member(
                _zip_name(info), kind, partial(_open_zipped, bundle, info, name), _CHUNK_AT_ONCE if at_once else _CHUNK
            )


def _open_zipped(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> IO[bytes]:
    if info.flag_bits & 1:
        raise SourceError(f"{name} is password-protected. Unpack it yourself and name the folder.")
    return _bzip2(bundle, info) if info.compress_type == zipfile.ZIP_BZIP2 else bundle.open(info)


def _bzip2(bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A bzip2 member, decompressed while reading: zipfile decompresses 4 KiB of input at once, which may give
    gigabytes. The format has its own checksums."""
    packed = copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC
    return bz2.open(bundle.open(packed))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Names are UTF-8 or, according to the format, cp437; some programs write UTF-8 without declaring it."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return info.filename


class BoundedHeader(tarfile.TarInfo):
    """A member whose extended header (names, PAX records) fits into memory, which the compressed size does not tell.

    Raises ValueError: a TarError would make tarfile.open try another compression.
    """

    def _proc_member(self, bundle: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:  # its list of holes is unlimited
            raise ValueError(f"{self.name!r} is packed as a sparse file; pack it again without --sparse")
        longer = self.type in (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if longer and self.size > _MAX_HEADER:
            raise ValueError(f"a header of {self.size:,} bytes; at most {_MAX_HEADER:,} are read")
        found: tarfile.TarInfo = super()._proc_member(bundle)  # type: ignore[misc]
        return found


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, tarinfo=BoundedHeader) as bundle:
        for info in bundle:
            kind: Literal["file", "folder", "other"] = "file" if info.isreg() else "folder" if info.isdir() else "other"
            yield _Member(info.name, kind, partial(_open_in_tar, bundle, info))
        # tarfile treats a damaged header as the end, and does not verify the checksum of a compressed stream.
        rest = b""
        if bundle.fileobj is not None:
            bundle.fileobj.seek(bundle.offset)
            rest = bundle.fileobj.read(_TAR_PADDING)
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"the data after byte {bundle.offset} are not a member")


def _open_in_tar(bundle: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = bundle.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"member {info.name!r} has no content")
    return content
