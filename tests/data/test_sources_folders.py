"""Folders -> Source: class folders, split folders, labels in file names, and what a walk takes and leaves."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources import LAYOUTS, READERS, Source, open_row, read_source
from tellapart.data.sources.listing import PICTURE_SUFFIXES
from tellapart.errors import ConfigError, SourceError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def fill(root: Path, names: Iterable[str]) -> Path:
    """Empty files: sources never open a picture."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root: Path | str, **config: str) -> Source:
    return read_source(root, DataConfig(**config))


def table(source: Source) -> list[tuple[str, str, str]]:
    return [(row.path, row.label, row.split) for row in source.rows]


def finding(source: Source, kind: str) -> Finding:
    (found,) = [f for f in source.findings if f.kind == kind]
    return found


# Every layout of the table of readers, as its example says, with what it means.
EXAMPLES = {
    "split folders": (
        ["train/cats/1.jpg", "train/dogs/2.jpg", "test/cats/3.jpg"],
        [
            ("test/cats/3.jpg", "cats", "test"),
            ("train/cats/1.jpg", "cats", "train"),
            ("train/dogs/2.jpg", "dogs", "train"),
        ],
    ),
    "class folders": (["cats/1.jpg", "dogs/2.jpg"], [("cats/1.jpg", "cats", ""), ("dogs/2.jpg", "dogs", "")]),
    "table": (["1.jpg", "2.jpg"], [("1.jpg", "cat", ""), ("2.jpg", "dog", "")]),
    "file names": (["cat.0.jpg", "dog.0.jpg"], [("cat.0.jpg", "cat", ""), ("dog.0.jpg", "dog", "")]),
}


@pytest.mark.parametrize("name", [reader.name for reader in READERS if reader.example])
def test_every_layout_shown_to_the_user_is_understood(name: str, tmp_path: Path) -> None:
    files, expected = EXAMPLES[name]
    fill(tmp_path, files)
    if name == "table":
        (tmp_path / "labels.csv").write_text("path,label\n1.jpg,cat\n2.jpg,dog\n")
    source = read(tmp_path)
    assert table(source) == expected
    assert source.root == tmp_path
    assert not source.findings
    assert name in LAYOUTS


