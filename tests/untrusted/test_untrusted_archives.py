"""Archives that take memory, disk or the stack rather than lead outside."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.config import DataConfig
from tellapart.data.sources import archive as archives
from tellapart.data.sources import open_row, read_source
from tellapart.errors import SourceError

Megabytes = Callable[[str], tuple[int, str]]


def header(kind: bytes, size: int, name: str = "long") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def compressed_zeros(start: bytes, count: int) -> bytes:
    """gzip of some bytes and many zeros."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(count >> 20):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_tar_whose_header_unpacks_to_gigabytes_takes_no_memory(
    kind: bytes, tmp_path: Path, megabytes: Megabytes
) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(compressed_zeros(header(kind, 1 << 29), 1 << 29))
    assert path.stat().st_size < 1_000_000
    taken, said = megabytes(f"read_source({str(path)!r}, DataConfig())")
    assert "a header of 536,870,912 bytes" in said
    assert taken < 100


def test_headers_behind_headers_do_not_end_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes((header(tarfile.GNUTYPE_LONGNAME, 4) + b"abc\0".ljust(512, b"\0")) * 5000 + bytes(1024))
    with pytest.raises(SourceError, match="is damaged"):
        read_source(path, DataConfig())


def test_a_sparse_member_is_refused_as_its_list_of_holes_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header(tarfile.GNUTYPE_SPARSE, 512, "cats/1.jpg") + bytes(2048))
    with pytest.raises(SourceError, match="pack it again without --sparse"):
        read_source(path, DataConfig())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_a_member_that_zipfile_would_unpack_at_once_takes_no_memory(
    method: int, tmp_path: Path, megabytes: Megabytes
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as bundle:
        for name in ("cats/1.bmp", "dogs/1.bmp"):
            bundle.writestr(name, bytes(150_000_000))
    assert path.stat().st_size < 200_000
    taken, said = megabytes(f"print(read_source({str(path)!r}, DataConfig()).layout)")
    assert "class folders" in said
    assert taken < 100


def test_a_bomb_is_stopped_by_what_its_archive_weighs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 1_000_000)
    path, inner = tmp_path / "a.zip", io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("cats/1.bmp", bytes(30_000_000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in ("cats", "dogs"):
            bundle.writestr(f"{name}.zip", inner.getvalue())
    with pytest.raises(SourceError, match=r"unpacks to more than .* bytes.*unpack it yourself"):
        read_source(path, DataConfig())
    assert not list((tmp_path / "cache").rglob("*.bmp"))


def test_a_directory_that_says_it_has_a_million_members_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("cats/1.jpg", b"1")
        bundle.writestr("dogs/1.jpg", b"1")
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    content[end + 8 : end + 12] = struct.pack("<HH", 65535, 65535)
    path.write_bytes(content)
    assert len(read_source(path, DataConfig()).rows) == 2
    content[end + 12 : end + 16] = struct.pack("<I", 0xFFFFFFF0)  # so long a directory
    path.write_bytes(content)
    with pytest.raises(SourceError, match="is damaged"):
        read_source(path, DataConfig())


def test_many_members_that_are_one_piece_of_data_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 20_000_000)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("cats/0.bmp", bytes(5_000_000))
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
    many = content[start:end] * 1000
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1000, 1000, len(many), start, 0)
    path.write_bytes(content[:start] + many + tail)
    with pytest.raises(SourceError, match=r"damaged|unpacks to more than"):
        read_source(path, DataConfig())


def test_an_idx_file_that_promises_more_than_it_can_hold_is_refused_at_its_header(tmp_path: Path) -> None:
    for kind, sides in (("images-idx3", (1 << 22, 28, 28)), ("labels-idx1", (1 << 22,))):
        start = struct.pack(f">4B{len(sides)}I", 0, 0, 8, len(sides), *sides)
        (tmp_path / f"train-{kind}-ubyte.gz").write_bytes(compressed_zeros(start, 8 << 20))
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(SourceError, match="more than a file of this size can hold"):
        open_row(tmp_path, "train-images-idx3-ubyte.gz#0")


def test_a_tar_that_bzip2_made_small_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 1_000_000)
    path = tmp_path / "a.tar.bz2"
    path.write_bytes(bz2.compress(header(tarfile.REGTYPE, 50_000_000, "cats/1.bmp") + bytes(50_001_024)))
    with pytest.raises(SourceError, match="unpacks to more than 1,000,000 bytes"):
        read_source(path, DataConfig())
