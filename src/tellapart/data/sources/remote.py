"""A place on a server (s3://, gs://, az://, https://) -> the same files in the cache, listed and read in parallel.

fsspec and the library of the scheme do the transport, with the credentials that they find. A file is kept under its
address and the version that the server told (ETag, or size and time): an unchanged file is not transferred again, an
interrupted one continues, and each appears complete or not at all.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.data.sources.archive import safe_parts
from tellapart.data.sources.listing import counted, ignored, kind_of
from tellapart.data.sources.patterns import braces_expanded
from tellapart.errors import FetchError, SourceError, require_extra
from tellapart.files import cache_root, replacing
from tellapart.progress import SILENT, Phase, Progress

PROTOCOLS = {
    "s3": ("s3fs", "remote"), "http": ("aiohttp", "remote"), "https": ("aiohttp", "remote"), "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"), "az": ("adlfs", "az"), "abfs": ("adlfs", "az"),
}  # fmt: skip
"""Scheme -> the module that serves it, and the extra that has it."""
MAX_FILES = 2_000_000
TRANSFERS = 16
"""At once: on a network, waiting takes longer than computing."""
_WHOLE = 1 << 20
"""Bytes up to which a file is asked for at once."""
_CHUNK = 4 << 20
_SUFFIXES = (".txt", ".json", ".yaml", ".yml")
"""Of files beside images that some layouts read."""


def is_remote(name: str) -> bool:
    """Whether a name is an address that this module reads.

    >>> is_remote("s3://bucket/photos"), is_remote("photos"), is_remote("ftp://host/photos")
    (True, False, False)
    """
    scheme, mark, _ = name.partition("://")
    return bool(mark) and scheme.lower() in PROTOCOLS


@dataclass(frozen=True)
class _File:
    """path: at the server. place: of the local copy. stamp: changes with the content."""

    path: str
    place: Path
    size: int | None
    stamp: str


def local_copy(address: str, *, progress: Progress = SILENT) -> Path:
    """The file, or the folder with the files, of an address or of a pattern of addresses.

    Of a folder, images, tables, shards, archives and their class names are transferred. Raises FetchError for an
    address that cannot be read, with what the server or the library says; MissingExtraError without the library;
    SourceError for a name that would lead outside the folder.
    """
    scheme = address.partition("://")[0].lower()
    module, extra = PROTOCOLS[scheme]
    require_extra(f"Reading {scheme}:// addresses", extra, "fsspec", module)
    from fsspec.core import url_to_fs

    try:
        names = braces_expanded(address)
        system, path = url_to_fs(names[0])
        system.invalidate_cache()
        found, base = _listed(system, [url_to_fs(name)[1] for name in names])
        asked = "\0".join(name.rstrip("/") for name in names)
        key = hashlib.blake2b(asked.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        root = cache_root() / "remote" / key
        files = [_file(root, base, path, info) for path, info in found.items()]
        _remove_others(root, files)
        _transfer(system, files, progress)
    except (FetchError, SourceError):
        raise
    except FileNotFoundError as error:
        raise FetchError(f"{address} does not exist: {error}.") from None
    except Exception as error:  # noqa: BLE001 - each library raises its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FetchError(
            f"{address} cannot be read: {type(error).__name__}, {reason}\nCredentials are those that {module} "
            "finds, such as its environment variables. Run the command again to continue; what was transferred is kept."
        ) from None
    if len(files) == 1 and len(names) == 1 and files[0].path == path:
        return files[0].place
    return root


def _listed(system: Any, paths: list[str]) -> tuple[dict[str, Mapping[str, Any]], str]:
    """The files at these paths with what the server tells of them, and the folder that they are relative to."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        if _is_pattern(path):
            found |= system.glob(path, detail=True)
        elif _is_file(system, path):
            found[path] = system.info(path)
        else:
            found |= {name: info for name, info in system.find(path, detail=True).items() if _wanted(name)}
        if len(found) > MAX_FILES:
            raise FetchError(f"{path} holds more than {MAX_FILES:,} files.")
    found = {name: info for name, info in found.items() if info.get("type", "file") == "file"}
    if not found:
        raise FetchError(f"{paths[0]} holds no images, tables or shards.")
    alone = len(paths) == 1 and not _is_pattern(paths[0]) and paths[0] not in found
    base = paths[0].rstrip("/") if alone else _parent(list(found))
    return found, base


