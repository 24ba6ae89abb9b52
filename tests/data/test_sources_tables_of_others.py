"""Tables as fastai, Kaggle, Hugging Face and spreadsheets write them: read rightly, or refused with what to do."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.catalog import Catalog
from tellapart.data.sources import image_paths, read_source
from tellapart.errors import SourceError
from tests.data.folders import read

PETS = Path(ta.__file__).parent / "data" / "builtin" / "pets"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photographs each of three breeds, 0.jpg to 17.jpg; by number, the breeds take turns."""
    breeds = [sorted((PETS / breed).iterdir())[:6] for breed in ("Abyssinian", "Bengal", "american_bulldog")]
    for number, photo in enumerate(photo for each in zip(*breeds, strict=True) for photo in each):
        shutil.copy(photo, tmp_path / f"{number}.jpg")
    return tmp_path


NAMES = ("abyssinian", "bengal", "bulldog")


def table(folder: Path, header: str, line: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    """One line for each photograph. line: with {n} its number, {label} its breed, {hot} the breed as 1,0,0."""
    lines = [header]
    for n in range(18):
        hot = ",".join("1" if each == n % 3 else "0" for each in range(3))
        lines.append(line.format(n=n, label=NAMES[n % 3], hot=hot, held=n % 6 > 2))
    path = folder / name
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def splits(catalog: Catalog) -> Counter[str]:
    return Counter(image.split for image in catalog.images)


def kinds(catalog: Catalog) -> set[str]:
    return {finding.kind for finding in catalog.findings}


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("1", "0"), ("true", "false"), ("1.0", "0.0")])
def test_is_valid_of_fastai_says_which_images_are_for_validation(yes: str, no: str, photos: Path) -> None:
    path = table(photos, "name,label,is_valid", "{n}.jpg,{label},{held}")
    path.write_text(path.read_text("utf-8").replace("True", yes).replace("False", no), encoding="utf-8")
    catalog = ta.read(path)
    held = {image.path for image in catalog.images if image.split == "validation"}
    assert held == {f"{n}.jpg" for n in range(18) if n % 6 > 2}
    assert splits(catalog)["test"] == 3, "drawn from the training images, as for any split that is given in part"
    assert "is_valid" in catalog.layout


def test_is_valid_and_is_test_together_say_all_three_splits(photos: Path) -> None:
    lines = [f"{n}.jpg,{NAMES[n % 3]},{n % 6 == 3},{n % 6 == 4}" for n in range(18)]
    (photos / "t.csv").write_text("\n".join(["name,label,is_valid,is_test", *lines]), encoding="utf-8")
    rows = read(photos / "t.csv").rows
    assert Counter(row.split for row in rows) == {"train": 12, "validation": 3, "test": 3}
    assert {row.split for row in rows if int(row.path[:-4]) % 6 == 4} == {"test"}


def test_what_is_neither_true_nor_false_in_is_valid_is_pointed_at(photos: Path) -> None:
    source = read(table(photos, "name,label,is_valid", "{n}.jpg,{label},perhaps"))
    (found,) = [finding for finding in source.findings if finding.kind == "split-not-used"]
    assert found.meaning == "Column 'is_valid' holds 'perhaps'; expected true and false, or 1 and 0."
    assert {row.split for row in source.rows} == {""}


def test_is_train_leaves_the_others_to_test(photos: Path) -> None:
    rows = read(table(photos, "name,label,is_train", "{n}.jpg,{label},{held}")).rows
    assert {row.split for row in rows if int(row.path[:-4]) % 6 > 2} == {"train"}
    assert Counter(row.split for row in rows) == {"train": 9, "test": 9}


@pytest.mark.parametrize("form", ["csv", "frame"])
def test_columns_of_0_and_1_with_one_1_a_row_are_the_classes(form: str, photos: Path) -> None:
    path = table(photos, "image,MEL,NV,BCC", "{n}.jpg,{hot}")
    if form == "frame":
        pandas = pytest.importorskip("pandas")
        frame = pandas.read_csv(path)
        frame["image"] = [str(photos / name) for name in frame["image"]]
        source = read_source(
            pandas.concat([frame["image"], frame[["MEL", "NV", "BCC"]] == 1], axis=1), ta.Config().data
        )
    else:
        source = read(path)
    assert {row.label for row in source.rows} == {"MEL", "NV", "BCC"}
    assert {row.label for row in source.rows if int(Path(row.path).stem) % 3 == 1} == {"NV"}
    assert "'MEL'" in source.layout


def test_the_column_of_row_numbers_that_pandas_writes_is_no_class(photos: Path) -> None:
    source = read(table(photos, ",image,MEL,NV,BCC", "{n},{n}.jpg,{hot}"))
    assert {row.label for row in source.rows} == {"MEL", "NV", "BCC"}


