from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tellapart.data.corrections import Correction, read_corrections, write_corrections
from tellapart.data.decisions import LOG_COLUMNS, Decisions, OutdatedError
from tellapart.errors import ConfigError

NAMES = ("a/1.jpg", 'a/odd, "name"\n2.jpg', "a/caf\udce9.jpg", "=1+1.jpg")


def decide(made: Decisions, path: str, action: str = "drop", label: str = "", doubt: str = "d") -> None:
    made.append([(doubt, [Correction(path, action, label)])], made.version)  # type: ignore[arg-type]


def test_each_decision_is_in_the_file_at_once_and_found_again(tmp_path: Path) -> None:
    made = Decisions(tmp_path / "c.csv")
    assert not made.path.exists()
    for count, name in enumerate(NAMES, 1):
        decide(made, name, doubt=f"doubt {count}")
        assert [row.path for row in read_corrections(made.path)] == list(NAMES[:count])
        again = Decisions(made.path)
        assert again.made == made.made
        assert again.corrections == made.corrections


def test_undo_goes_back_to_the_beginning_also_after_a_restart(tmp_path: Path) -> None:
    made = Decisions(tmp_path / "c.csv")
    decide(made, "1.jpg", "relabel", "cat")
    made.append([("two", [Correction("2.jpg", "drop")]), ("three", [Correction("3.jpg", "drop")])], made.version)
    decide(made, "1.jpg", "relabel", "dog")
    made = Decisions(made.path)
    assert {row.path: row.label for row in made.corrections}["1.jpg"] == "dog"
    assert [each.doubt for each in made.undo(made.version)] == ["d"]
    assert {row.path: row.label for row in made.corrections}["1.jpg"] == "cat"
    assert [each.doubt for each in made.undo(made.version)] == ["two", "three"]
    assert read_corrections(made.path) == (Correction("1.jpg", "relabel", "cat"),)
    made = Decisions(made.path)
    made.undo(made.version)
    assert made.undo(made.version) == ()
    decide(made, "4.jpg")
    assert [row.path for row in read_corrections(made.path)] == ["4.jpg"]


def test_who_did_not_see_the_last_decision_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    one = Decisions(tmp_path / "c.csv")
    seen = one.version
    decide(one, "1.jpg")
    before = one.path.read_bytes()
    with pytest.raises(OutdatedError):
        one.append([("d", [Correction("1.jpg", "keep")])], seen)
    other = Decisions(one.path)  # such as a second studio
    decide(other, "2.jpg")
    with pytest.raises(OutdatedError):
        one.undo(one.version)
    assert one.path.read_bytes().startswith(before)
    assert [each.rows[0].path for each in one.made] == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 12, 20])
def test_what_a_crash_half_wrote_costs_that_row_alone(tmp_path: Path, cut: int) -> None:
    made = Decisions(tmp_path / "c.csv")
    for number in range(3):
        decide(made, f"{number}, of three.jpg", "relabel", "cat", doubt="0123456789abcdef")
    made.path.write_bytes(made.path.read_bytes()[:-cut])
    again = Decisions(made.path)
    kept = [row.path for row in again.corrections]
    assert kept[:2] == ["0, of three.jpg", "1, of three.jpg"]
    decide(again, "3.jpg")
    assert [row.path for row in read_corrections(made.path)] == [*kept, "3.jpg"]


def test_a_table_of_other_columns_is_taken_over_with_its_rows(tmp_path: Path) -> None:
    rows = (Correction("1.jpg", "relabel", "cat", reason="so"), Correction("2.jpg", "drop"))
    write_corrections(tmp_path / "c.csv", rows)
    made = Decisions(tmp_path / "c.csv")
    assert made.corrections == rows
    decide(made, "3.jpg")
    with made.path.open(newline="") as file:
        assert tuple(next(csv.reader(file))) == LOG_COLUMNS
    assert [row.path for row in read_corrections(made.path)] == ["1.jpg", "2.jpg", "3.jpg"]
    for _ in range(3):
        made.undo(made.version)
    assert not read_corrections(made.path)


def test_what_is_no_table_of_corrections_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("name,colour\n1,red\n")
    with pytest.raises(ConfigError, match="not a table of corrections"):
        Decisions(path)
    assert path.read_text() == "name,colour\n1,red\n"