def _is_pattern(path: str) -> bool:
    """In the address of a web server, ? begins the query."""
    return "*" in path if path.startswith(("http://", "https://")) else glob.has_magic(path)


def _is_file(system: Any, path: str) -> bool:
    """Of a web server, an address that ends with a slash is a folder; its page lists the files."""
    if path.startswith(("http://", "https://")):
        return not path.endswith("/")
    return bool(system.isfile(path))


def _wanted(path: str) -> bool:
    name = path.rpartition("/")[2]
    return not ignored(name) and (kind_of(name) != "" or name.lower().endswith(_SUFFIXES))


def _parent(paths: list[str]) -> str:
    """The folder that contains all of them."""
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    shared = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return "/".join(first[:shared])


def _file(root: Path, base: str, path: str, info: Mapping[str, Any]) -> _File:
    parts = safe_parts(path.removeprefix(base).lstrip("/").partition("?")[0], base)
    told = next((str(info[key]) for key in ("ETag", "etag", "md5Hash", "content_md5") if info.get(key)), "")
    times = [str(info[key]) for key in ("LastModified", "last_modified", "mtime", "updated") if info.get(key)]
    size = info.get("size")
    stamp = hashlib.blake2b("\0".join((told, *times, str(size))).encode(), digest_size=16).hexdigest()
    return _File(path, root.joinpath(*parts), int(size) if size is not None else None, stamp)


def _remove_others(root: Path, files: Sequence[_File]) -> None:
    """What is no longer at the server is no longer among the images."""
    kept = {place for file in files for place in (file.place, _stamps(file), _part(file))}
    for path in root.rglob("*") if root.is_dir() else ():
        if path.is_file() and path not in kept:
            path.unlink(missing_ok=True)


def _transfer(system: Any, files: Iterable[_File], progress: Progress) -> None:
    """Every file that is not there in this version, in parallel."""
    lacking = [file for file in files if not file.place.is_file() or _stamp_of(file) != file.stamp]
    if not lacking:
        return
    needed = sum(file.size or 0 for file in lacking)
    folder = cache_root()
    folder.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(folder).free):
        raise FetchError(
            f"{needed:,} bytes are needed in {folder} and {free:,} are free. Set $TELLAPART_CACHE to another folder."
        )
    stage = Phase.FETCHING.named(f"fetching {counted(len(lacking), 'file')}")
    pool = ThreadPoolExecutor(TRANSFERS)
    try:
        waiting = [pool.submit(_fetch, system, file) for file in lacking]
        for number, done in enumerate(as_completed(waiting), 1):
            done.result()
            progress.update(stage, number, len(lacking))
    finally:
        pool.shutdown(cancel_futures=True)


def _stamps(file: _File) -> Path:
    return file.place.with_name(f".{file.place.name}.version")


def _part(file: _File) -> Path:
    return file.place.with_name(f".{file.place.name}.{file.stamp}.part")


def _stamp_of(file: _File) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return _stamps(file).read_text("utf-8")
    return ""


def _fetch(system: Any, file: _File) -> None:
    """Into a neighbour, which keeps what an interrupted transfer of this version had, then to its place."""
    file.place.parent.mkdir(parents=True, exist_ok=True)
    part = _part(file)
    if file.size is not None and file.size <= _WHOLE:
        part.write_bytes(system.cat_file(file.path))
    else:
        _continue(system, file, part)
    held = part.stat().st_size
    if file.size is not None and held != file.size:
        part.unlink()
        raise FetchError(f"{file.path}: {held:,} bytes came, and {file.size:,} were told.")
    with suppress(FileNotFoundError):
        _stamps(file).unlink()  # first: else a crash would leave the new stamp of the old content, or the reverse
    part.replace(file.place)
    with replacing(_stamps(file)) as neighbour:
        neighbour.write_text(file.stamp, encoding="utf-8")


def _continue(system: Any, file: _File, part: Path) -> None:
    held = part.stat().st_size if part.is_file() else 0
    with part.open("ab") as out:
        if file.size is not None:
            while held < file.size:
                end = min(held + _CHUNK, file.size)
                chunk = system.cat_file(file.path, start=held, end=end)
                if len(chunk) > end - held:  # a server without ranges sends the whole file
                    out.truncate(0)
                    held = 0
                if not chunk:
                    return
                out.write(chunk)
                out.flush()
                held += len(chunk)
            return
        out.truncate(0)  # a server that tells no size
        with system.open(file.path, "rb", block_size=0) as source:
            while chunk := source.read(_CHUNK):
                out.write(chunk)
