"""Archives -> Source: what is taken from them, and how they are unpacked once for all who ask."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from tellapart.data.sources import archive as archives
from tellapart.data.sources import open_row
from tellapart.data.sources.archive import STALE_SECONDS, unpack, unpacked
from tellapart.errors import SourceError
from tests.command import PATIENCE
from tests.data.archives import IMAGES, NOISE, finding, put, read, special, tarred, tree, zipped


@pytest.mark.parametrize(
    "name", ["a.zip", "a.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.download"]
)
def test_every_kind_of_archive_is_read_as_its_folder(name: str, tmp_path: Path) -> None:
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(name.rpartition(".")[2], "w")
    members = {f"photos/{path}": content for path, content in IMAGES.items()}
    archive = put(tmp_path / name, zipped(members) if "zip" in name.lower() else tarred(members, mode))  # type: ignore[arg-type]
    source = read(archive)
    assert [(row.path, row.label) for row in source.rows] == [(f"photos/{path}", path.split("/")[0]) for path in IMAGES]
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
    outer = {f"{split}.zip": zipped({f"{split}/{path}": b"x" for path in IMAGES}) for split in ("train", "test")}
    source = read(put(tmp_path / "a.zip", zipped(outer)))
    assert {(row.label, row.split) for row in source.rows} == {
        (c, s) for c in ("cats", "dogs") for s in ("train", "test")
    }


def test_a_nested_archive_never_writes_into_a_folder_that_is_there(tmp_path: Path, cache: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped({"cats.zip": zipped({"1.jpg": b"other"}), **IMAGES}))
    unpack(archive, cache / "k")
    assert tree(cache / "k") == [".left-out.json", "cats.zip.unpacked/1.jpg", *IMAGES]


def test_only_what_counts_is_taken(tmp_path: Path, cache: Path) -> None:
    junk = ["run.py", "cats/readme", ".git/x.jpg", "__MACOSX/cats/._1.jpg", "cats/._1.jpg", "setup.exe"]
    kept = {
        **IMAGES,
        "labels.csv": b"x",
        "t.parquet": b"x",
        "idx/train-images-idx3-ubyte.gz": b"x",
        "idx/labels.txt": b"a",
    }
    archive = put(tmp_path / "a.zip", zipped({**kept, **dict.fromkeys(junk, b"x")}))
    unpack(archive, cache / "k")
    named = {"run.py", "cats/readme", "setup.exe"}  # so that they are told, as in a folder
    assert set(tree(cache / "k")) == {".left-out.json", *kept, *named}
    assert not any((cache / "k" / name).stat().st_size for name in named)


def test_empty_class_folders_of_an_archive_are_found(tmp_path: Path) -> None:
    assert finding(read(put(tmp_path / "a.zip", zipped({**IMAGES, "birds/": b""}))), "empty-class").paths == ("birds",)
    archive = put(tmp_path / "a.tar", tarred({**IMAGES, "birds": special(tarfile.DIRTYPE)}))
    assert finding(read(archive), "empty-class").paths == ("birds",)


def test_back_slashes_of_old_zip_programs_are_slashes(tmp_path: Path) -> None:
    source = read(put(tmp_path / "a.zip", zipped({"cats\\1.jpg": b"x", "dogs\\1.jpg": b"x"})))
    assert [row.path for row in source.rows] == ["cats/1.jpg", "dogs/1.jpg"]


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    source = read(put(tmp_path / "a.tar", tarred({**IMAGES, "z.zip": zipped({"x.jpg": b"x"})})))
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
    archive = put(tmp_path / "a.zip", zipped(IMAGES))
    first, _ = unpacked(archive)
    status = (first / "cats/1.jpg").stat()
    assert unpacked(archive)[0] == first
    assert (first / "cats/1.jpg").stat() == status
    put(archive, zipped({**IMAGES, "dogs/2.jpg": b"x"}))
    assert len(read(archive).rows) == 4
    os.utime(archive, ns=(1, 1))
    assert unpacked(archive)[0] not in (first,)


def test_a_folder_cleared_in_part_is_unpacked_again(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(IMAGES))
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
    read(put(tmp_path / "a.zip", zipped(IMAGES)))
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
    archive = put(tmp_path / "a.zip", zipped(IMAGES))
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
    assert [process.communicate(timeout=PATIENCE)[0].strip() for process in both] == [b"10", b"10"]
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = put(tmp_path / "a.zip", zipped(IMAGES))
    monkeypatch.setenv("TELLAPART_CACHE", str(put(tmp_path / "file", b"")))
    with pytest.raises(SourceError, match=r"Cannot write into .*TELLAPART_CACHE"):
        read(archive)


def test_an_archive_without_images_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped({"x.txt": b"x"}))
    with pytest.raises(SourceError, match=r"a\.zip has no known layout") as error:
        read(archive)
    assert "cache" not in str(error.value)


def test_what_is_not_read_is_told_of_an_archive_as_of_a_folder(tmp_path: Path) -> None:
    content = zipped({**IMAGES, "dogs/2.NEF": b"raw", "dogs/1.mp4": b"video", "notes.txt": b"text"})
    source = read(put(tmp_path / "photos.zip", content))
    assert finding(source, "image-not-read").paths == ("dogs/2.NEF",)
    assert finding(source, "video-not-read").paths == ("dogs/1.mp4",)
    assert not (source.root / "dogs/2.NEF").read_bytes()
