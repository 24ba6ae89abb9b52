"""Lists of images, JSON Lines, Excel tables and numbered folds -> Source, the same from each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tellapart.errors import SourceError
from tests.data.folders import fill, finding, read, table

ROWS = [
    ("1.jpg", "cat", "train"), ("2.jpg", "cat", "train"), ("3.jpg", "dog", "train"), ("4.jpg", "dog", "train"),
    ("5.jpg", "cat", "test"), ("6.jpg", "dog", "test"),
]  # fmt: skip
CLASSES = ("cat", "dog")


def _written(form: str, root: Path) -> Path:
    """The same six images and labels in one form."""
    if form == "metadata.jsonl":
        fill(root, [f"{split}/{name}" for name, _, split in ROWS])
        for split in ("train", "test"):
            lines = [json.dumps({"file_name": name, "label": label}) for name, label, of in ROWS if of == split]
            (root / split / "metadata.jsonl").write_text("\n".join(lines))
    elif form == "train.txt":
        fill(root, [f"images/{name}" for name, _, _ in ROWS])
        for split in ("train", "test"):
            lines = [f"images/{name} {CLASSES.index(label)}" for name, label, of in ROWS if of == split]
            (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
        (root / "classes.txt").write_text("cat\ndog\n")
        (root / "all.txt").write_text("no list\n")
    elif form == "labels.xlsx":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("openpyxl")
        fill(root, [f"images/{name}" for name, _, _ in ROWS])
        frame = pandas.DataFrame(ROWS, columns=["file name", "label", "split"])
        with pandas.ExcelWriter(root / "labels.xlsx") as book:
            pandas.DataFrame().to_excel(book, sheet_name="notes")
            frame.to_excel(book, sheet_name="images", index=False)
        (root / "~$labels.xlsx").write_bytes(b"open in Excel")
    elif form == "folds.csv":
        fill(root, [f"images/{name}" for name, _, _ in ROWS])
        folds = {"train": 2, "test": 0}
        lines = [f"{name},{label},{folds[split]}.0" for name, label, split in ROWS]
        (root / "folds.csv").write_text("\n".join(["image,label,kfold", *lines, "6.jpg,dog,0", "7.jpg,dog,1"]) + "\n")
    elif form == "yolo":
        fill(root, [f"{split}/{label}/{name}" for name, label, split in ROWS])
    return root


@pytest.mark.parametrize("form", ["metadata.jsonl", "train.txt", "labels.xlsx", "folds.csv", "yolo"])
def test_lists_and_tables_of_every_form_give_the_same_images_labels_and_splits(form: str, tmp_path: Path) -> None:
    found = table(read(_written(form, tmp_path)))
    assert sorted((path.rpartition("/")[2], label, split) for path, label, split in found) == ROWS


def test_a_table_of_excel_or_json_lines_is_read_by_its_own_name(tmp_path: Path) -> None:
    for form in ("labels.xlsx", "metadata.jsonl"):
        folder = _written(form, tmp_path / form)
        one = folder / form if form.startswith("labels") else folder / "train" / form
        assert {label for _, label, _ in table(read(one))} == {"cat", "dog"}


def test_the_first_of_numbered_folds_is_for_testing_and_that_is_told(tmp_path: Path) -> None:
    source = read(_written("folds.csv", tmp_path))
    assert finding(source, "folds").meaning == (
        "Column 'kfold' numbers 3 folds: 0 is the test split, 1 the validation split."
    )


def test_a_list_alone_leaves_the_split_open_and_a_path_alone_takes_its_folder_as_label(tmp_path: Path) -> None:
    fill(tmp_path, ["my cats/1 a.jpg", "dogs/2.jpg", "other/3.jpg"])
    (tmp_path / "train.txt").write_text("# made by hand\n/my cats/1 a.jpg\ndogs/2.jpg\n\ndogs/4.jpg\n")
    source = read(tmp_path / "train.txt")
    assert table(source) == [("dogs/2.jpg", "dogs", ""), ("my cats/1 a.jpg", "my cats", "")]
    assert finding(source, "missing-file").paths == ("dogs/4.jpg",)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("images/1.jpg 0\nimages/2.jpg 2\n", "holds the label '2', but 2 classes are named"),
        (
            "images/1.jpg 0 1\nimages/2.jpg 1 0\n",
            "several numbers after a path, such as '0 1': several labels, or boxes",
        ),
        ("images/9.jpg 0\n", "none of its 1 image exists below"),
    ],
)
def test_a_list_with_labels_outside_the_names_or_several_is_refused(lines: str, words: str, tmp_path: Path) -> None:
    fill(tmp_path, ["images/1.jpg", "images/2.jpg"])
    (tmp_path / "classes.txt").write_text("0:cat\n1:dog\n")
    (tmp_path / "train.txt").write_text(lines)
    with pytest.raises(SourceError, match=words):
        read(tmp_path / "train.txt")


def test_a_list_of_images_elsewhere_is_no_layout_of_a_folder_and_the_next_one_is_tried(tmp_path: Path) -> None:
    fill(tmp_path, ["cat.1.jpg", "cat.2.jpg", "dog.1.jpg"])
    (tmp_path / "images.txt").write_text("1 001.Cat/cat_1.jpg\n2 002.Dog/dog_1.jpg\n")
    assert [label for _, label, _ in table(read(tmp_path))] == ["cat", "cat", "dog"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.jsonl", b'{"file_name": "1.jpg"}\nnot json\n', "line 2 is not JSON"),
        ("labels.jsonl", b'["1.jpg", "cat"]\n', "line 1 is JSON but not an object"),
        ("labels.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("labels.xlsx", b"PK\3\4 and so on", "not an Excel table, or it is damaged"),
    ],
)
def test_a_table_that_is_none_is_an_error_in_words(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    if name.endswith("xlsx"):
        pytest.importorskip("openpyxl")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=words):
        read(tmp_path / name)
