"""predict of a long stream of paths: memory stays flat, and nothing among the paths ends it."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import IO

import psutil
import pytest

import tellapart as ta
from tests.command import COMMAND

COUNT = 20_000
SETTINGS = ["model.name=cnn", "image.height=24", "image.width=24", "model.filters=[4]", "model.dense=[4]"]


def feed(pipe: IO[bytes], paths: list[bytes]) -> None:
    with pipe:
        for number in range(COUNT):
            pipe.write(paths[number % len(paths)] + b"\n")


@pytest.mark.slow
def test_memory_of_a_stream_of_paths_is_flat_and_broken_files_do_not_end_it(two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    run = ta.train(two_shapes, out=tmp_path / "run", config=ta.make_config(settings=[*SETTINGS, "train.epochs=1"]))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    paths = [str(path).encode() for path in sorted(two_shapes.rglob("*.png"))]
    paths += [bytes(tmp_path / "broken.jpg"), bytes(tmp_path / "missing.jpg"), bytes(tmp_path), b"a\xffb\0c.jpg"]
    memory, errors, rows = [], 0, 0
    with subprocess.Popen(
        [*COMMAND, "predict", run.path, "-", "--format", "csv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        feeder = threading.Thread(target=feed, args=(process.stdin, paths))
        feeder.start()
        assert process.stdout is not None
        process.stdout.readline()
        for rows, line in enumerate(process.stdout, start=1):
            errors += not line.endswith(b",\n")
            if rows % 200 == 0 and rows < COUNT - 1000:  # the last rows come as it ends
                memory.append(psutil.Process(process.pid).memory_info().rss / 1e6)
        feeder.join()
    assert process.returncode == 1
    assert rows == COUNT
    assert errors == sum(number % len(paths) >= len(paths) - 4 for number in range(COUNT))
    tenth = COUNT // 10 // 200
    assert max(memory[tenth:]) < max(memory[:tenth]) + 5
