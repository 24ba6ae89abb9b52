"""The table of deliberate faults fits the code, and those who run it are told the truth."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from tests.deliberate_faults import CAUGHT, PACKAGE, ROOT, Fault, main, read_table, try_fault

FAULTS = read_table()
FEWEST = 40


def name_of(fault: Fault) -> str:
    return f"{fault.file}: {fault.harm}"


def test_the_table_has_many_different_faults() -> None:
    assert len(FAULTS) >= FEWEST
    assert len({(fault.file, fault.text, fault.fault) for fault in FAULTS}) == len(FAULTS)
    assert len({fault.harm for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_a_row_of_the_table_stands_in_its_file_once_and_names_a_test_that_exists(fault: Fault) -> None:
    content = (PACKAGE / fault.file).read_text(encoding="utf-8")
    assert content.count(fault.text) == 1
    if fault.file.endswith(".py"):  # a fault that cannot be compiled would be noticed by any test
        tree = ast.parse(content.replace(fault.text, fault.fault))
        assert ast.dump(tree) != ast.dump(ast.parse(content))
    file, _, name = fault.test.partition("::")
    tests = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name.partition("[")[0] in {node.name for node in tests.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.slow
@pytest.mark.parametrize("file", ["data/splits.py", "evaluation/intervals.py", "serve/limits.py"])
def test_a_fault_is_caught_by_the_test_that_its_row_names(file: str) -> None:
    outcome = try_fault(next(fault for fault in FAULTS if fault.file == file))
    assert outcome.verdict == CAUGHT, outcome.said
    assert " failed" in outcome.said


@pytest.mark.slow
def test_a_fault_that_its_test_does_not_notice_is_said_to_be_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guarded = next(fault for fault in FAULTS if fault.file == "data/splits.py")
    blind = replace(guarded, test="tests/data/test_splits.py::test_a_broken_image_stands_in_no_split")
    gone = replace(guarded, test="tests/data/test_splits.py::test_that_is_not_there")
    assert try_fault(gone).verdict == "DID NOT RUN"
    monkeypatch.setattr("tests.deliberate_faults.read_table", lambda: (blind,))
    assert main([]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("NOT CAUGHT")
    assert "0 of 1 faults are caught" in said.out


def test_a_word_that_no_row_holds_is_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such word"]) == 2
    assert "no such word" in capsys.readouterr().err


def test_a_text_that_does_not_stand_there_once_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for text, times in (("x = 1", 2), ("y", 0)):
        with pytest.raises(ValueError, match=f"{times} times; expected once"):
            Fault("a.py", text, "", "", "").apply(tmp_path)
