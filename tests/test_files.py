"""Files are written whole or not at all, and text comes back as it was."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tellapart import files
from tellapart.files import cache_root, expanded, from_json, read_text, replacing, to_json, write_text
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": -float("inf")}]])
def test_what_json_has_no_number_for_is_neither_written_nor_read(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(value)
    with pytest.raises(ValueError, match="is not a JSON number"):
        from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["1e999", "[-1e999]"])
def test_a_number_larger_than_a_float_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="is not a JSON number"):
        from_json(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)))  # fmt: skip
def test_any_other_value_comes_back_from_json(value: object) -> None:
    assert from_json(to_json(value)) == value
    assert from_json(to_json(value, ascii=True, indent=2)) == value


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with no home, and an empty temporary folder."""
    for name in ("TELLAPART_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", os.fspath)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._temporary_root.cache_clear()
    yield tmp_path
    files._temporary_root.cache_clear()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users have numbers where there is getuid")
@pytest.mark.parametrize("before", ["nothing", "ours", "a link", "a file", "open to others"])
def test_the_cache_of_the_homeless_is_theirs_alone(
    before: str, homeless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = homeless / f"tellapart-{os.getuid()}"
    if before == "a link":
        (homeless / "elsewhere").mkdir()
        usual.symlink_to("elsewhere")
    elif before == "a file":
        usual.write_text("")
    elif before != "nothing":
        usual.mkdir(mode=0o700)
        usual.chmod(0o777 if before == "open to others" else 0o700)
    root = cache_root()
    assert cache_root() == root
    assert (root == usual) == (before in ("nothing", "ours"))
    assert root.is_dir()
    assert not root.is_symlink()
    assert root.stat().st_mode & 0o077 == 0
    assert capsys.readouterr().err.count(str(root)) == 1


def test_a_home_that_nobody_has_stays_as_it_is_written() -> None:
    assert expanded("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")
