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
    assert f"| pets | {processor()} | 90.0 % in 12 s |" in shown.out
    assert "no Keras here" in shown.err
    assert "without fastai" in shown.err
    assert (tmp_path / "results.svg").read_text(encoding="utf-8").startswith("<svg")


def test_times_of_two_processors_are_not_put_beside_each_other_for_one_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(frontier, "measured", lambda way, data, seed: result(Asked(data, way, seed)))
    file = tmp_path / "results.jsonl"
    pets, signs = FOLDERS
    append(file, replace(result(Asked(pets, "default", 0)), processor="another one"))
    asked = ["--ways", "default", "--seeds", "1", "--results", str(file)]
    with pytest.raises(SystemExit):
        frontier.main([*map(str, FOLDERS), *asked])
    assert f"this is {processor()}, and measured were pets on another one" in capsys.readouterr().err
    frontier.main([str(signs), *asked])
    assert [(each.data, each.processor) for each in read(file)] == [("pets", "another one"), ("signs", processor())]
    frontier.main(["--seeds", "0", "--results", str(file)])
    assert "| pets | another one | 90.0 % in 12 s |" in capsys.readouterr().out