@pytest.mark.parametrize("train", ["train", "Training", "TRAINING_SET", "training set"])
@pytest.mark.parametrize(
    ("other", "split"),
    [("val", "validation"), ("Valid", "validation"), ("validation_set", "validation"), ("testing", "test")],
)
def test_names_of_split_folders_in_any_case(train: str, other: str, split: str, tmp_path: Path) -> None:
    fill(tmp_path, [f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{other}/a/2.jpg"])
    assert {row.path.split("/")[0]: row.split for row in read(tmp_path).rows} == {train: "train", other: split}


def test_two_folders_of_one_split_are_joined(tmp_path: Path) -> None:
    fill(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "validation/b/3.jpg"])
    assert [row.split for row in read(tmp_path).rows] == ["train", "train", "validation", "validation"]


def test_a_class_called_test_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    fill(tmp_path, ["test/1.jpg", "train/1.jpg", "exam/1.jpg"])
    assert table(read(tmp_path)) == [
        ("exam/1.jpg", "exam", ""),
        ("test/1.jpg", "test", ""),
        ("train/1.jpg", "train", ""),
    ]


def test_a_lone_training_folder_leaves_the_split_open(tmp_path: Path) -> None:
    fill(tmp_path, ["train/a/1.jpg", "train/b/1.jpg"])
    assert table(read(tmp_path)) == [("train/a/1.jpg", "a", ""), ("train/b/1.jpg", "b", "")]


@pytest.mark.parametrize("folders", [["test"], ["validation"], ["val", "test"]])
@pytest.mark.parametrize("inside", ["a/1.jpg b/1.jpg", "a.1.jpg b.1.jpg"])
def test_test_or_validation_pictures_without_training_are_refused(
    folders: list[str], inside: str, tmp_path: Path
) -> None:
    fill(tmp_path, [f"{folder}/{name}" for folder in folders for name in inside.split()])
    (tmp_path / "train").mkdir()
    with pytest.raises(SourceError, match="no training pictures"):
        read(tmp_path)
    assert read(tmp_path / folders[0]).rows[0].split == ""


def test_nested_classes_keep_their_whole_path(tmp_path: Path) -> None:
    fill(tmp_path, ["a/x/1.jpg", "b/x/1.jpg", "b/2.jpg"])
    assert [row.label for row in read(tmp_path).rows] == ["a/x", "b", "b/x"]


def test_a_folder_around_everything_is_passed_through(tmp_path: Path) -> None:
    fill(
        tmp_path,
        ["PetImages/all/train/Cat/0.jpg", "PetImages/all/train/Dog/0.jpg", "PetImages/all/val/Cat/1.jpg", "readme.txt"],
    )
    assert table(read(tmp_path))[0] == ("PetImages/all/train/Cat/0.jpg", "Cat", "train")


def test_split_names_below_classes_are_pointed_at(tmp_path: Path) -> None:
    fill(tmp_path, [f"{kind}/{split}/1.jpg" for kind in "ab" for split in ("train", "test")])
    found = finding(read(tmp_path), "split-below-class")
    assert found.severity == "warning"
    assert found.paths == ("a/test", "a/train", "b/test", "b/train")


def test_empty_class_folders_are_found_and_no_class(tmp_path: Path) -> None:
    fill(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "train/c/notes.txt", "train/d/.hidden.jpg"])
    (tmp_path / "train/e/f").mkdir(parents=True)
    source = read(tmp_path)
    found = finding(source, "empty-class")
    assert found.severity == "warning"
    assert found.paths == ("train/c", "train/d", "train/e")
    assert {row.label for row in source.rows} == {"a", "b"}


def test_test_pictures_of_a_class_never_taught_keep_out(tmp_path: Path) -> None:
    fill(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "test/c/3.jpg", "val/d/4.jpg"])
    source = read(tmp_path)
    found = finding(source, "class-not-in-train")
    assert found.severity == "error"
    assert found.paths == ("test/c/3.jpg", "val/d/4.jpg")
    assert "c, d" in found.meaning
    assert found.done
    assert {row.label for row in source.rows} == {"a", "b"}


def test_pictures_beside_class_folders_are_unlabelled(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.jpg", "b/1.jpg", "10.jpg", "2.jpg"])
    source = read(tmp_path)
    assert finding(source, "unlabelled").severity == "warning"
    assert finding(source, "unlabelled").paths == ("2.jpg", "10.jpg")
    assert len(source.rows) == 2


def test_a_flat_test_folder_beside_class_folders_is_unlabelled(tmp_path: Path) -> None:
    fill(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "test/7.jpg"])
    source = read(tmp_path)
    assert finding(source, "unlabelled").paths == ("test/7.jpg",)
    assert [row.split for row in source.rows] == ["", ""]


def test_rows_come_in_natural_order(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "a/10.jpg", "a/b 9.jpg", "a/b 10.jpg", "c2/1.jpg", "c10/1.jpg"]
    fill(tmp_path, reversed(names))
    assert [row.path for row in read(tmp_path).rows] == names


def test_every_suffix_counts_in_any_case(tmp_path: Path) -> None:
    names = [f"{kind}/x.{case}" for kind in "ab" for s in sorted(PICTURE_SUFFIXES) for case in (s, s.upper())]
    fill(tmp_path, [*names, "a/x.txt", "a/jpg", "a/x.jpg.part"])
    assert {row.path for row in read(tmp_path).rows} == set(names)
    assert {"jpg", "jpeg", "png", "heic", "avif", "pgm", "tif"} <= PICTURE_SUFFIXES


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


def test_links_to_nothing_and_pipes_are_no_pictures(tmp_path: Path) -> None:
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
    with pytest.raises(SourceError, match="6 pictures in 1 folder"):
        read(tmp_path)