def test_a_row_of_zeros_has_no_label_and_is_told(photos: Path) -> None:
    path = table(photos, "image,MEL,NV,BCC", "{n}.jpg,{hot}")
    path.write_text(path.read_text("utf-8").replace("4.jpg,0,1,0\n", "4.jpg,0,0,0\n", 1), encoding="utf-8")
    source = read(path)
    assert len(source.rows) == 17
    assert [finding.paths for finding in source.findings if finding.kind == "unlabelled"] == [("4.jpg",)]


def test_several_ones_a_row_are_refused_with_what_to_do_where_one_label_is_asked_for(photos: Path) -> None:
    path = table(photos, "image,MEL,NV,BCC", "{n}.jpg,{hot}")
    path.write_text(path.read_text("utf-8").replace("3.jpg,1,0,0", "3.jpg,1,0,1", 1), encoding="utf-8")
    with pytest.raises(SourceError, match=r"one row has several 1s: row 4 is 'MEL' and 'BCC'.*--label-column NAME"):
        read(path, kind="multiclass")
    assert {row.label for row in read(path, label_column="NV").rows} == {"0", "1"}


def test_columns_with_other_numbers_are_no_classes(photos: Path) -> None:
    with pytest.raises(SourceError, match="none has a usual name for the class"):
        read(table(photos, "image,age,sex", "{n}.jpg,{n},1"))
    with pytest.raises(SourceError, match="none has a usual name for the class"):
        read(table(photos, "image,dark,blurred", "{n}.jpg,0,0"))


@pytest.mark.parametrize(
    "several", ["abyssinian|bengal", "abyssinian;bengal", '"abyssinian, bengal"', "\"['a', 'b']\""]
)
def test_a_cell_of_several_labels_is_no_class_of_its_own_and_refused_where_one_is_asked_for(
    several: str, photos: Path
) -> None:
    path = table(photos, "image,labels", "{n}.jpg,{label}")
    path.write_text(path.read_text("utf-8").replace("5.jpg,bulldog", f"5.jpg,{several}", 1), encoding="utf-8")
    with pytest.raises(
        SourceError, match=r"column 'labels': 1 row names several labels, such as .* in row 6\. An image"
    ):
        read(path, kind="multiclass")
    source = read(path)
    assert source.several
    assert source.labels == ({"a", "b"} if "[" in several else set()) | set(NAMES)
    assert len({row.label for row in source.rows}) == 4


def test_labels_that_only_ever_stand_together_are_several_all_the_same(photos: Path) -> None:
    lines = [f"{n}.jpg,{('a|b', 'b|c', 'a|c')[n % 3]}" for n in range(18)]
    (photos / "t.csv").write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    assert read(photos / "t.csv").labels == {"a", "b", "c"}


@pytest.mark.parametrize("names", [("tench, Tinca tinca", "goldfish, Carassius"), ("a, b", "b, c"), ("1,5", "2,5")])
def test_a_comma_within_the_name_of_a_class_is_part_of_it(names: tuple[str, str], photos: Path) -> None:
    lines = [f'{n}.jpg,"{names[n % 2]}"' for n in range(18)]
    (photos / "t.csv").write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    source = read(photos / "t.csv")
    assert {row.label for row in source.rows} == set(names)
    assert not source.findings


@pytest.mark.parametrize(("label", "other"), [("scab rust", "scab,rust"), ("scab|mildew", "scab"), ("x;y", "z")])
def test_a_name_that_may_be_several_labels_is_told(label: str, other: str, photos: Path) -> None:
    names = [label, *other.split(","), "healthy"]
    lines = [f"{n}.jpg,{names[n % len(names)]}" for n in range(18)]
    (photos / "t.csv").write_text("\n".join(["image;label" if ";" in label else "image,label", *lines]), "utf-8")
    if ";" in label:
        text = (photos / "t.csv").read_text("utf-8").replace("image;label", "image,label")
        (photos / "t.csv").write_text(text, encoding="utf-8")
    source = read(photos / "t.csv")
    assert label in {row.label for row in source.rows}
    (found,) = [finding for finding in source.findings if finding.kind == "several-labels"]
    assert found.needs_person
    assert label in found.meaning


