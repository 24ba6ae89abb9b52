"""The folder of what people say of a server's answers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tellapart.data.feedback import ROWS, Feedback, FeedbackFolder, FullError, read_feedback
from tellapart.errors import ConfigError


def said(label: str, how: str = "other") -> Feedback:
    shares = {"cat": 0.25, "caf\udce9": 0.75}
    return Feedback("", 40, 30, how, label, "cat", "sure", shares, "run", "00", "2026-11-28T00:00:00+00:00")  # type: ignore[arg-type]


def jpeg(number: int, size: int = 100) -> bytes:
    return b"\xff\xd8\xff" + bytes([number]) * size


def test_an_image_is_kept_once_and_what_was_said_last_counts(tmp_path: Path) -> None:
    kept = FeedbackFolder(tmp_path / "f", 10, 100_000)
    first = kept.add(jpeg(1), said("caf\udce9"))
    kept.add(jpeg(2), said("cat"))
    kept.add(jpeg(1), said("", "none"))
    found = read_feedback(kept.folder)
    assert [(row.said, row.label) for row in found] == [("none", ""), ("other", "cat")]
    assert found[0].path == first.path
    assert (kept.folder / first.path).read_bytes() == jpeg(1)
    assert len(list((kept.folder / "images").iterdir())) == 2
    (kept.folder / first.path).unlink()  # taken back
    assert [row.label for row in read_feedback(kept.folder)] == ["cat"]
    assert kept.add(jpeg(1), said("cat")).path == first.path
    assert (kept.folder / first.path).exists()


def test_the_folder_grows_no_further_than_it_may(tmp_path: Path) -> None:
    few = FeedbackFolder(tmp_path / "few", 2, 100_000)
    for number in range(2):
        few.add(jpeg(number), said("cat"))
    with pytest.raises(FullError, match="no more than 2 images"):
        few.add(jpeg(2), said("cat"))
    few.add(jpeg(1), said("cat"))  # of what is there one may still think otherwise
    with pytest.raises(FullError):
        FeedbackFolder(few.folder, 2, 100_000).add(jpeg(3), said("cat"))
    small = FeedbackFolder(tmp_path / "small", 1000, 5000)
    add = partial(small.add, jpeg(1), said("cat"))
    with pytest.raises(FullError, match="no more than 5 kB"):
        list(iter(add, None))
    assert sum(file.stat().st_size for file in small.folder.rglob("*") if file.is_file()) <= 5000


def test_a_row_that_a_crash_cut_off_costs_no_other(tmp_path: Path) -> None:
    kept = FeedbackFolder(tmp_path, 10, 100_000)
    kept.add(jpeg(1), said("cat"))
    whole = (tmp_path / ROWS).read_bytes()
    (tmp_path / ROWS).write_bytes(whole + whole[:50])
    again = FeedbackFolder(tmp_path, 10, 100_000)
    again.add(jpeg(2), said("cat"))
    assert len(read_feedback(tmp_path)) == 2


@pytest.mark.parametrize(
    "change", [{"path": "../../etc/passwd"}, {"path": "images/../x"}, {"said": "x"}, {"width": "9"}, {"more": 1}]
)
def test_a_row_of_something_else_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    FeedbackFolder(tmp_path, 10, 100_000).add(jpeg(1), said("cat"))
    row = json.loads((tmp_path / ROWS).read_text()) | change
    (tmp_path / ROWS).write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_feedback(tmp_path)
