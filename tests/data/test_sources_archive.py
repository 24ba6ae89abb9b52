"""Archives -> Source: what is taken from them, and what a hostile, damaged or immense one cannot do."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources import Source, open_row, read_source
from tellapart.data.sources import archive as archives
from tellapart.data.sources.archive import STALE_SECONDS, unpack, unpacked
from tellapart.errors import SourceError

PICTURES = {"cats/1.jpg": b"one", "cats/2.jpg": b"two", "dogs/1.jpg": b"three"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


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


@pytest.mark.parametrize(
    "name", ["a.zip", "a.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.download"]
)
def test_every_kind_of_archive_is_read_as_its_folder(name: str, tmp_path: Path) -> None:
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(name.rpartition(".")[2], "w")
    members = {f"photos/{path}": content for path, content in PICTURES.items()}
    archive = put(tmp_path / name, zipped(members) if "zip" in name.lower() else tarred(members, mode))  # type: ignore[arg-type]
    source = read(archive)
    assert [(row.path, row.label) for row in source.rows] == [
        (f"photos/{path}", path.split("/")[0]) for path in PICTURES
    ]
    opened = open_row(source.root, source.rows[2].path)
    assert isinstance(opened, Path)
    assert opened.read_bytes() == b"three"
    assert name in source.layout
    assert archive.read_bytes()
    assert not source.findings


def test_the_dogs_vs_cats_archive_of_kaggle(tmp_path: Path) -> None:
    train = zipped({f"train/{kind}.{n}.jpg": b"x" for kind in ("cat", "dog") for n in range(3)})
    test = zipped({f"test1/{n}.jpg": b"x" for n in range(1, 9)})
    outer = {"train.zip": train, "test1.zip": test, "sampleSubmission.csv": b"id,label\n1,0\n2,0\n"}
    source = read(put(tmp_path / "dogs-vs-cats.zip", zipped(outer)))
    assert [row.label for row in source.rows] == ["cat"] * 3 + ["dog"] * 3
    assert {row.split for row in source.rows} == {""}
    assert len(finding(source, "unlabelled").paths) == 8
    assert not list(source.root.rglob("*.zip"))


def test_nested_class_folders_in_split_archives(tmp_path: Path) -> None:
    outer = {f"{split}.zip": zipped({f"{split}/{path}": b"x" for path in PICTURES}) for split in ("train", "test")}
    source = read(put(tmp_path / "a.zip", zipped(outer)))
    assert {(row.label, row.split) for row in source.rows} == {
        (c, s) for c in ("cats", "dogs") for s in ("train", "test")
    }


def test_a_nested_archive_never_writes_into_a_folder_that_is_there(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped({"cats.zip": zipped({"1.jpg": b"other"}), **PICTURES}))
    unpack(archive, cache / "k")
    assert tree(cache / "k") == [".left-out.json", "cats.zip.unpacked/1.jpg", *PICTURES]


def test_only_what_counts_is_taken(tmp_path: Path, cache: Path) -> None:
    junk = ["run.py", "cats/readme", ".git/x.jpg", "__MACOSX/cats/._1.jpg", "cats/._1.jpg", "setup.exe"]
    kept = {
        **PICTURES,
        "labels.csv": b"x",
        "t.parquet": b"x",
        "idx/train-images-idx3-ubyte.gz": b"x",
        "idx/labels.txt": b"a",
    }
    archive = put(tmp_path / "a.zip", zipped({**kept, **dict.fromkeys(junk, b"x")}))
    unpack(archive, cache / "k")
    assert set(tree(cache / "k")) == {".left-out.json", *kept}


def test_empty_class_folders_of_an_archive_are_found(tmp_path: Path) -> None:
    assert finding(read(put(tmp_path / "a.zip", zipped({**PICTURES, "birds/": b""}))), "empty-class").paths == (
        "birds",
    )
    archive = put(tmp_path / "a.tar", tarred({**PICTURES, "birds": special(tarfile.DIRTYPE)}))
    assert finding(read(archive), "empty-class").paths == ("birds",)


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
    members = {**PICTURES, name: b"evil"}
    archive = put(tmp_path / f"a.{kind}", zipped(members) if kind == "zip" else tarred(members))  # type: ignore[arg-type]
    before = tree(tmp_path)
    with pytest.raises(SourceError, match="is refused: its member"):
        read(archive)
    assert tree(tmp_path) == before
    assert not list(cache.iterdir())


def test_back_slashes_of_old_zip_programs_are_slashes(tmp_path: Path) -> None:
    source = read(put(tmp_path / "a.zip", zipped({"cats\\1.jpg": b"x", "dogs\\1.jpg": b"x"})))
    assert [row.path for row in source.rows] == ["cats/1.jpg", "dogs/1.jpg"]


def test_links_and_devices_are_not_taken_and_pointed_at_each_time(tmp_path: Path) -> None:
    secret = put(tmp_path / "secret.jpg", b"secret")
    members = {
        **PICTURES,
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
        assert [row.path for row in source.rows] == [*PICTURES, "out/3.jpg"]


def test_a_link_in_a_zip_is_not_taken(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(PICTURES))
    info = zipfile.ZipInfo("cats/link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr(info, "/etc/passwd")
    assert finding(read(archive), "not-unpacked").paths == ("cats/link.jpg",)


def test_bytes_are_bounded_as_written_not_as_declared(tmp_path: Path, cache: Path) -> None:
    content = zipped({**PICTURES, "cats/bomb.jpg": b"\0" * 5_000_000})
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
    archive = put(tmp_path / "a.zip", zipped({"in.zip": zipped(PICTURES), "notes.txt": b""}))
    with pytest.raises(SourceError, match="more than 4 members"):
        unpack(archive, cache / "k", max_members=4)
    unpack(archive, cache / "k", max_members=5)
    deeper = put(tmp_path / "b.zip", zipped({"a.zip": archive.read_bytes()}))
    with pytest.raises(SourceError, match=r"in\.zip inside a\.zip inside .*b\.zip lies in more than 2 archives"):
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
        read(put(tmp_path / "a.zip", encrypted(zipped(PICTURES))))
    with pytest.raises(SourceError, match=r"in\.zip inside .* is password-protected"):
        read(put(tmp_path / "b.zip", zipped({"in.zip": encrypted(zipped(PICTURES))})))


NOISE = {f"{kind}/{n}.jpg": os.urandom(4000) for kind in ("cats", "dogs") for n in range(5)}


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
    with pytest.raises(SourceError, match=r"is damaged.*what follows byte 2048"):
        read(put(tmp_path / "a.tar", bytes(content)))


def test_a_wrong_checksum_at_the_end_of_a_compressed_tar_is_seen(tmp_path: Path) -> None:
    content = bytearray(tarred({"a/1.jpg": b"x", "b/1.jpg": b"x"}, "w:gz"))
    content[-6] ^= 1
    with pytest.raises(SourceError, match=r"is damaged.*CRC"):
        read(put(tmp_path / "a.tar.gz", bytes(content)))


def test_any_flipped_byte_gives_a_source_or_a_source_error(tmp_path: Path, cache: Path) -> None:
    for name, content in (("a.zip", zipped(PICTURES)), ("a.tar", tarred(PICTURES)[:2560])):  # type: ignore[arg-type]
        for place in range(0, len(content), 7):
            changed = bytearray(content)
            changed[place] ^= 0xFF
            try:
                unpack(put(tmp_path / name, bytes(changed)), cache / f"{name}{place}")
            except SourceError:
                continue
    assert not list(cache.glob(".unfinished-*"))


def test_a_pack_method_that_python_lacks_is_explained(tmp_path: Path) -> None:
    content = bytearray(zipped(PICTURES))
    for mark, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        content[content.find(mark) + offset] = 9
    with pytest.raises(SourceError, match="packed in a way that cannot be read"):
        read(put(tmp_path / "a.zip", bytes(content)))


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    source = read(put(tmp_path / "a.tar", tarred({**PICTURES, "z.zip": zipped({"x.jpg": b"x"})})))
    assert {row.label for row in source.rows} == {"cats", "dogs", "z"}


def test_names_in_a_zip_that_are_utf8_without_saying_so(tmp_path: Path) -> None:
    content = zipped({"kätzchen/1.jpg": b"x", "hunde/1.jpg": b"x"})
    for mark, offset in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        content = bytearray(content)  # type: ignore[assignment]
        place = content.find(mark)
        while place >= 0:
            content[place + offset] = 0  # type: ignore[index]
            place = content.find(mark, place + 4)
    assert {row.label for row in read(put(tmp_path / "a.zip", bytes(content))).rows} == {"kätzchen", "hunde"}


def test_it_is_unpacked_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(PICTURES))
    first, _ = unpacked(archive)
    status = (first / "cats/1.jpg").stat()
    assert unpacked(archive)[0] == first
    assert (first / "cats/1.jpg").stat() == status
    put(archive, zipped({**PICTURES, "dogs/2.jpg": b"x"}))
    assert len(read(archive).rows) == 4
    os.utime(archive, ns=(1, 1))
    assert unpacked(archive)[0] not in (first,)


def test_a_folder_cleared_in_part_is_unpacked_again(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(PICTURES))
    folder, _ = unpacked(archive)
    for path in (folder / ".left-out.json", folder / "cats/1.jpg"):
        path.unlink()
    assert len(read(archive).rows) == 3


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_is_not(tmp_path: Path, cache: Path) -> None:
    dead, living = cache / ".unfinished-dead", cache / ".unfinished-living"
    for folder in (dead, living):
        folder.mkdir(parents=True)
    past = time.time() - STALE_SECONDS - 1
    os.utime(dead, (past, past))
    read(put(tmp_path / "a.zip", zipped(PICTURES)))
    assert not dead.exists()
    assert living.exists()


def test_a_living_process_keeps_its_unfinished_folder_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "STALE_SECONDS", 0.0)
    folder = tmp_path / "unfinished"
    (folder / "cats").mkdir(parents=True)
    os.utime(folder, (1, 1))
    archive = put(tmp_path / "a.zip", zipped({"cats/1.jpg": b"x"}))
    archives._Unpacking(folder, "a.zip", 9, 9, 1).into(archive, folder, "a.zip", 1)
    assert folder.stat().st_mtime > 1


def test_who_comes_second_takes_what_the_first_has_unpacked(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(PICTURES))
    for _ in range(2):
        unpack(archive, cache / "k")
    assert [path.name for path in cache.iterdir()] == ["k"]


def test_many_threads_may_unpack_one_archive(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(NOISE))
    rows: list[int] = []
    threads = [threading.Thread(target=lambda: rows.append(len(read(archive).rows))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows == [10] * 8
    assert len(list(cache.iterdir())) == 1


def test_two_processes_may_unpack_one_archive(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(NOISE))
    program = (
        "import sys; from pathlib import Path; from tellapart.data.sources.archive import unpacked;"
        "print(len(list(unpacked(Path(sys.argv[1]))[0].rglob('*.jpg'))))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, archive], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == [b"10", b"10"]
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = put(tmp_path / "a.zip", zipped(PICTURES))
    monkeypatch.setenv("TELLAPART_CACHE", str(put(tmp_path / "file", b"")))
    with pytest.raises(SourceError, match=r"Cannot write into .*TELLAPART_CACHE"):
        read(archive)


def test_members_that_contradict_each_other_are_explained(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.tar", tarred({"cats.jpg": b"x", "cats.jpg/1.jpg": b"x"}))
    with pytest.raises(SourceError, match="Cannot unpack"):
        read(archive)
    assert not list(cache.iterdir())


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        read(tmp_path / "a.zip")


def test_an_archive_without_pictures_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped({"x.txt": b"x"}))
    with pytest.raises(SourceError, match=r"a\.zip is empty") as error:
        read(archive)
    assert "cache" not in str(error.value)
