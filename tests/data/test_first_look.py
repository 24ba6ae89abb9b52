"""What newcomers hand over first: other files under the name of an image or an archive, odd names of folders."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tellapart.config import DataConfig
from tellapart.data.pixels import decode
from tellapart.data.sources import layouts, read_source
from tellapart.errors import ImageError, SourceError


def fill(root: Path, files: list[str]) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("start", "kind"), [(b"Rar!\x1a\x07\x01\0", "RAR"), (b"7z\xbc\xaf'\x1c", "7z"), (b"\x28\xb5\x2f\xfd", "Zstandard")]
)
def test_an_archive_of_another_kind_is_named_whatever_its_suffix(start: bytes, kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(start + b"x" * 100)
    with pytest.raises(SourceError, match=f"is a {kind} archive, which is not supported. Unpack it"):
        read_source(archive, DataConfig())


def test_an_archive_of_texts_is_not_said_to_be_just_empty(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("notes.txt", "x")
    with pytest.raises(SourceError, match=r"holds 0 images in 0 folders, 1 other file \(1 \.txt\)"):
        read_source(tmp_path / "a.zip", DataConfig())


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"<!DOCTYPE html>", "not an image: it is a web page"),
        (b"%PDF-1.7", "not an image: it is a PDF"),
        (b"PK\3\4abcd", "not an image: it is a zip or an office document"),
        (b"\0\0\0\x18ftypqt  ", "not an image: it is a video"),
    ],
)
def test_what_is_named_like_an_image_and_is_none_is_named(start: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode(start + b"x" * 100, None)


def test_a_blank_at_the_end_of_a_folder_name_is_no_part_of_the_class(tmp_path: Path) -> None:
    source = read_source(fill(tmp_path, ["dogs /1.jpg", "cats/1.jpg", "cats/2.jpg"]), DataConfig())
    assert {row.path: row.label for row in source.rows}["dogs /1.jpg"] == "dogs"


def test_a_folder_inside_the_folder_of_a_class_is_told(tmp_path: Path) -> None:
    source = read_source(fill(tmp_path, ["dogs/1.jpg", "dogs/young/2.jpg", "cats/1.jpg"]), DataConfig())
    (finding,) = source.findings
    assert (finding.kind, finding.paths, finding.needs_person) == ("class-below-class", ("dogs/young",), True)


def test_a_relative_path_is_said_to_have_been_looked_for_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=f"'photos' does not exist in {tmp_path}"):
        read_source("photos", DataConfig())


def test_the_layouts_fit_a_terminal_of_80_columns() -> None:
    assert max(map(len, layouts().splitlines())) <= 80
