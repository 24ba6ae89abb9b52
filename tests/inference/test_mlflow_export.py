"""The export `mlflow`, loaded by MLflow itself, and served by it."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.errors import SourceError
from tellapart.inference.mlflow_model import MlflowModel
from tests.command import PATIENCE

pytest.importorskip("keras")
pytest.importorskip("mlflow")
pandas = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow


@pytest.fixture(scope="module")
def folder(shapes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ta.export(shapes_run, "mlflow", out=tmp_path_factory.mktemp("mlflow") / "model").path


@pytest.fixture(scope="module")
def images(two_shapes: Path) -> list[Path]:
    return sorted(two_shapes.rglob("*.png"))[::20]


def assert_same(rows: Any, expected: list[ta.Prediction]) -> None:
    assert rows["label"].tolist() == [answer.label for answer in expected]
    assert rows["verdict"].tolist() == [answer.verdict for answer in expected]
    for name in ("disc", "stripes"):
        said = rows[f"probability {name}"].tolist()
        assert said == pytest.approx([answer.probabilities[name] for answer in expected], abs=1e-6)


def test_mlflow_loads_it_and_predicts_paths_and_bytes_as_tellapart_does(
    folder: Path, images: list[Path], shapes_run: Path
) -> None:
    from mlflow import pyfunc

    expected = ta.predict(shapes_run, images)
    loaded = pyfunc.load_model(str(folder))
    assert_same(loaded.predict(pandas.DataFrame({"path": [str(path) for path in images]})), expected)
    assert_same(loaded.predict(pandas.DataFrame({"image": [path.read_bytes() for path in images]})), expected)
    broken = loaded.predict(pandas.DataFrame({"image": [b"no image", images[0].read_bytes()]}))
    assert "not an image" in broken["error"][0]
    assert broken["error"][1] == ""
    assert loaded.metadata.signature.inputs.input_names() == ["image", "path"]
    assert loaded.metadata.metadata["task"]["classes"] == ["disc", "stripes"]
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "input_example.json").exists()


def test_an_input_without_images_is_told_and_a_server_opens_no_paths(
    shapes_run: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MlflowModel(ta.open_run(shapes_run).predictor())
    with pytest.raises(SourceError, match="column image"):
        model.predict(pandas.DataFrame({"file": ["a.jpg"]}))
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    (row,) = model.predict(pandas.DataFrame({"path": [str(images[0])]})).to_dict("records")
    assert "a server opens no paths" in row["error"]


@pytest.mark.soak
def test_mlflow_serves_it(folder: Path, images: list[Path], shapes_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "-p", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "-h", "127.0.0.1", "-w", "1"],
            stdout=log, stderr=log, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, start_new_session=True,
        )  # fmt: skip
    try:
        records = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in images]
        rows = ask(port, records, server, tmp_path / "log")
        (refused,) = ask(port, [{"path": str(images[0])}], server, tmp_path / "log")
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    assert_same(pandas.DataFrame(rows), ta.predict(shapes_run, images))
    assert "opens no paths" in refused["error"]


def ask(port: int, records: list[dict[str, str]], server: subprocess.Popen[bytes], log: Path) -> list[dict[str, Any]]:
    """The answer of the server, once it is up."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"dataframe_records": records}).encode(),
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                found: list[dict[str, Any]] = json.load(answer)["predictions"]
                return found
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.3)
