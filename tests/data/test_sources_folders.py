"""Folders -> Source: what their layout means, and what is said where it means nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tellapart.config import DataConfig
from tellapart.data.sources import SOURCES, layouts, read_source
from tellapart.errors import SourceError
from tellapart.tables import origin
from tests.data.folders import fill, finding, read, table

SHARED = Path(__file__).parents[3] / "shared" / "data"

# Every layout of the table of readers, as its example says, with what it means.
EXAMPLES = {
    "split-folders": (
        ["train/cats/1.jpg", "train/dogs/2.jpg", "test/cats/3.jpg"],
        [
            ("test/cats/3.jpg", "cats", "test"),
            ("train/cats/1.jpg", "cats", "train"),
            ("train/dogs/2.jpg", "dogs", "train"),
        ],
    ),
    "class-folders": (["cats/1.jpg", "dogs/2.jpg"], [("cats/1.jpg", "cats", ""), ("dogs/2.jpg", "dogs", "")]),
    "table": (["1.jpg", "2.jpg"], [("1.jpg", "cat", ""), ("2.jpg", "dog", "")]),
    "file-names": (["cat.0.jpg", "dog.0.jpg"], [("cat.0.jpg", "cat", ""), ("dog.0.jpg", "dog", "")]),
}


ELSEWHERE = {
    "boxes": "boxes",
    "lists": "lists",
    "idx-files": "idx",
    "parquet": "shards",
    "webdataset": "shards",
    "tfrecord": "shards",
}
"""Layouts of files with content, and the test_sources_*.py that reads them."""


def test_every_layout_is_shown_with_what_is_read_and_has_a_test() -> None:
    rows = [reader for reader in SOURCES.values() if origin("sources", reader.name) is None]
    assert {reader.name for reader in rows} == {*EXAMPLES, *ELSEWHERE}
    shown = " ".join(layouts(about=True).split())
    assert all(reader.name in shown and reader.example and " ".join(reader.about.split()) in shown for reader in rows)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_layout_shown_to_the_user_is_understood(name: str, tmp_path: Path) -> None:
    files, expected = EXAMPLES[name]
    fill(tmp_path, files)
    if name == "table":
        (tmp_path / "labels.csv").write_text("path,label\n1.jpg,cat\n2.jpg,dog\n")
    source = read(tmp_path)
    assert table(source) == expected
    assert source.root == tmp_path
    assert not source.findings
    assert name in layouts()


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
def test_test_or_validation_images_without_training_are_refused(
    folders: list[str], inside: str, tmp_path: Path
) -> None:
    fill(tmp_path, [f"{folder}/{name}" for folder in folders for name in inside.split()])
    (tmp_path / "train").mkdir()
    with pytest.raises(SourceError, match="no training images"):
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


def test_test_images_of_a_class_never_taught_keep_out(tmp_path: Path) -> None:
    fill(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "test/c/3.jpg", "val/d/4.jpg"])
    source = read(tmp_path)
    found = finding(source, "class-not-in-train")
    assert found.severity == "error"
    assert found.paths == ("test/c/3.jpg", "val/d/4.jpg")
    assert "c, d" in found.meaning
    assert found.done
    assert {row.label for row in source.rows} == {"a", "b"}


def test_images_beside_class_folders_are_unlabelled(tmp_path: Path) -> None:
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


def test_three_images_are_a_source(tmp_path: Path) -> None:
    assert len(read(fill(tmp_path, ["a/1.jpg", "b/1.jpg", "b/2.jpg"])).rows) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/cats/1.jpg", "train/cats/2.jpg", "test/cats/3.jpg"], "one class only: 'cats' with 3 images"),
        (["cat.1.jpg", "cat.2.jpg"], "one class only: 'cat' with 2 images"),
        (["cats/1.jpg", "cats/2.jpg"], "images are in one folder only, 'cats'"),
        (["cats/1.jpg", "cats/2.jpg", "dogs/x.txt"], "images are in one folder only, 'cats'"),
    ],
)
def test_one_class_is_refused_with_what_was_found(files: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        read(fill(tmp_path, files))


def test_what_is_no_data_is_explained(tmp_path: Path) -> None:
    fill(tmp_path, ["photos/a.1.jpg", "films/1.mp4", "films/2.mp4", "films/x.zip", "notes.txt"])
    (tmp_path / "empty").mkdir()
    for data, words in (
        (tmp_path / "phtoos", "does not exist.*Did you mean photos"),
        ("", "'' does not exist"),
        (tmp_path / "photos/a.1.jpg", "single image"),
        (tmp_path / "empty", "is empty"),
        (
            tmp_path / "films",
            r"0 images in 0 folders, 1 archive \(x\.zip\), 2 other files \(2 \.mp4\)[\s\S]*Name the archive",
        ),
        (tmp_path / "notes.txt", "does not begin with paths of images"),
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
    assert "2 images in 1 folder, 1 table (t.csv)" in message
    assert all(name in message for name in SOURCES)
    assert "'colour', 'size'" in message
    assert layouts() in message


def test_twenty_thousand_images_are_listed_in_well_under_a_second(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(10_000):
            os.close(os.open(tmp_path / folder / f"image.{number}.jpg", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    assert len(read(tmp_path).rows) == 20_000
    assert time.process_time() - start < 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development images are not here")
@pytest.mark.parametrize(
    ("name", "n", "labels"),
    [("cats-dogs", 1200, {"cats", "dogs"}), ("pets-three-breeds", 600, {"Abyssinian", "Bengal", "american_bulldog"})],
)
def test_real_collections(name: str, n: int, labels: set[str]) -> None:
    source = read(SHARED / name)
    assert len(source.rows) == n
    assert {row.label for row in source.rows} == labels
    assert not source.findings


@pytest.mark.parametrize(
    ("files", "inside", "label"),
    [
        (["cats/1.jpg", "cats/2.jpg"], "", "cats"),
        (["cats/1.jpg", "cats/2.jpg"], "cats", "cats"),
        (["old/cats/1.jpg"], "old", "cats"),
        (["1.jpg", "cats/2.jpg"], "", "cats"),
        (["dogs/young/1.jpg", "dogs/young/2.jpg"], "dogs", "dogs/young"),
    ],
)
def test_one_class_is_enough_where_it_is_known(files: list[str], inside: str, label: str, tmp_path: Path) -> None:
    fill(tmp_path, files)
    source = read_source(tmp_path / inside, DataConfig(), known=("cats", "dogs", "young", "dogs/young"))
    assert {row.label for row in source.rows} == {label}
    with pytest.raises(SourceError, match="two classes"):
        read(tmp_path / inside)
    with pytest.raises(SourceError, match="its name is not among the classes x, y"):
        read_source(tmp_path / inside, DataConfig(), known=("x", "y"))


def test_a_folder_whose_name_ends_like_a_known_class_is_none(tmp_path: Path) -> None:
    fill(tmp_path, ["bobcats/1.jpg"])
    with pytest.raises(SourceError, match="'bobcats'; its name is not among the classes cats, dogs"):
        read_source(tmp_path, DataConfig(), known=("cats", "dogs"))


def test_where_classes_are_known_test_images_alone_are_enough(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label,split\n1.jpg,cats,test\n")
    fill(tmp_path, ["1.jpg"])
    source = read_source(tmp_path / "labels.csv", DataConfig(), known=("cats", "dogs"))
    assert [(row.label, row.split) for row in source.rows] == [("cats", "test")]
