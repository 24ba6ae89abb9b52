"""The benchmarks run and give figures; how fast anything is, is no test's business."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SERVED = ("serve", "serve-waiting")
TOGETHER = (
    ("train",), ("pretrained", "another-head", "features-cost"),
    ("scan", "scan-224", "scan-large", "second-start"), ("predict", "predict-one", *SERVED),
    ("predict-backbone",), ("predict-stream",), ("fine-tune", "fine-tune-whole"), ("start",), ("memory",),
)  # fmt: skip
"""Benchmarks that are prepared alike are run by one command."""
SLOW = pytest.mark.slow
AT_NIGHT = ("pretrained", "scan", "predict", "predict-backbone", "fine-tune", "memory")
"""They take most of a minute each, for the libraries that they compare with."""


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    # Wide, so that no name is broken at its hyphen.
    wide = {**os.environ, "COLUMNS": "1000"}
    return subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, check=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of fifteen images."""
    generator = np.random.default_rng(0)
    for label in ("light", "dark"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(15):
            pixels = generator.integers(0, 128, (90, 120, 3), np.uint8) + (128 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / label / f"{number}.jpg")
    return tmp_path / "photos"


def rows() -> list[object]:
    def marks(first: str) -> pytest.MarkDecorator | tuple[()]:
        return pytest.mark.soak if first in AT_NIGHT else () if first == "start" else SLOW

    return [pytest.param(names, id=" ".join(names), marks=marks(names[0])) for names in TOGETHER]


@pytest.mark.parametrize("names", rows())
def test_a_benchmark_gives_a_figure_for_us_and_every_peer(names: tuple[str, ...], photos: Path) -> None:
    if shutil.which("wrk") is None:  # the load generator
        names = tuple(name for name in names if name not in SERVED)
    done = benchmarks(*names, "--smoke", "--json", "--data", str(photos))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["images"] == 30
    assert tuple(told["benchmarks"]) == names
    for name in names:
        ours, *peers = told["benchmarks"][name]["rows"]
        assert ours["ratio"] is None
        assert peers
        there = [peer for peer in peers if not peer["missing"]]
        assert all(peer["ratio"] > 0 for peer in there)
        assert all(row["median"] > 0 and len(row["values"]) == 1 for row in (ours, *there))
        assert all("No module named" in peer["missing"] for peer in peers if peer not in there)


@SLOW
def test_the_benchmark_of_the_gpu_tells_each_row_and_says_what_is_not_installed(tmp_path: Path) -> None:
    table, figures = tmp_path / "gpu.md", tmp_path / "gpu.json"
    jobs = ("features_onnx", "predict")
    done = benchmarks("gpu", "--smoke", "--only", *jobs, "--out", str(table), "--json", str(figures))
    assert done.returncode == 0, done.stderr
    rows = json.loads(figures.read_text())["rows"]
    measured = [row for row in rows if row["value"] is not None]
    assert len(measured) >= 2
    assert all(row["value"] > 0 and "ONNX Runtime" in row["job"] for row in measured)
    # Its first job, which trains the run to predict with, was left out.
    assert all(row["note"] for row in rows if row not in measured)
    assert any("exit code 2" in row["note"] for row in rows)
    assert all(row["way"] in table.read_text() for row in rows)


def test_the_benchmark_of_the_gpu_is_refused_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = benchmarks("gpu")
    assert done.returncode == 2
    assert "no GPU here" in done.stderr


def test_every_benchmark_of_the_table_is_tested_here() -> None:
    listed = " ".join(benchmarks("--help").stdout.split()).partition("all of ")[2].partition("; alone: gpu")[0]
    assert sorted(listed.split(", ")) == sorted(name for names in TOGETHER for name in names)


def test_a_name_that_no_benchmark_has_is_refused_with_the_names_there_are() -> None:
    done = benchmarks("trian")
    assert done.returncode == 2
    assert "trian" in done.stderr
    assert "train, pretrained" in done.stderr
