"""`predict` and `train --cluster` on a real cluster of two nodes."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.cluster.feature_shards import keys_in
from tellapart.cluster.storage import Storage
from tests.cluster.conftest import TwoNodes
from tests.command import COMMAND

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow
TIMES = 17
"""That the same images are asked for, so that there is something left when a node is killed."""


@pytest.mark.soak  # as long as the one below, which stays
def test_a_killed_node_loses_no_features_and_a_second_run_computes_none(
    two_nodes: TwoNodes, two_shapes: Path, tmp_path: Path
) -> None:
    store = tmp_path / "features"
    words = [*COMMAND, "train", str(two_shapes), "--augment", "light", "--set", "train.views=12"]
    words += ["--cluster", two_nodes.address, "--feature-store", str(store)]
    with subprocess.Popen([*words, "--out", str(tmp_path / "one")], stdout=subprocess.PIPE, text=True) as first:
        while not (done := list(store.glob("*/*.arrow"))) and first.poll() is None:
            time.sleep(0.02)
        two_nodes.kill_second()
        assert first.stdout is not None
        said = first.stdout.read()
    two_nodes.add_another()
    assert first.returncode == 0, said
    run = ta.open_run(tmp_path / "one")
    counts = {split: sum(classes.values()) for split, classes in run.catalog.counts().items()}
    shards = list(store.glob("*/*.arrow"))
    assert len(done) < len(shards) - 2, "the node was killed after the end"
    keys = [key for path in shards for key in keys_in(Storage(path.parent.parent), path.parent.name, path.name)]
    assert len(keys) == len(set(keys)) == 12 * counts["train"] + counts["validation"] + counts["test"]

    before = {path: path.stat().st_mtime_ns for path in shards}
    second = subprocess.run([*words, "--out", str(tmp_path / "two")], capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert {path: path.stat().st_mtime_ns for path in store.glob("*/*.arrow")} == before
    assert ta.open_run(tmp_path / "two").onnx_file.read_bytes() == run.onnx_file.read_bytes()


def test_a_killed_node_loses_and_doubles_no_row_and_a_second_run_predicts_nothing(
    two_nodes: TwoNodes, shapes_run: Path, two_shapes: Path, tmp_path: Path
) -> None:
    images = sorted(map(str, two_shapes.rglob("*.png")))
    given = "".join(f"{path}\n" for path in [*images, str(tmp_path / "none.png")] * TIMES)
    out = tmp_path / "answers"
    words = [*COMMAND, "predict", str(shapes_run), "-", "--cluster", two_nodes.address, "--out", str(out)]
    words += ["--part-size", "10"]

    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        first.stdin.write(given)
        first.stdin.close()
        while len(done := list(out.glob("part-*"))) < 3 and first.poll() is None:
            time.sleep(0.02)
        two_nodes.kill_second()
        assert first.stderr is not None
        said = first.stderr.read()
    assert first.returncode == 1, said
    assert len(done) < 104, "the node was killed after the end"
    assert "17 images could not be read" in said

    rows = parquet.read_table(out)
    assert Counter(rows.column("path").to_pylist()) == dict.fromkeys([*images, str(tmp_path / "none.png")], TIMES)
    alone = {each.path: each for each in ta.predict(shapes_run, images)}
    for row in rows.to_pylist():
        if not row["error"]:
            assert row["label"] == alone[row["path"]].label
            assert row["probability"] == pytest.approx(alone[row["path"]].probability, abs=1e-6)
    manifest = json.loads((out / "_manifest.json").read_text())
    assert (manifest["rows"], manifest["errors"], manifest["complete"]) == (1037, 17, True)

    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    second = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    assert "1,037 rows, 1,037 of them before" in second.stderr, second.stderr
    assert {path: path.stat().st_mtime_ns for path in out.glob("part-*")} == before
