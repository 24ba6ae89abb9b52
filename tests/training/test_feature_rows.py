from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tellapart.models.features import root_of
from tellapart.training import feature_rows
from tellapart.training.feature_rows import blocks, chosen, let_go, room


@pytest.mark.parametrize("held", [0, 2**30])
def test_rows_in_a_file_are_like_rows_in_memory(held: int, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_rows, "HELD_BYTES", held)
    expected = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float16)
    rows = room(3000, 8)
    assert rows.base is None or not held
    rows[:] = expected
    let_go(rows)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(np.concatenate(list(blocks(rows))), expected)
    np.testing.assert_array_equal(chosen(rows, [slice(4, 8), slice(0, 2)]), expected[:, [4, 5, 6, 7, 0, 1]])
    assert chosen(rows, [slice(0, 3), slice(3, 8)]) is rows
    roots = chosen(rows, [slice(4, 8)], root=True)
    np.testing.assert_array_equal(roots, root_of(expected[:, 4:]).astype(np.float16))
    assert not [path for path in own_cache.rglob("*") if path.is_file()], "the file has no name"


def test_without_room_on_the_disk_rows_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(feature_rows, "HELD_BYTES", 0)
    rows = room(10, 4)
    rows[:] = 1
    assert rows.sum() == 40


@pytest.mark.skipif(sys.platform != "linux", reason="what is given back is counted there")
def test_reading_rows_in_blocks_takes_the_memory_of_a_block() -> None:
    code = """
import resource
import numpy as np
from tellapart.training.feature_rows import blocks, room
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
rows = room(160_000, 1000)
before = peak()
for part in blocks(rows):
    part[:] = 1
total = sum(float(part.sum(dtype=np.float32)) for part in blocks(rows))
print(total, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, grown = map(float, done.stdout.split())
    assert total == 160_000_000
    assert grown < 60, "of 305 MiB"
