"""Archives for tests, and what is read from them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources import Source, read_source

IMAGES = {"cats/1.jpg": b"one", "cats/2.jpg": b"two", "dogs/1.jpg": b"three"}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:  # type: ignore[call-overload]
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path) -> Source:
    return read_source(path, DataConfig())


def finding(source: Source, kind: str) -> Finding:
    (found,) = [f for f in source.findings if f.kind == kind]
    return found


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


NOISE = {f"{kind}/{n}.jpg": os.urandom(4000) for kind in ("cats", "dogs") for n in range(5)}
