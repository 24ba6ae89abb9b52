"""Files are written whole or not at all, and text comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tellapart.files import read_text, replacing, write_text
from tests.strategies import names, texts


def test_what_fails_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("whole")

    def fail() -> None:
        with replacing(path) as neighbour:
            neighbour.write_text("ha")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_succeeds_takes_the_place_in_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    for text in ("one", "two"):
        with replacing(path) as neighbour:
            neighbour.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_written_file_may_be_read_by_those_whom_the_umask_allows(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@given(st.lists(names | texts, max_size=4).map("".join))
@example("caf\udce9.jpg")
def test_any_text_comes_back_but_for_its_carriage_returns(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any text"
    text = text.replace("\r", "")
    write_text(path, text)
    assert read_text(path).encode("utf-8", "surrogateescape") == text.encode("utf-8", "surrogateescape")
