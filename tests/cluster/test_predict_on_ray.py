"""`predict --cluster` on a real cluster of two nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

import tellapart as ta
from tests.cluster.conftest import TwoNodes
from tests.command import COMMAND

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow


def test_a_killed_node_loses_and_doubles_no_row_and_a_second_run_predicts_nothing(
    two_nodes: TwoNodes, shapes_run: Path, two_shapes: Path, tmp_path: Path
) -> None:
    images = sorted(map(str, two_shapes.rglob("*.png")))
    given = "".join(f"{path}\n" for path in [*images, str(tmp_path / "none.png")] * 30)
    out = tmp_path / "answers"
    words = [*COMMAND, "predict", str(shapes_run), "-", "--cluster", two_nodes.address, "--out", str(out)]
    words += ["--part-size", "10"]

    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        first.stdin.write(given)
        first.stdin.close()
        while len(done := list(out.glob("part-*"))) < 3 and first.poll() is None:
            time.sleep(0.02)
        os.kill(two_nodes.raylet, signal.SIGKILL)
        assert first.stderr is not None
        said = first.stderr.read()
    assert first.returncode == 1, said
    assert len(done) < 183, "the node was killed after the end"
    assert "30 images could not be read" in said

    rows = parquet.read_table(out)
    assert Counter(rows.column("path").to_pylist()) == dict.fromkeys([*images, str(tmp_path / "none.png")], 30)
    alone = {each.path: each for each in ta.predict(shapes_run, images)}
    for row in rows.to_pylist():
        if not row["error"]:
            assert row["label"] == alone[row["path"]].label
            assert row["probability"] == pytest.approx(alone[row["path"]].probability, abs=1e-6)
    manifest = json.loads((out / "_manifest.json").read_text())
    assert (manifest["rows"], manifest["errors"], manifest["complete"]) == (1830, 30, True)

    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    second = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    assert "1,830 rows, 1,830 of them before" in second.stderr, second.stderr
    assert {path: path.stat().st_mtime_ns for path in out.glob("part-*")} == before
