"""Tables -> Source: csv, tsv, parquet and DataFrame, with guessed and with named columns."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources import Source, read_source
from tellapart.errors import MissingExtraError, SourceError

pandas = pytest.importorskip("pandas")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images 0.jpg to 9.jpg."""
    for number in range(10):
        (tmp_path / f"{number}.jpg").touch()
    return tmp_path


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(data: object, **config: str) -> Source:
    return read_source(data, DataConfig(**config))  # type: ignore[arg-type]


def labels(source: Source) -> dict[str, str]:
    return {row.path: row.label for row in source.rows}


def finding(source: Source, kind: str) -> Finding:
    (found,) = [f for f in source.findings if f.kind == kind]
    return found


def _csv(folder: Path, columns: dict[str, list[object]]) -> object:
    pandas.DataFrame(columns).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def _tsv(folder: Path, columns: dict[str, list[object]]) -> object:
    pandas.DataFrame(columns).to_csv(folder / "t.tsv", index=False, sep="\t")
    return folder / "t.tsv"


def _parquet(folder: Path, columns: dict[str, list[object]]) -> object:
    pytest.importorskip("pyarrow")
    pandas.DataFrame(columns).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def _frame(folder: Path, columns: dict[str, list[object]]) -> object:
    return pandas.DataFrame({**columns, "file": [str(folder / str(name)) for name in columns["file"]]})


def _folder(folder: Path, columns: dict[str, list[object]]) -> object:
    _csv(folder, columns)
    return folder


FORMS = pytest.mark.parametrize("form", [_csv, _tsv, _parquet, _frame, _folder])
Form = Callable[[Path, dict[str, list[object]]], object]


