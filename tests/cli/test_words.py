"""What people type that is nearly right: told what it is and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import SourceError
from tests.command import call


def test_the_package_can_be_run_as_a_module() -> None:
    shown = subprocess.run([sys.executable, "-m", "tellapart", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"tellapart {ta.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "run", "a.jpg", "--out", "a.xlsx"], "Excel opens a .csv"),
        (["predict", "run", "a.jpg", "--out", "a.parquet"], "cannot be written as .parquet"),
        (["train", "builtin:pets", "--cache-limit", "20"], "'20' has no unit; do you mean 20GB"),
        (["export", "run", "--to", "tflite"], "Did you mean 'litert'"),
        (["export", "run", "--to", "savedmodel"], "Did you mean 'saved-model'"),
        (["train", "builtin:pets", "--weights", "nowhere.h5"], "nowhere.h5 cannot be read"),
        (["tune", "builtin:pets", "--model", "inception-v3", "--weights", "nowhere.h5"], "The weights"),
    ],
)
def test_what_is_nearly_right_is_told_before_any_work(
    arguments: list[str], words: str, tmp_path: Path, shapes_run: Path
) -> None:
    place = [str(shapes_run) if word == "run" else word for word in arguments]
    told = call(*place, cwd=tmp_path)
    assert told.returncode == 2
    assert words in " ".join(told.stderr.split()).replace(" │ ", " ").replace("│", "")
    assert "reading images" not in told.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("labels.xls", "Save it as xlsx or csv"),
        ("train.tfrecord", "damaged or cut short"),
        ("annotations.json", "columns path and label"),
        ("images.npz", "one folder per class"),
        ("photos.rar", "Unpack it"),
        ("model.onnx", "predict and evaluate take a network first"),
    ],
)
def test_a_file_that_is_no_data_is_named_for_what_it_is(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(SourceError, match=words):
        ta.read(tmp_path / name)


@pytest.mark.slow
def test_a_run_is_called_by_its_images_and_its_model(
    two_shapes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["model.filters=[4]", "model.dense=[4]", "train.epochs=1", "image.height=24", "image.width=24"]
    config = ta.make_config(model="cnn", settings=settings)
    names = [ta.train(two_shapes, config=config).path.name for _ in range(2)]
    assert names == ["two-shapes-cnn-1", "two-shapes-cnn-2"]


def test_export_takes_the_format_by_to_and_by_its_older_name_which_it_tells(shapes_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    shown = call("export", shapes_run, "--to", "keras", "--out", tmp_path / "a.keras")
    assert shown.returncode == 0, shown.stderr
    assert "--format" not in shown.stderr
    older = call("export", shapes_run, "--format", "keras", "--out", tmp_path / "b.keras")
    assert older.returncode == 0, older.stderr
    assert "--format is deprecated" in older.stderr
    assert (tmp_path / "b.keras").exists()
    explained = call("export", "--help").stdout
    assert "onnx|litert|mediapipe|coreml|saved-model|openvino|keras|web|mlflow" in explained
    assert "--format" not in explained
