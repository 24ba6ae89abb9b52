"""Keras on JAX, each time in processes of its own: the same runs, files and stops as on TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tests.command import COMMAND
from tests.training.several import trained_in_two
from tests.training.test_kill import kill_when

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed"),
]

SETTINGS = (
    "model.name=cnn", "image.height=32", "image.width=32", "model.filters=[8, 16]", "model.dense=[16]",
    "model.dropout=0.3", "model.batch_normalization=true", "train.precision=float32",
    "train.batch_size=8", "train.epochs=4", "train.patience=0", "train.learning_rate=0.003", "augment=medium",
)  # fmt: skip


def command(backend: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    return subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False)


def settings(*more: str) -> list[str]:
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one process compiled, for all: each test has a cache of its own otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network from nothing, on JAX."""
    out = tmp_path_factory.mktemp("jax") / "run"
    done = command("jax", "train", str(shapes), "--out", str(out), *settings())
    assert done.returncode in (0, 1), done.stderr
    assert "starting Keras with jax" in done.stderr
    return out


def test_what_was_trained_on_jax_answers_the_same_on_tensorflow(trained: Path) -> None:
    said = {}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    script = (
        "import sys, json, numpy as np, tellapart as ta; run = ta.open_run(sys.argv[1]);"
        "pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8);"
        "print(json.dumps(run.model().predict_on_batch(pixels).tolist()))"
    )
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend}
        done = subprocess.run(
            [sys.executable, "-c", script, str(trained)], env=environment, capture_output=True, text=True, check=True
        )
        said[backend] = np.array(json.loads(done.stdout.splitlines()[-1]))
    np.testing.assert_allclose(said["tensorflow"], said["jax"], atol=1e-5)
    np.testing.assert_allclose(said["jax"], ta.open_run(trained).predictor().probabilities(pixels), atol=1e-5)


def test_a_run_on_jax_that_was_killed_ends_as_one_never_stopped(
    trained: Path, shapes: Path, tmp_path: Path, assert_same_run: Callable[[ta.Run, ta.Run], None]
) -> None:
    killed = tmp_path / "killed"
    history = killed / "history.jsonl"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    process = subprocess.Popen(
        [*COMMAND, "train", str(shapes), "--out", str(killed), *settings()],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    kill_when(process, lambda: history.exists() and len(history.read_text().splitlines()) >= 2)
    resumed = command("jax", "train", "--resume", str(killed))
    assert resumed.returncode in (0, 1), resumed.stderr
    assert "resuming after epoch" in resumed.stderr
    one, two = ta.open_run(trained), ta.open_run(killed)
    assert_same_run(one, two)
    assert one.metrics == two.metrics


def test_two_processes_learn_what_one_learns_with_the_same_batches(trained: Path, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for code, said in trained_in_two(["train", shapes, "--out", out, *settings(), "--devices", "all"]):
        assert code == 0, said
    one, two = ta.open_run(trained), ta.open_run(out)
    learnt = [[[row.loss, row.val_loss] for row in run.history] for run in (one, two)]
    np.testing.assert_allclose(learnt[1], learnt[0], atol=1e-4)
    assert "trained on 2 devices in 2 processes, each with an equal part of every batch" in two.record.decided
    # TensorFlow opens the file here, and it says what model.onnx says.
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    said = two.model().predict_on_batch(pixels)
    np.testing.assert_allclose(said, two.predictor().probabilities(pixels), atol=1e-5)
    np.testing.assert_allclose(said, one.model().predict_on_batch(pixels), atol=1e-3)


@pytest.mark.soak
def test_a_head_and_the_top_of_a_backbone_are_trained_and_explained_on_jax(shapes: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    size = ("image.height=32", "image.width=32")
    more = ("train.fine_tune=1", "train.fine_tune_on=activations", "train.epochs=1", *size)
    done = command("jax", "train", str(shapes), "--out", out, *[p for s in more for p in ("--set", s)])
    assert done.returncode in (0, 1), done.stderr
    run = ta.open_run(out)
    assert {row.phase for row in run.history} == {"head", "fine-tune"}
    assert run.record.onnx_difference < 1e-3
    image = str(run.record.data) + "/" + run.catalog.images[0].path
    shown = command("jax", "explain", out, image, "--out", str(tmp_path / "shown"))
    assert shown.returncode == 0, shown.stderr


def test_a_format_that_tensorflow_writes_is_refused_on_jax_with_what_to_do(trained: Path) -> None:
    done = command("jax", "export", str(trained), "--to", "saved-model")
    assert done.returncode == 2
    assert "KERAS_BACKEND=tensorflow" in done.stderr
    done = command("jax", "export", str(trained), "--to", "onnx")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["torch", "numpy", "tensorfow"])
def test_another_backend_is_refused_before_any_image_is_read(backend: str, shapes: Path, tmp_path: Path) -> None:
    done = command(backend, "train", str(shapes), "--model", "cnn", "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert f"KERAS_BACKEND is '{backend}'" in done.stderr
    assert "tensorflow or jax" in done.stderr
    assert not (tmp_path / "run").exists()
