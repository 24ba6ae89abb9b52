from __future__ import annotations

from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.corrections import Correction, corrected, read_corrections, write_corrections
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ConfigError

SOURCE = Source(
    Path(),
    (LabelledPath("a/1.jpg", "a"), LabelledPath("a/2.jpg", "a", "", "old"), LabelledPath("b/3.jpg", "b")),
    "class folders",
)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "corrections.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    rows = (
        Correction("a/1.jpg", "relabel", label="b", reason='looks like "b", 97 %'),
        Correction("a/caf\udce9.jpg", "drop"),
        Correction("b/3, 4.jpg", "regroup", group="copies-1"),
    )
    write_corrections(tmp_path / "c.csv", rows)
    assert read_corrections(tmp_path / "c.csv") == rows


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0.jpg", "+1.jpg", "-1.jpg", "@SUM(A1).jpg", "'=1.jpg", "''-.jpg", "\t=1"]
)
def test_no_cell_is_a_formula_for_a_spreadsheet_and_all_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    rows = (Correction(name, "relabel", label="=b", reason="-"),)
    write_corrections(tmp_path / "c.csv", rows)
    cells = (tmp_path / "c.csv").read_text().splitlines()[1]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells.replace('"', "").split(","))
    assert read_corrections(tmp_path / "c.csv") == rows


def test_names_that_begin_with_an_apostrophe_and_are_no_formula_stay(tmp_path: Path) -> None:
    rows = (Correction("'tis.jpg", "drop"),)
    write_corrections(tmp_path / "c.csv", rows)
    assert "''" not in (tmp_path / "c.csv").read_text()
    assert read_corrections(tmp_path / "c.csv") == rows


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    text = "path;reason;action;label\r\na/1.jpg;; relabel ;b \r\n;;;\r\n"
    path = table(tmp_path, text, encoding="utf-8-sig")
    assert read_corrections(path) == (Correction("a/1.jpg", "relabel", label="b"),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,what\nx,y\n", "its columns are file, what; expected path, action, label, group, reason"),
        ("", "its columns are none"),
        ("path,action\na/1.jpg,delete\n", "line 2: There is no action 'delete'"),
        ("path,action\na/1.jpg,droop\n", "Did you mean 'drop'"),
        ("path,action\n,drop\n", "line 2: it has no path"),
        ("path,action,label\na/1.jpg,relabel,\n", "line 2: a/1.jpg is to be relabelled, but its label is empty"),
        ("path,action,group\na/1.jpg,regroup,\n", "but its group is empty"),
        ("path,action,label\na,relabel,x\na,relabel,y\n", "a is to be relabelled in conflicting ways: x, y"),
    ],
)
def test_a_wrong_table_is_refused_with_the_line_and_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"correct|action") as caught:
        read_corrections(table(tmp_path, text))
    assert told in str(caught.value)


def test_only_the_first_wrong_lines_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    lines = "".join(f"{number}.jpg,delete\n" for number in range(12))
    with pytest.raises(ConfigError, match="and 7 more"):
        read_corrections(table(tmp_path, f"path,action\n{lines}"))


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read: No such file"):
        read_corrections(tmp_path / "none.csv")


def test_rows_are_relabelled_dropped_and_regrouped_and_the_finding_counts_them() -> None:
    rows = (
        Correction("a/1.jpg", "relabel", label="b"),
        Correction("a/2.jpg", "drop"),
        Correction("b/3.jpg", "regroup", group="g"),
        Correction("a/1.jpg", "regroup", group="g"),
    )
    found = corrected(SOURCE, rows, "some/c.csv")
    assert found.rows == (LabelledPath("a/1.jpg", "b", "", "g"), LabelledPath("b/3.jpg", "b", "", "g"))
    assert found.findings[-1].meaning == "Corrections of c.csv: 1 relabelled, 1 dropped, 2 regrouped."


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (Correction("a/9.jpg", "drop"), "a/9.jpg is not among the 3 images"),
        (Correction("a/1.jpg", "relabel", label="c"), "There is no class 'c'"),
    ],
)
def test_corrections_that_do_not_fit_the_images_are_refused(row: Correction, told: str) -> None:
    with pytest.raises(ConfigError, match="nothing was done") as caught:
        corrected(SOURCE, (row,), "c.csv")
    assert told in str(caught.value)


def test_a_catalog_is_read_corrected_and_no_file_is_touched(shapes: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in shapes.rglob("*")}
    text = "path,action,label\ndisc/disc 0.png,relabel,square\ndisc/disc 1.png,drop,\n"
    catalog = ta.read(shapes, corrections=str(table(tmp_path, text)))
    labels = {image.path: image.label for image in catalog.images}
    assert labels["disc/disc 0.png"] == "square"
    assert "disc/disc 1.png" not in labels
    assert len(labels) == 59
    assert {path: path.stat().st_mtime_ns for path in shapes.rglob("*")} == before