def test_lists_of_one_label_are_that_label(photos: Path) -> None:
    pandas, parquet = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    assert parquet
    frame = pandas.DataFrame({"image": [f"{n}.jpg" for n in range(18)], "label": [[NAMES[n % 3]] for n in range(18)]})
    frame.to_parquet(photos / "t.parquet")
    frame.to_csv(photos / "t.csv", index=False)
    for name in ("t.parquet", "t.csv"):
        assert {row.label for row in read(photos / name).rows} == set(NAMES)
    frame["image"] = [str(photos / name) for name in frame["image"]]
    assert {row.label for row in read_source(frame, ta.Config().data).rows} == set(NAMES)
    frame.at[3, "label"] = ["bengal", "bulldog"]
    frame.to_parquet(photos / "t.parquet")
    source = read(photos / "t.parquet")
    assert {row.label for row in source.rows} == {*NAMES, "bengal|bulldog"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_spreadsheet_that_writes_utf_16_is_read_and_it_is_told(encoding: str, photos: Path) -> None:
    path = table(photos, "image,label", "{n}.jpg,Kätzchen {label}", encoding=encoding)
    source = read(path)
    assert {row.label for row in source.rows} == {f"Kätzchen {name}" for name in NAMES}
    assert f"({encoding[:6].upper()})" in source.layout


def test_utf_16_that_breaks_off_is_said_to(photos: Path) -> None:
    path = table(photos, "image,label", "{n}.jpg,{label}", encoding="utf-16")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"begins as UTF-16 and is damaged at byte .* save it as UTF-8"):
        read(path)


def test_a_spreadsheet_of_western_windows_is_read_and_it_is_told(photos: Path) -> None:
    (photos / "5.jpg").rename(photos / "Mädchen.jpg")
    path = table(photos, "Bild,größe,Rasse", "{n}.jpg,5,Kätzchen {label}", encoding="cp1252")
    path.write_bytes(path.read_bytes().replace(b"\n5.jpg", b"\nM\xe4dchen.jpg"))
    source = read(path, path_column="Bild", label_column="rasse")
    assert {row.path: row.label for row in source.rows}["Mädchen.jpg"] == "Kätzchen bulldog"
    (found,) = source.findings
    assert (found.kind, found.severity) == ("table-encoding", "note")
    assert "read as Windows-1252, such as 'Kätzchen abyssinian'" in found.meaning


@pytest.mark.parametrize(
    ("word", "encoding"),
    [("кошка", "cp1251"), ("猫", "shift-jis"), ("kočka", "cp852"), ("Kätzchen", "mac-roman"), ("Kätzchen", "cp437")],
)
def test_letters_that_cannot_be_told_are_refused_with_how_to_convert(word: str, encoding: str, photos: Path) -> None:
    path = table(photos, "image,label", "{n}.jpg," + word + " {label}", encoding=encoding)
    with pytest.raises(
        SourceError, match=r"is not UTF-8, and the encoding of its label .* CSV UTF-8; a shell: iconv -f"
    ):
        read(path)


def test_an_excel_file_that_is_named_csv_is_said_to_be_none(photos: Path) -> None:
    (photos / "t.csv").write_bytes(b"PK\3\4\x14\0\6\0" + bytes(400))
    with pytest.raises(SourceError, match=r"an Excel table\. Save it as CSV UTF-8, and name that"):
        read(photos / "t.csv")


def move(photos: Path, numbers: range, folder: str, prefix: str = "") -> None:
    (photos / folder).mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (photos / f"{n}.jpg").rename(photos / folder / f"{prefix}{n}.jpg")


@pytest.mark.parametrize("named", ["folder", "table"])
def test_ids_of_kaggle_name_images_in_a_folder_beside_the_table(named: str, photos: Path) -> None:
    move(photos, range(18), "train")
    for n in range(4):
        shutil.copy(photos / f"train/{n}.jpg", photos / f"train/0a{n}.jpg")
        (photos / "test").mkdir(exist_ok=True)
        shutil.copy(photos / f"train/{n}.jpg", photos / f"test/{n}.jpg")
    path = table(photos, "id,breed", "{n},{label}")
    (photos / "sample_submission.csv").write_text("id,breed\n0,bengal\n", encoding="utf-8")
    source = read(photos if named == "folder" else path)
    assert {row.path: row.label for row in source.rows} == {f"train/{n}.jpg": NAMES[n % 3] for n in range(18)}
    assert "images found in train" in source.layout
    assert {row.split for row in source.rows} == {""}
    if named == "folder":
        told = {finding.kind: finding.paths for finding in source.findings}
        assert len(told["unlabelled"]) == 8
        assert told["table-not-used"] == ("sample_submission.csv",)


def test_a_name_in_two_folders_is_not_guessed(photos: Path) -> None:
    move(photos, range(18), "images")
    shutil.copytree(photos / "images", photos / "masks")
    path = table(photos, "id,breed", "{n},{label}")
    with pytest.raises(SourceError, match=r"'0' matches images in 2 folders .*: images, masks\. .*--root FOLD"):
        read(path)
    assert len(read(path, root="images").rows) == 18


