"""What TensorBoard and an MLflow server are told of a run is what the run folder has; a tracker never costs the run."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.errors import ConfigError, MissingExtraError
from tellapart.progress import Progress
from tellapart.training.tracker_backends import final_figures, settings_of

pytest.importorskip("keras")

SETTINGS = ("model.name=cnn", "image.height=24", "image.width=24", "model.filters=[8]", "model.dense=[8]",
            "train.epochs=4", "train.patience=0")  # fmt: skip


class Lines(Progress):
    """Keeps the lines; presses Ctrl-C in an epoch."""

    def __init__(self, stop_in: str = "never") -> None:
        self.lines: list[str] = []
        self.stop_in = stop_in

    def line(self, text: str) -> None:
        self.lines.append(text)

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        if stage.startswith(self.stop_in):
            raise KeyboardInterrupt


def train(data: Path, out: Path, *track: str, progress: Progress | None = None, **options: Any) -> ta.Run:
    config = ta.make_config(settings=SETTINGS, track=track, **options)
    return ta.train(data, out=out, config=config, progress=progress or Lines())


def scalars(run: ta.Run) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_reads_the_history_the_figures_and_the_settings_of_a_run_that_was_resumed(
    shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    stopped = train(shapes, tmp_path / "run", "tensorboard", progress=Lines("epoch 3/"))
    assert stopped.status == "interrupted"
    assert [step for step, _ in scalars(stopped)["val_loss"]] == [1, 2]
    run = ta.resume(stopped.path)
    found = scalars(run)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert found[name] == [(row.epoch, pytest.approx(row.figure(name), rel=1e-6)) for row in run.history]
    final = final_figures(run)
    assert {"test/accuracy", "test/accuracy_low", "test/accuracy_high"} <= final.keys()
    assert {name: found[name] for name in final} == {name: [(4, pytest.approx(v))] for name, v in final.items()}
    read = EventAccumulator(str(run.path / "tensorboard")).Reload()
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["model.name"].string_value == "cnn"
    assert told["train.epochs"].number_value == 4
    assert set(told) == set(settings_of(run.config))


@pytest.mark.slow
def test_a_linear_head_is_tracked_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = ta.make_config(model="efficientnet-lite0", image_size=64, track=["tensorboard"])
    run = ta.train("builtin:pets", out=tmp_path / "run", config=config)
    assert scalars(run)["regularization"] == [(row.epoch, pytest.approx(row.regularization)) for row in run.history]


def test_who_is_told_of_a_run_does_not_make_it_another() -> None:
    assert ta.make_config(track=["mlflow"]).digest == ta.make_config().digest
    with pytest.raises(ConfigError, match=r"train\.track"):
        ta.make_config(track=["nonsense"])


def test_a_tracker_that_cannot_be_is_told_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    nowhere = tmp_path / "no images"
    if importlib.util.find_spec("mlflow"):
        with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI, such as http"):
            train(nowhere, tmp_path / "run", "mlflow")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"tellapart\[track\]"):
        train(nowhere, tmp_path / "run", "tensorboard")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_server_that_is_down_is_told_once_and_costs_nothing_of_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    lines = Lines()
    run = train(shapes, tmp_path / "run", "mlflow", progress=lines)
    assert run.status == "done"
    assert len(run.history) == 4
    assert run.metrics["test"]["n"] == 12
    said = [line for line in lines.lines if line.startswith("MLflow cannot log run:")]
    assert len(said) == 1
    assert "Training continues" in said[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on loopback, with its own folder."""
    if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("the MLflow server (package mlflow) is not installed")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            until = time.monotonic() + 120
            while True:
                with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
                    break
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # its workers too
            process.wait()


def ask(address: str, path: str, **values: Any) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/{path}?{urllib.parse.urlencode(values)}", timeout=30) as got:
        return dict(json.load(got))


@pytest.mark.soak
def test_an_mlflow_server_has_settings_epochs_figures_and_files_of_a_run_that_was_resumed(
    shapes: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shapes")
    lines = Lines("epoch 3/")
    stopped = train(shapes, tmp_path / "a run", "mlflow", progress=lines)
    assert not [line for line in lines.lines if "cannot be told" in line]
    key = stopped.record.mlflow_run
    assert ask(server, "runs/get", run_id=key)["run"]["info"]["status"] == "KILLED"
    run = ta.resume(stopped.path)
    assert run.record.mlflow_run == key
    found = ask(server, "runs/get", run_id=key)["run"]
    assert found["info"]["status"] == "FINISHED"
    assert found["info"]["run_name"] == "a run"
    settings = {each["key"]: each["value"] for each in found["data"]["params"]}
    assert settings == {name: str(value) for name, value in settings_of(run.config).items()}
    for name in ("loss", "val_accuracy"):
        history = ask(server, "metrics/get-history", run_id=key, metric_key=name)["metrics"]
        told = sorted((int(each.get("step", 0)), each["value"]) for each in history)
        assert told == [(row.epoch, pytest.approx(row.figure(name))) for row in run.history]
    figures = {each["key"]: each["value"] for each in found["data"]["metrics"]}
    assert final_figures(run).items() <= figures.items()
    kept = ask(server, "artifacts/list", run_id=key)["files"]
    assert [each["path"] for each in kept if each.get("is_dir")] == ["model"]
    files = {each["path"]: int(each["file_size"]) for each in kept if not each.get("is_dir")}
    assert files == {
        each.name: each.stat().st_size
        for each in (run.report_file, run.onnx_file, run.metrics_file, run.config_file)
    }  # fmt: skip
    assert ask(server, "experiments/get-by-name", experiment_name="shapes")["experiment"]["name"] == "shapes"
    assert not capsys.readouterr().out
