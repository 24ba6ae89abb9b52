"""What a hostile, damaged or immense archive cannot do."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tellapart.data.sources.archive import unpack
from tellapart.errors import SourceError
from tests.data.archives import IMAGES, NOISE, finding, put, read, special, tarred, tree, zipped


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "cats/../../evil.jpg",
        "/tmp/evil.jpg",
        "C:\\evil.jpg",
        "c:evil.jpg",
        "..\\evil.jpg",
        "\\evil.jpg",
        "..",
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_leads_outside_makes_the_archive_refused(
    name: str, kind: str, tmp_path: Path, cache: Path
) -> None:
    members = {**IMAGES, name: b"evil"}
    archive = put(tmp_path / f"a.{kind}", zipped(members) if kind == "zip" else tarred(members))  # type: ignore[arg-type]
    before = tree(tmp_path)
    with pytest.raises(SourceError, match="is refused: its member"):
        read(archive)
    assert tree(tmp_path) == before
    assert not list(cache.iterdir())


def test_links_and_devices_are_not_taken_and_pointed_at_each_time(tmp_path: Path) -> None:
    secret = put(tmp_path / "secret.jpg", b"secret")
    members = {
        **IMAGES,
        "cats/soft.jpg": special(tarfile.SYMTYPE, str(secret)),
        "cats/hard.jpg": special(tarfile.LNKTYPE, "cats/1.jpg"),
        "out": special(tarfile.SYMTYPE, ".."),
        "out/3.jpg": b"x",
        "dogs/pipe.jpg": special(tarfile.FIFOTYPE),
        "dogs/null.jpg": special(tarfile.CHRTYPE),
    }
    archive = put(tmp_path / "a.tar", tarred(members))  # type: ignore[arg-type]
    for _ in range(2):
        source = read(archive)
        assert finding(source, "not-unpacked").severity == "warning"
        assert finding(source, "not-unpacked").paths == (
            *("cats/soft.jpg", "cats/hard.jpg", "out", "dogs/pipe.jpg", "dogs/null.jpg"),
        )
        assert not any(path.is_symlink() for path in source.root.rglob("*"))
        assert [row.path for row in source.rows] == [*IMAGES, "out/3.jpg"]


def test_a_link_in_a_zip_is_not_taken(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(IMAGES))
    info = zipfile.ZipInfo("cats/link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr(info, "/etc/passwd")
    assert finding(read(archive), "not-unpacked").paths == ("cats/link.jpg",)


def test_bytes_are_bounded_as_written_not_as_declared(tmp_path: Path, cache: Path) -> None:
    content = zipped({**IMAGES, "cats/bomb.jpg": b"\0" * 5_000_000})
    size = (5_000_000).to_bytes(4, "little")
    assert content.count(size) == 2
    lying = put(tmp_path / "a.zip", content.replace(size, (9).to_bytes(4, "little")))
    with pytest.raises(SourceError, match=r"damaged|more than 1,000 bytes"):
        unpack(lying, cache / "k", max_bytes=1000)
    with pytest.raises(SourceError, match="more than 1,000,000 bytes"):
        unpack(put(tmp_path / "b.zip", content), cache / "k", max_bytes=1_000_000)
    with pytest.raises(SourceError, match="more than 1,000,000 bytes"):
        unpack(put(tmp_path / "c.zip", zipped({"in.zip": content})), cache / "k", max_bytes=1_000_000)
    assert not list(cache.iterdir())
    unpack(tmp_path / "b.zip", cache / "k", max_bytes=5_000_011)


def test_bytes_are_bounded_over_all_members_and_the_archives_inside(tmp_path: Path, cache: Path) -> None:
    small = {f"cats/{number}.jpg": b"\0" * 100_000 for number in range(12)}
    inner = zipped(dict(list(small.items())[:6]))
    parts = {"one.zip": inner, "two.zip": inner}
    for name, members in (("a.zip", small), ("b.zip", parts)):
        archive = put(tmp_path / name, zipped(members))
        with pytest.raises(SourceError, match="more than 1,000,000 bytes"):
            unpack(archive, cache / "k", max_bytes=1_000_000)
        assert not list(cache.iterdir())
        unpack(archive, cache / name, max_bytes=1_200_000 + 2 * len(inner))
        shutil.rmtree(cache)


def test_members_and_depth_are_bounded(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped({"in.zip": zipped(IMAGES), "notes.txt": b""}))
    with pytest.raises(SourceError, match="more than 4 members"):
        unpack(archive, cache / "k", max_members=4)
    unpack(archive, cache / "k", max_members=5)
    deeper = put(tmp_path / "b.zip", zipped({"a.zip": archive.read_bytes()}))
    with pytest.raises(SourceError, match=r"in\.zip inside a\.zip inside .*b\.zip is nested in more than 2 archives"):
        read(deeper)


def encrypted(content: bytes) -> bytes:
    """Set the flag of encryption in local and central headers."""
    changed = bytearray(content)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = changed.find(mark)
        while place >= 0:
            changed[place + offset] |= 1
            place = changed.find(mark, place + 4)
    return bytes(changed)


def test_a_password_is_named_as_the_obstacle(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="password-protected"):
        read(put(tmp_path / "a.zip", encrypted(zipped(IMAGES))))
    with pytest.raises(SourceError, match=r"in\.zip inside .* is password-protected"):
        read(put(tmp_path / "b.zip", zipped({"in.zip": encrypted(zipped(IMAGES))})))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("how", ["cut", "scratched", "other", "empty"])
def test_damaged_archives_say_so_and_leave_nothing(name: str, how: str, tmp_path: Path, cache: Path) -> None:
    mode = "w:" + name.rpartition(".")[2] if name.count(".") == 2 else "w"
    content = zipped(NOISE) if name == "a.zip" else tarred(NOISE, mode)  # type: ignore[arg-type]
    middle = len(content) // 2
    scratched = (
        content[:middle] + bytes(255 - byte for byte in content[middle : middle + 5000]) + content[middle + 5000 :]
    )
    damaged = {"cut": content[:middle], "scratched": scratched, "other": b"Dear all, no archive." * 99, "empty": b""}
    archive = put(tmp_path / name, damaged[how])
    with pytest.raises(SourceError, match="is empty" if how == "empty" else "is damaged"):
        read(archive)
    assert not list(cache.iterdir())


def test_a_tar_cut_by_zeros_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    content = bytearray(tarred({"a/1.jpg": b"x", "b/1.jpg": b"x", "c/1.jpg": b"x"}))
    content[2048:2560] = bytes(512)
    with pytest.raises(SourceError, match=r"is damaged.*the data after byte 2048"):
        read(put(tmp_path / "a.tar", bytes(content)))


def test_a_wrong_checksum_at_the_end_of_a_compressed_tar_is_seen(tmp_path: Path) -> None:
    content = bytearray(tarred({"a/1.jpg": b"x", "b/1.jpg": b"x"}, "w:gz"))
    content[-6] ^= 1
    with pytest.raises(SourceError, match=r"is damaged.*CRC"):
        read(put(tmp_path / "a.tar.gz", bytes(content)))


def test_any_flipped_byte_gives_a_source_or_a_source_error(tmp_path: Path, cache: Path) -> None:
    for name, content in (("a.zip", zipped(IMAGES)), ("a.tar", tarred(IMAGES)[:2560])):  # type: ignore[arg-type]
        for place in range(0, len(content), 7):
            changed = bytearray(content)
            changed[place] ^= 0xFF
            try:
                unpack(put(tmp_path / name, bytes(changed)), cache / f"{name}{place}")
            except SourceError:
                continue
    assert not list(cache.glob(".unfinished-*"))


def test_a_pack_method_that_python_lacks_is_explained(tmp_path: Path) -> None:
    content = bytearray(zipped(IMAGES))
    for mark, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        content[content.find(mark) + offset] = 9
    with pytest.raises(SourceError, match="uses an unsupported compression"):
        read(put(tmp_path / "a.zip", bytes(content)))


def test_members_that_contradict_each_other_are_explained(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.tar", tarred({"cats.jpg": b"x", "cats.jpg/1.jpg": b"x"}))
    with pytest.raises(SourceError, match="Cannot unpack"):
        read(archive)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.csv", "a.parquet", "a"])
def test_a_pipe_is_no_archive_and_no_table(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        read(tmp_path / name)


@pytest.mark.skipif(not Path(os.devnull).is_char_device(), reason="this system has no such files")
def test_a_device_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(os.devnull)
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        read(tmp_path / "a.csv")
