"""The soak runs, and what it found stays mended. Its whole outcome: docs/soak.md."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import COMMAND

ROOT = Path(__file__).resolve().parents[1]
WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
from tellapart.runs.run import RunFolder
from tellapart.training.checkpoint import Checkpoint
class Variable:
    def numpy(self): return np.zeros(100_000, np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Checkpoint(RunFolder(Path(sys.argv[1])))._write("weights-1.safetensors", [Variable()])
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.mark.soak
def test_an_export_that_is_killed_is_exported_again() -> None:
    pytest.importorskip("keras")
    words = [sys.executable, "-m", "tools.soak", "--kills", "1", "--only", "exporting"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "kill -9 while exporting | held. 1 kills" in found.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_one_line_and_exit_code_2(
    tmp_path: Path, two_shapes: Path, make_onnx: Callable[[Path], Path]
) -> None:
    model = make_onnx(tmp_path / "model.onnx")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        words = [*COMMAND, "predict", str(model), str(two_shapes), "--format", "csv"]
        found = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.stderr.startswith("tellapart: No space left on device. Free some disk space")
    assert found.stderr.count("\n") == 1
    assert found.returncode == 2


def test_a_checkpoint_that_does_not_fit_raises_what_any_file_raises_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    pytest.importorskip("resource")
    words = [sys.executable, "-c", WRITE, str(tmp_path)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.stdout == "OSError 27\n", found.stderr
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


@pytest.fixture
def make_onnx() -> Callable[[Path], Path]:
    """A small network of ours."""
    pytest.importorskip("keras")
    import numpy as np

    from tellapart.inference.onnx_export import export_onnx
    from tellapart.inference.predictor import Metadata
    from tellapart.models.classifier import Classifier

    def make(path: Path) -> Path:
        task, spec = ta.Task(("a", "b")), ta.ImageSpec(8, 8)
        model = Classifier.from_name(task, spec, "dense", dense=[4])
        export_onnx(model, Metadata(task, spec), path, np.zeros((2, 8, 8, 3), np.uint8))
        return path

    return make