def test_images_in_several_folders_are_found_below_the_table(photos: Path) -> None:
    move(photos, range(9), "part_1", "ISIC_")
    move(photos, range(9, 18), "part_2/inner", "ISIC_")
    source = read(table(photos, "image_id,dx", "ISIC_{n},{label}"), label_column="dx")
    assert {row.path for row in source.rows} >= {"part_1/ISIC_0.jpg", "part_2/inner/ISIC_17.jpg"}


def test_few_images_that_lie_below_by_chance_are_not_taken(photos: Path) -> None:
    move(photos, range(3), "other")
    with pytest.raises(SourceError, match="none of its 18 images exists below"):
        read(table(photos, "image,label", "x{n}.jpg,{label}"))
    (photos / "other/0.jpg").rename(photos / "other/x0.jpg")
    with pytest.raises(SourceError, match="none of its 18 images exists below"):
        read(photos / "labels.csv")


def test_folders_are_looked_through_within_bounds(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move(photos, range(18), "a/b/c/d")
    path = table(photos, "image,label", "{n}.jpg,{label}")
    (photos / "a/loop").symlink_to(photos)
    with pytest.raises(SourceError, match="none of its 18 images exists below"):
        read(path)
    monkeypatch.setattr(image_paths, "MAX_ENTRIES", 2)
    with pytest.raises(SourceError, match=r"more than 2 files below it\. Tell where they are with --root FOLDER"):
        read(path)


@pytest.mark.parametrize("inner", ["", "images"])
def test_metadata_of_hugging_face_in_each_split_folder_is_read_with_the_splits(inner: str, photos: Path) -> None:
    below = f"{inner}/" if inner else ""
    for folder, numbers in (("train", range(12)), ("test", range(12, 18))):
        move(photos, numbers, f"{folder}/{inner}")
        lines = [f"{below}{n}.jpg,{NAMES[n % 3]}" for n in numbers]
        (photos / folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]), encoding="utf-8")
    catalog = ta.read(photos)
    assert {image.label for image in catalog.images} == set(NAMES)
    tested = {image.path for image in catalog.images if image.split == "test"}
    assert tested == {f"test/{below}{n}.jpg" for n in range(12, 18)}
    assert splits(catalog)["validation"] == 3
    assert catalog.layout.startswith("2 tables, one a split: test/metadata.csv: columns path 'file_name'")
    assert not {"missing-file", "unlabelled"} & kinds(catalog)


def test_what_is_found_in_one_of_several_tables_names_its_files(photos: Path) -> None:
    for folder, numbers in (("train", range(12)), ("test", range(12, 18))):
        move(photos, numbers, folder)
        lines = [f"{n}.jpg,{NAMES[n % 3]}" for n in numbers]
        (photos / folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]), encoding="utf-8")
    with (photos / "test/metadata.csv").open("a", encoding="utf-8") as file:
        file.write("\n99.jpg,bengal\n12.jpg,bengal\n../train/0.jpg,abyssinian\n,bengal\n")
    source = read(photos)
    told = {finding.kind: finding for finding in source.findings}
    assert told["missing-file"].paths == ("test/99.jpg", "test/metadata.csv row 10 names no image")
    assert told["missing-file"].meaning.startswith("test/metadata.csv: 2 rows")
    assert told["conflicting-labels"].paths == ("test/12.jpg",)
    assert told["conflicting-rows"].paths == ("train/0.jpg",), "in two splits"


def test_train_csv_and_test_csv_are_the_splits_that_they_are_named_for(photos: Path) -> None:
    whole = table(photos, "file,label", "{n}.jpg,{label}").read_text("utf-8").splitlines()
    (photos / "labels.csv").unlink()
    (photos / "train.csv").write_text("\n".join(whole[:13]), encoding="utf-8")
    (photos / "test.csv").write_text("\n".join([whole[0], *whole[13:]]), encoding="utf-8")
    assert Counter(row.split for row in read(photos).rows) == {"train": 12, "test": 6}
    (photos / "test.csv").rename(photos / "more.csv")
    with pytest.raises(
        SourceError, match=r"2 tables .*: more\.csv, train\.csv\. Name one of them; or, if they are spl"
    ):
        read(photos)


def test_a_table_above_split_folders_keeps_their_splits(photos: Path) -> None:
    move(photos, range(12), "train")
    move(photos, range(12, 18), "test")
    lines = [f"{'train' if n < 12 else 'test'}/{n}.jpg,{NAMES[n % 3]}" for n in range(18)]
    (photos / "metadata.csv").write_text("\n".join(["file_name,label", *lines]), encoding="utf-8")
    source = read(photos)
    assert Counter(row.split for row in source.rows) == {"train": 12, "test": 6}
    assert source.layout.endswith("; splits by folder")
