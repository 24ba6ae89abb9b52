"""Storage: a folder that every machine of a cluster sees, by path or by fsspec address (s3://, gs://, abfs://, ...).

A file appears whole or not at all, whatever kills its writer. Names are relative to the folder.
"""

from __future__ import annotations

import os
import uuid
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.data.address import has_scheme
from tellapart.errors import ConfigError, MissingExtraError, SourceError, TellapartError
from tellapart.files import cache_root, from_json, replacing, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec import AbstractFileSystem

_DRAFT = "_draft-"


def whole_address(place: str | os.PathLike[str]) -> str:
    """The same on every machine: an address as it is, a path absolute.

    >>> whole_address("s3://bucket/photos"), whole_address("/data/../photos")
    ('s3://bucket/photos', '/photos')
    """
    name = os.fspath(place)
    return name if has_scheme(name) else os.path.abspath(Path(name).expanduser())  # noqa: PTH100 - no link is followed


def file_system(address: str, raises: type[TellapartError] = SourceError) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path there. Raises MissingExtraError without fsspec, and `raises` for an
    address of an unknown kind, or one whose package is not installed."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise MissingExtraError("Reading and writing shared storage", "cluster") from None
    try:
        found: tuple[AbstractFileSystem, str] = url_to_fs(address)
    except ImportError as error:
        raise raises(f"{address} needs a package that is not installed: {error}") from None
    except ValueError as error:
        raise raises(f"{address} is not an address of storage: {error}.") from None
    return found


class Storage:
    """A folder at a path or address. It is sent to other machines by its address.

    >>> there = Storage("memory://answers")
    >>> there.write("a/b.json", b"{}")
    >>> there.names("a"), there.read("a/b.json"), there.names("none")
    (['b.json'], b'{}', [])
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.address = whole_address(place)
        self._files, self._root = file_system(self.address, ConfigError)
        self._root = self._root.rstrip("/")

    def __reduce__(self) -> tuple[Callable[..., Storage], tuple[str]]:
        return Storage, (self.address,)

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def names(self, folder: str = "") -> list[str]:
        """Of the complete files directly in the folder, sorted; none if it is missing."""
        try:
            self._files.invalidate_cache()
            found: list[str] = self._files.ls(self.path(folder).rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for path in found if not (name := path.rpartition("/")[2]).startswith(_DRAFT))

    def exists(self, name: str) -> bool:
        self._files.invalidate_cache()
        return bool(self._files.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        content: bytes = self._files.cat_file(self.path(name))
        return content

    def open(self, name: str) -> Any:
        """For reading at any position."""
        return self._files.open(self.path(name), "rb")

    def write(self, name: str, content: bytes) -> None:
        """Under another name first: a file system may show half a file, an object store never does."""
        self._place(name, lambda draft: self._files.pipe_file(draft, content))

    def put(self, file: Path, name: str) -> None:
        """A local file as `name`."""
        self._place(name, lambda draft: self._files.put_file(os.fspath(file), draft))

    def _place(self, name: str, fill: Callable[[str], object]) -> None:
        path = self.path(name)
        folder, _, leaf = path.rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        draft = f"{folder}/{_DRAFT}{uuid.uuid4().hex}-{leaf}"
        try:
            fill(draft)
            self._files.mv(draft, path)
        except BaseException:
            if self._files.exists(draft):
                self._files.rm_file(draft)
            raise

    def remove(self, name: str) -> None:
        self._files.rm_file(self.path(name))

    def read_json(self, name: str) -> Any:
        """None if there is no such file. Raises ConfigError for a damaged one."""
        try:
            return from_json(self.read(name))
        except FileNotFoundError:
            return None
        except ValueError:
            raise ConfigError(f"{name} in {self.address} is damaged. Name another --out.") from None

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (to_json(value, indent=2) + "\n").encode())

    def require_writable(self) -> None:
        """Raises ConfigError, and leaves nothing, if no file can be written there."""
        name = f"_probe-{uuid.uuid4().hex}"
        try:
            self.write(name, b"")
            self.remove(name)
        except Exception as error:  # noqa: BLE001 - those of storage libraries share no class
            raise ConfigError(f"{self.address} cannot be written: {reason(error)}.") from None


def local_copy(storage: Storage, name: str, digest: str) -> Path:
    """An ONNX file of the storage on this machine, shared by its processes; ONNX Runtime opens a file. digest: its
    SHA-256. Raises ConfigError for another."""
    file = cache_root() / "cluster" / f"{digest}.onnx"
    if not file.exists():
        content = storage.read(name)
        if sha256(content).hexdigest() != digest:
            raise ConfigError(f"{name} in {storage.address} was changed. Remove it, or name another place.")
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as neighbour:
            neighbour.write_bytes(content)
    return file


def reason(error: BaseException) -> str:
    """An error of a storage library, in words."""
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__} {error}".strip()