@FORMS
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["cat", "dog", "cat"], ["cat", "dog", "cat"]),
        ([0, 1, 10], ["0", "1", "10"]),
        ([True, False, True], ["true", "false", "true"]),
        ([1.0, 2.0, None], ["1", "2"]),
        ([1.5, 2.0, 2.5], ["1.5", "2.0", "2.5"]),
        (["cat", "dog", None], ["cat", "dog"]),
        (["cat", "dog", " "], ["cat", "dog"]),
        (["1.0", "v2.0", "3"], ["1.0", "v2.0", "3"]),
    ],
)
def test_every_form_gives_the_same_labels(
    form: Form, values: list[object], expected: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    source = read(form(photos, {"file": ["1.jpg", "2.jpg", "3.jpg"], "label": values}))
    assert [row.label for row in source.rows] == expected
    assert [Path(row.path).name for row in source.rows] == ["1.jpg", "2.jpg", "3.jpg"][: len(expected)]
    unlabelled = [f.paths for f in source.findings if f.kind == "unlabelled"]
    assert [path for paths in unlabelled for path in paths if path.endswith("3.jpg")] == ["3.jpg"] * (3 - len(expected))


def test_a_frame_reads_below_the_current_folder_and_gives_relative_paths(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    frame = pandas.DataFrame({"img": ["1.jpg", "2.jpg"], "label": pandas.Categorical(["a", "b"])}, index=[7, 7])
    source = read(frame)
    assert labels(source) == {"1.jpg": "a", "2.jpg": "b"}
    assert source.root == photos
    absolute = pandas.DataFrame({"img": [photos / "1.jpg", photos / "2.jpg"], "label": ["a", "b"]})
    assert labels(read(absolute)) == {"1.jpg": "a", "2.jpg": "b"}
    monkeypatch.chdir("/")
    assert labels(read(frame, root=str(photos))) == {"1.jpg": "a", "2.jpg": "b"}


def test_columns_of_one_name_and_names_that_are_no_strings(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    frame = pandas.DataFrame([["1.jpg", "a", "x", 0], ["2.jpg", "b", "x", 0]], columns=["path", "label", "label", 3])
    assert labels(read(frame)) == {"1.jpg": "a", "2.jpg": "b"}
    assert labels(read(write(photos, "path,label,label\n1.jpg,a,x\n2.jpg,b,x\n"))) == {"1.jpg": "a", "2.jpg": "b"}


def test_cells_that_are_no_number_and_booleans_among_words(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    frame = pandas.DataFrame({"path": ["1.jpg", "2.jpg", "3.jpg"], "label": [True, "cat", "True"]}, dtype=object)
    assert [row.label for row in read(frame).rows] == ["true", "cat", "True"]
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"path": ["1.jpg", "2.jpg", "3.jpg"], "label": [1.0, 2.0, float("nan")]})
    parquet.write_table(table, photos / "t.parquet")
    assert [row.label for row in read(photos / "t.parquet").rows] == ["1", "2"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_any_usual_delimiter(delimiter: str, ending: str, suffix: str, photos: Path) -> None:
    lines = [
        delimiter.join(cells) for cells in (("Image Path", " Class "), ("1.jpg", "a, b"), ("2.jpg", " dog"), ("", ""))
    ]
    if delimiter == ",":
        lines[1] = '1.jpg,"a, b"'
    path = photos / f"t.{suffix}"
    path.write_bytes(ending.join(lines).encode())
    assert labels(read(path)) == {"1.jpg": "a, b", "2.jpg": "dog"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(encoding: str, photos: Path) -> None:
    (photos / "t.csv").write_text("path,label\n1.jpg,Kätzchen\n2.jpg,Hund\n", encoding=encoding)
    assert set(labels(read(photos / "t.csv")).values()) == {"Kätzchen", "Hund"}


def test_undecodable_bytes_in_a_csv_still_name_the_file(photos: Path) -> None:
    name = b"p\xff.jpg".decode("utf-8", "surrogateescape")
    try:
        (photos / name).touch()
    except OSError:
        pytest.skip("this file system takes no undecodable names")
    (photos / "t.csv").write_bytes(b"path,label\np\xff.jpg,caf\xe9\n1.jpg,b\n")
    assert labels(read(photos / "t.csv")) == {name: "café", "1.jpg": "b"}


def test_spaces_commas_and_hashes_in_names(photos: Path) -> None:
    (photos / "a b, c#1.jpg").touch()
    path = write(photos, 'file name,breed\n"a b, c#1.jpg",x\n1.jpg,y\n')
    assert labels(read(path)) == {"a b, c#1.jpg": "x", "1.jpg": "y"}


def test_names_are_found_in_the_other_unicode_form_with_back_slashes_and_without_suffix(photos: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.jpg")
    (photos / "in").mkdir()
    (photos / "in" / decomposed).touch()
    path = write(photos, f"id,label\nin\\{unicodedata.normalize('NFC', 'é.jpg')},a\n./in/../1,b\n{photos}/2.jpg,b\n")
    assert labels(read(path)) == {f"in/{decomposed}": "a", "1.jpg": "b", "2.jpg": "b"}


def test_images_outside_the_root_keep_their_whole_path(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    source = read(write(other, f"path,label\n{photos}/1.jpg,a\n{photos}/2.jpg,b\n"))
    assert {source.root / row.path for row in source.rows} == {photos / "1.jpg", photos / "2.jpg"}


@pytest.mark.parametrize("root", ["images", None])
def test_a_root_is_taken_from_the_folder_of_the_table(root: str | None, photos: Path) -> None:
    (photos / "meta").mkdir()
    (photos / "meta/images").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (photos / "meta/images" / name).touch()
    path = write(photos / "meta", "path,label\n1.jpg,a\n2.jpg,b\n")
    source = read(path, root=root or str(photos / "meta/images"))
    assert source.root == photos / "meta/images"
    with pytest.raises(SourceError, match=r"data\.root is 'gone'"):
        read(path, root="gone")


def test_split_and_group_columns_are_used(photos: Path) -> None:
    path = write(
        photos, "path,label,Split,patient_id\n1.jpg,a,TRAIN,p1\n2.jpg,b,train,p2\n3.jpg,a,val,p3\n4.jpg,b,testing,\n"
    )
    source = read(path)
    assert [(row.split, row.group) for row in source.rows] == [
        ("train", "p1"),
        ("train", "p2"),
        ("validation", "p3"),
        ("test", ""),
    ]
    assert "patient_id" in source.layout


def test_a_column_of_other_words_than_splits_is_pointed_at(photos: Path) -> None:
    source = read(write(photos, "path,label,fold\n1.jpg,a,train\n2.jpg,b,2\n3.jpg,a,test\n"))
    assert finding(source, "split-not-used").severity == "warning"
    assert {row.split for row in source.rows} == {""}


def test_a_table_of_test_images_only_is_refused(photos: Path) -> None:
    with pytest.raises(SourceError, match="test images only"):
        read(write(photos, "path,label,split\n1.jpg,a,test\n2.jpg,b,test\n"))


def test_named_columns_decide(photos: Path) -> None:
    path = write(photos, "path,label,Where,what\n9.jpg,x,1.jpg,a\n9.jpg,x,2.jpg,b\n")
    assert labels(read(path, path_column="where", label_column="what")) == {"1.jpg": "a", "2.jpg": "b"}
    with pytest.raises(SourceError, match=r"data\.label_column: There is no column 'whta'\. Did you mean 'what'"):
        read(path, label_column="whta")


def test_columns_that_cannot_be_told_are_listed(photos: Path) -> None:
    with pytest.raises(SourceError, match=r"columns 'a', 'b'; none has a usual name for the image.*--path-column NAME"):
        read(write(photos, "a,b\n1.jpg,x\n"))
    with pytest.raises(SourceError, match="is empty"):
        read(write(photos, ""))


def test_missing_files_are_found_and_left_out(photos: Path) -> None:
    source = read(write(photos, "path,label\n1.jpg,a\n2.jpg,b\n77.jpg,a\n,b\n"))
    found = finding(source, "missing-file")
    assert found.severity == "error"
    assert found.paths == ("77.jpg", "labels.csv row 4 names no image")
    assert len(source.rows) == 2


def test_no_file_at_all_says_where_was_looked(photos: Path) -> None:
    with pytest.raises(SourceError, match=r"none of its 2 images exists below .*'x\.jpg'.*--root FOLDER"):
        read(write(photos, "path,label\nx.jpg,a\ny.jpg,b\n"))
    with pytest.raises(SourceError, match="it has no rows"):
        read(write(photos, "path,label\n"))


def test_equal_rows_are_kept_once_and_contradicting_ones_not_at_all(photos: Path) -> None:
    rows = ["1.jpg,a,", "./1.jpg,a,", "2.jpg,b,", "3.jpg,a,", "3.jpg,b,", "3.jpg,b,", "4.jpg,a,g", "4.jpg,a,h"]
    text = "\n".join(["path,label,group", *rows, "5.jpg,,", "5.jpg,a,"])
    source = read(write(photos, text))
    assert labels(source) == {"1.jpg": "a", "2.jpg": "b"}
    assert (finding(source, "repeated-row").severity, finding(source, "repeated-row").paths) == ("note", ("1.jpg",))
    conflict = finding(source, "conflicting-labels")
    assert (conflict.severity, conflict.paths) == ("error", ("3.jpg", "5.jpg"))
    assert finding(source, "conflicting-rows").paths == ("4.jpg",)


def test_lines_with_too_many_cells_are_left_out(photos: Path) -> None:
    source = read(write(photos, "path,label\n1.jpg,a\n2.jpg,b,\n3.jpg,a,b\n4.jpg\n"))
    assert labels(source) == {"1.jpg": "a", "2.jpg": "b"}
    assert finding(source, "uneven-row").paths == ("labels.csv line 4",)
    assert finding(source, "unlabelled").paths == ("4.jpg",)


def test_rows_come_in_natural_order(photos: Path) -> None:
    (photos / "10.jpg").touch()
    source = read(write(photos, "path,label\n10.jpg,a\n9.jpg,b\n1.jpg,a\n"))
    assert [row.path for row in source.rows] == ["1.jpg", "9.jpg", "10.jpg"]


def test_a_folder_with_one_table_uses_it_and_names_what_it_misses(photos: Path) -> None:
    write(photos, "path,label\n1.jpg,a\n2.jpg,b\n3.jpg,\n4.jpg,a\n4.jpg,b\n")
    write(photos, "id,probability\n1,0.5\n", "sample_submission.csv")
    source = read(photos)
    assert labels(source) == {"1.jpg": "a", "2.jpg": "b"}
    assert [f.paths for f in source.findings if f.kind == "unlabelled"] == [
        ("3.jpg",),
        tuple(f"{n}.jpg" for n in (0, 5, 6, 7, 8, 9)),
    ]


def test_a_folder_with_two_tables_asks_which(photos: Path) -> None:
    write(photos, "path,label\n1.jpg,a\n2.jpg,b\n", "one.csv")
    write(photos, "path,label\n1.jpg,a\n2.jpg,b\n", "two.csv")
    with pytest.raises(SourceError, match=r"2 tables of images: one\.csv, two\.csv"):
        read(photos)


def test_class_folders_win_over_a_table_unless_a_column_is_named(tmp_path: Path) -> None:
    for name in ("part1/1.jpg", "part2/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    write(tmp_path, "path,dx\npart1/1.jpg,mole\npart2/2.jpg,wart\n")
    source = read(tmp_path)
    assert {row.label for row in source.rows} == {"part1", "part2"}
    assert finding(source, "table-not-used").paths == ("labels.csv",)
    assert labels(read(tmp_path, label_column="dx")) == {"part1/1.jpg": "mole", "part2/2.jpg": "wart"}


def test_tables_that_cannot_be_read_are_explained(photos: Path) -> None:
    pytest.importorskip("pyarrow")
    for name, content in (("t.parquet", b"PAR1 no table"), ("u.parquet", b"")):
        (photos / name).write_bytes(content)
        with pytest.raises(SourceError, match="not a parquet table, or it is damaged"):
            read(photos / name)
    (photos / "t.csv").write_bytes(b'path,label\n"' + b"x" * 200_000 + b'",a\n')
    with pytest.raises(SourceError, match="line 2, field larger"):
        read(photos / "t.csv")
    (photos / "t.csv").write_bytes(bytes(200_000))
    with pytest.raises(SourceError, match="line 1, field larger"):
        read(photos / "t.csv")


@pytest.mark.parametrize("what", ["a name", "a cell", "a time"])
def test_a_parquet_table_whose_names_cells_or_times_are_none_is_an_error_in_words(what: str, photos: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    column = arrow.array([2**62], arrow.timestamp("ms")) if what == "a time" else ["caf\u00e9"]
    name = "caf\u00e9" if what == "a name" else "x"
    table = arrow.table({"path": ["0.jpg"], "label": ["cat"], name: column})
    path = photos / "t.parquet"
    parquet.write_table(
        table, path, compression="none", use_dictionary=False, write_statistics=False, store_schema=False
    )
    path.write_bytes(path.read_bytes().replace("caf\u00e9".encode(), b"caf\xff\xff"))
    with pytest.raises(SourceError, match="not a parquet table, or it is damaged"):
        read(path)


def test_parquet_without_its_extra_names_the_extra(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"tellapart\[tables\]"):
        read(photos / "t.parquet")


def test_a_column_that_is_known_stands_in_the_command_to_type(photos: Path) -> None:
    (photos / "labels.csv").write_text("file;Tier Art\n1.jpg;cat\n", encoding="utf-8")
    with pytest.raises(SourceError, match='--path-column "file" --label-column NAME'):
        read(photos / "labels.csv")


def test_an_empty_table_is_said_to_be_empty(photos: Path) -> None:
    (photos / "labels.csv").write_text("", encoding="utf-8")
    with pytest.raises(SourceError, match=r"labels\.csv is empty\. It needs a header line"):
        read(photos / "labels.csv")
