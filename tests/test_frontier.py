"""benchmarks.frontier takes hours: it can be stopped at any time, and shows what it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import frontier
from benchmarks.frontier import Asked, Result, append, missing, read
from tellapart.models.runtime import processor

FOLDERS = [Path("pets"), Path("signs")]


def result(asked: Asked) -> Result:
    return Result(asked.folder.name, asked.way, asked.seed, 0.9 + asked.seed / 100, 100, 12.0, processor())


def test_seeds_come_last_and_what_the_file_holds_is_not_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    whole = missing(read(file), FOLDERS, ["before", "default"], 3)
    assert [each.seed for each in whole] == [0] * 4 + [1] * 4 + [2] * 4
    for each in whole[:5]:
        append(file, result(each))
    assert missing(read(file), FOLDERS, ["before", "default"], 3) == whole[5:]


def test_a_line_that_a_kill_broke_off_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    one, other = missing([], FOLDERS, ["default"], 1)
    append(file, result(one))
    with file.open("a", encoding="utf-8") as opened:
        opened.write('{"data": "signs", "way"')
    assert missing(read(file), FOLDERS, ["default"], 1) == [other]
    append(file, result(other))
    assert read(file) == [result(one), result(other)]


def test_a_way_that_fails_and_ctrl_c_leave_the_table_and_the_figure_of_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(way: str, data: Path, seed: int) -> Result:
        if way == "keras":
            raise RuntimeError("no Keras here")
        if seed == 1:
            raise KeyboardInterrupt
        return result(Asked(data, way, seed))

    monkeypatch.setattr(frontier, "measured", measured)
    monkeypatch.delenv("FASTAI_PYTHON", raising=False)
    file = tmp_path / "results.jsonl"
    with pytest.raises(SystemExit, match="2 failed"):
        frontier.main([*map(str, FOLDERS), "--ways", "default,keras,fastai", "--seeds", "2", "--results", str(file)])
    shown = capsys.readouterr()
    assert "| pets | 90.0 % in 12 s |" in shown.out
    assert "no Keras here" in shown.err
    assert "without fastai" in shown.err
    assert (tmp_path / "results.svg").read_text(encoding="utf-8").startswith("<svg")


def test_times_of_two_processors_are_not_put_into_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.jsonl"
    append(file, replace(result(Asked(FOLDERS[0], "default", 0)), processor="another one"))
    with pytest.raises(SystemExit):
        frontier.main([str(FOLDERS[0]), "--ways", "default", "--results", str(file)])
    assert "was measured on another one" in capsys.readouterr().err
    frontier.main(["--seeds", "0", "--results", str(file)])  # the table of any machine's results
