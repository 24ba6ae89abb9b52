"""Names of files and folders -> Source: suffixes, odd names, links, labels in names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from tellapart.data.image_formats import SUFFIXES
from tellapart.data.sources import open_row
from tellapart.data.sources.listing import list_folder
from tellapart.errors import ConfigError, SourceError
from tellapart.inference.inputs import find_images
from tests.data.folders import fill, finding, read, table


def test_rows_come_in_natural_order(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "a/10.jpg", "a/b 9.jpg", "a/b 10.jpg", "c2/1.jpg", "c10/1.jpg"]
    fill(tmp_path, reversed(names))
    assert [row.path for row in read(tmp_path).rows] == names


def test_every_suffix_counts_in_any_case(tmp_path: Path) -> None:
    names = [f"{kind}/x.{case}" for kind in "ab" for s in sorted(SUFFIXES) for case in (s, s.upper())]
    fill(tmp_path, [*names, "a/x.txt", "a/jpg", "a/x.jpg.part"])
    assert {row.path for row in read(tmp_path).rows} == set(names)
    assert {"jpg", "jpeg", "png", "heic", "avif", "pgm", "tif"} <= SUFFIXES


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    junk = [
        "a/._1.jpg",
        ".thumbs/1.jpg",
        "__MACOSX/a/1.jpg",
        "a/@eaDir/1.jpg",
        "a/.DS_Store",
        "a/Thumbs.db",
        ".git/x.png",
    ]
    fill(tmp_path, ["a/1.jpg", "b/1.jpg", *junk])
    source = read(tmp_path)
    assert [row.path for row in source.rows] == ["a/1.jpg", "b/1.jpg"]
    assert not source.findings


def test_camera_raw_drawings_and_films_are_told_and_not_those_beside_the_image_they_became(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.jpg", "a/1.CR2", "a/2.NEF", "b/1.jpg", "b/1.MOV", "b/notes.txt", "b/deep/3.nef", "b/d.svg"])
    source = read(tmp_path)
    assert [row.path for row in source.rows] == ["a/1.jpg", "b/1.jpg"]
    images, films = finding(source, "image-not-read"), finding(source, "video-not-read")
    assert images.paths == ("a/2.NEF", "b/d.svg", "b/deep/3.nef")
    assert images.meaning == "3 images in an unsupported format: 2 .nef, 1 .svg."
    assert images.severity == "warning"
    assert films.paths == ("b/1.MOV",)
    assert films.severity == "note"


def test_where_all_is_camera_raw_it_says_what_to_do(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.CR2", "b/2.CR2"])
    with pytest.raises(SourceError, match=r"2 other files \(2 \.cr2\)\. Export them as JPEG or PNG"):
        read(tmp_path)
    with pytest.raises(SourceError, match=r"holds no image .* Export them as JPEG or PNG"):
        list(find_images([tmp_path]))


def test_odd_names_are_plain_names(tmp_path: Path) -> None:
    names = ["a b/c d#1.JPG", "a b/é ñ.jpg", '日本/猫,"1".jpg', "日本/new\nline.jpg"]
    fill(tmp_path, names)
    source = read(tmp_path)
    assert {row.path for row in source.rows} == set(names)
    assert all(open_row(source.root, row.path) == tmp_path / row.path for row in source.rows)
    assert all(Path(tmp_path / row.path).is_file() for row in source.rows)


def test_class_names_are_composed_and_paths_stay_as_on_disk(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    fill(tmp_path, [f"{decomposed}/1.jpg", "tea/1.jpg"])
    row = read(tmp_path).rows[0]
    assert row.label == composed
    assert row.path == f"{decomposed}/1.jpg"


def test_undecodable_bytes_in_names_survive(tmp_path: Path) -> None:
    try:
        fill(tmp_path, map(os.fsdecode, (b"caf\xe9/p\xff.jpg", b"tea/1.jpg")))
    except OSError:
        pytest.skip("this file system takes no undecodable names")
    source = read(tmp_path)
    assert os.fsencode(source.rows[0].path) == b"caf\xe9/p\xff.jpg"
    assert (source.root / source.rows[0].path).is_file()
    assert source.rows[0].label == "caf\\xe9"
    source.rows[0].label.encode("utf-8")


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path) -> None:
    fill(tmp_path, ["pool/cats/1.jpg", "pool/9.jpg", "data/dogs/1.jpg"])
    data = tmp_path / "data"
    (data / "cats").symlink_to(tmp_path / "pool/cats")
    (data / "again").symlink_to(tmp_path / "pool/cats")
    (data / "dogs/2.jpg").symlink_to(tmp_path / "pool/9.jpg")
    (data / "dogs/up").symlink_to(data)
    source = read(data)
    assert [row.path for row in source.rows] == ["again/1.jpg", "dogs/1.jpg", "dogs/2.jpg"]
    found = finding(source, "seen-again")
    assert found.severity == "note"
    assert found.paths == ("cats", "dogs/up")


def test_a_real_folder_wins_over_a_link_to_it(tmp_path: Path) -> None:
    fill(tmp_path, ["z/1.jpg", "b/1.jpg"])
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert [row.label for row in read(tmp_path).rows] == ["b", "z"]


def test_links_to_nothing_and_pipes_are_no_images(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.jpg", "b/1.jpg"])
    (tmp_path / "a/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "a/loop.jpg").symlink_to(tmp_path / "a/loop.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    source = read(tmp_path)
    assert len(source.rows) == 2
    assert finding(source, "not-a-file").paths == ("a/gone.jpg", "a/loop.jpg", "a/pipe.jpg")
    assert finding(source, "not-a-file").severity == "error"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cat.0.jpg", "cat"),
        ("Abyssinian_12.jpg", "Abyssinian"),
        ("american_bulldog_3.JPG", "american_bulldog"),
        ("great dane (4).png", "great dane"),
        ("oak-7-12.jpeg", "oak-7"),
        ("cafe\u0301_1.jpg", "café"),
    ],
)
def test_the_label_stands_before_the_last_separator_and_number(name: str, label: str, tmp_path: Path) -> None:
    fill(tmp_path, [name, "other_1.jpg"])
    assert label in {row.label for row in read(tmp_path).rows}


@pytest.mark.parametrize(
    "names", ["IMG_{}.jpg DSC_{}.jpg", "2024-01-{}.jpg 2024-02-{}.jpg", "{}.jpg x{}.jpg", "train_{}.jpg test_{}.jpg"]
)
def test_numbers_and_words_of_cameras_are_no_labels(names: str, tmp_path: Path) -> None:
    fill(tmp_path, [name.format(n) for name in names.split() for n in (10, 11, 12)])
    with pytest.raises(SourceError, match="6 images in 1 folder"):
        read(tmp_path)


def test_labels_in_most_names_are_needed_and_a_single_folder_beside_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path, ["cat.0.jpg", "dog.0.jpg", "thumbs/cat.1.jpg", "x.jpg"])
    assert [row.label for row in read(tmp_path).rows] == ["cat", "dog", "cat"]
    fill(tmp_path, ["y.jpg", "z.jpg"])
    with pytest.raises(SourceError, match="3 of 6 names hold a class"):
        read(tmp_path)


def test_names_that_nearly_all_differ_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path, [f"{word}{word}_{n}.jpg" for n, word in enumerate("abcdefghijklmnop")])
    with pytest.raises(SourceError, match="16 names would give 16 classes"):
        read(tmp_path)


def test_labels_in_file_names_within_split_folders(tmp_path: Path) -> None:
    fill(
        tmp_path,
        [
            "train/cat.0.jpg",
            "train/dog.0.jpg",
            "train/odd.jpg",
            "validation/cat.1.jpg",
            "test/1.jpg",
            "test/2.jpg",
            "test/3.jpg",
        ],
    )
    source = read(tmp_path)
    assert table(source) == [
        ("train/cat.0.jpg", "cat", "train"),
        ("train/dog.0.jpg", "dog", "train"),
        ("validation/cat.1.jpg", "cat", "validation"),
    ]
    assert finding(source, "unlabelled").paths == ("test/1.jpg", "test/2.jpg", "test/3.jpg", "train/odd.jpg")


def test_a_label_pattern_decides_over_folders(tmp_path: Path) -> None:
    fill(tmp_path, ["x/001-cat.jpg", "y/002-dog.jpg", "y/003.jpg"])
    source = read(tmp_path, label_pattern=r"-(?P<label>\w+)\.")
    assert [row.label for row in source.rows] == ["cat", "dog"]
    assert finding(source, "unlabelled").paths == ("y/003.jpg",)


def test_wrong_label_patterns_are_explained(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.jpg", "b/2.jpg"])
    with pytest.raises(ConfigError, match="not a regular expression"):
        read(tmp_path, label_pattern="(")
    with pytest.raises(ConfigError, match="no group named label"):
        read(tmp_path, label_pattern=r"(\w+)")
    with pytest.raises(SourceError, match=r"finds no label in any of 2 file names, such as '1\.jpg'"):
        read(tmp_path, label_pattern=r"(?P<label>x+)")


def test_every_file_that_is_passed_over_is_told_by_its_suffix(tmp_path: Path) -> None:
    names = ["a/1.jpg", "b/1.jpg", "a/2", "b/3", "a/LICENSE", "b/notes.txt", "a/old.dds", "a/labels.txt", "a/.hidden"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = {finding.kind: finding for finding in list_folder(tmp_path).findings}
    other = found["passed-over"]
    assert other.paths == ("a/2", "a/LICENSE", "b/3", "b/notes.txt")
    assert other.severity == "note"
    assert other.meaning == "4 other files without an image suffix: 3 without suffix, 1 .txt."
    assert found["image-not-read"].paths == ("a/old.dds",)