def test_labels_in_most_names_are_needed_and_a_single_folder_beside_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path, ["cat.0.jpg", "dog.0.jpg", "thumbs/cat.1.jpg", "x.jpg"])
    assert [row.label for row in read(tmp_path).rows] == ["cat", "dog", "cat"]
    fill(tmp_path, ["y.jpg", "z.jpg"])
    with pytest.raises(SourceError, match="3 of 6 names hold a class"):
        read(tmp_path)


def test_names_that_nearly_all_differ_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path, [f"{word}{word}_{n}.jpg" for n, word in enumerate("abcdefghijklmnop")])
    with pytest.raises(SourceError, match="16 names would mean 16 classes"):
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


def test_three_pictures_are_a_source(tmp_path: Path) -> None:
    assert len(read(fill(tmp_path, ["a/1.jpg", "b/1.jpg", "b/2.jpg"])).rows) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/cats/1.jpg", "train/cats/2.jpg", "test/cats/3.jpg"], "one class only: 'cats' with 3 pictures"),
        (["cat.1.jpg", "cat.2.jpg"], "one class only: 'cat' with 2 pictures"),
        (["cats/1.jpg", "cats/2.jpg"], "pictures lie in one folder only, 'cats'"),
        (["cats/1.jpg", "cats/2.jpg", "dogs/x.txt"], "pictures lie in one folder only, 'cats'"),
    ],
)
def test_one_class_is_refused_with_what_was_found(files: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        read(fill(tmp_path, files))


def test_what_is_no_data_is_explained(tmp_path: Path) -> None:
    fill(tmp_path, ["photos/a.1.jpg", "films/1.mp4", "films/2.mp4", "films/x.zip", "notes.txt"])
    (tmp_path / "empty").mkdir()
    for data, words in (
        (tmp_path / "phtoos", "There is no .*Did you mean photos"),
        ("", "There is no ''"),
        (tmp_path / "photos/a.1.jpg", "single picture"),
        (tmp_path / "empty", "is empty"),
        (
            tmp_path / "films",
            r"0 pictures in 0 folders, 1 archive \(x\.zip\), 2 other files \(2 \.mp4\)[\s\S]*Name the archive",
        ),
        (tmp_path / "notes.txt", "is empty: the file holds no bytes"),
        ("builtin:pest", "no built-in data set 'pest'"),
        ("builtin:../sources", "no built-in data set"),
    ):
        with pytest.raises(SourceError, match=words):
            read(data)
    with pytest.raises(SourceError, match="Given list as data"):
        read_source([tmp_path], DataConfig())  # type: ignore[arg-type]


def test_a_folder_of_no_layout_is_told_why_and_shown_the_layouts(tmp_path: Path) -> None:
    fill(tmp_path, ["1.jpg", "2.jpg"])
    (tmp_path / "t.csv").write_text("colour,size\nred,1\n")
    with pytest.raises(SourceError) as error:
        read(tmp_path)
    message = str(error.value)
    assert "2 pictures in 1 folder, 1 table (t.csv)" in message
    assert all(reader.name in message for reader in READERS)
    assert "'colour', 'size'" in message
    assert LAYOUTS in message


def test_twenty_thousand_pictures_are_listed_in_well_under_a_second(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(10_000):
            os.close(os.open(tmp_path / folder / f"picture.{number}.jpg", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    assert len(read(tmp_path).rows) == 20_000
    assert time.process_time() - start < 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development pictures are not here")
@pytest.mark.parametrize(
    ("name", "n", "labels"),
    [("cats-dogs", 1200, {"cats", "dogs"}), ("pets-three-breeds", 600, {"Abyssinian", "Bengal", "american_bulldog"})],
)
def test_real_collections(name: str, n: int, labels: set[str]) -> None:
    source = read(SHARED / name)
    assert len(source.rows) == n
    assert {row.label for row in source.rows} == labels
    assert not source.findings
