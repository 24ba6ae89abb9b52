"""Commands that need nothing but the base install, in a process where the extra `train` cannot be imported.

`make try-wheel` runs them where it is not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.errors import RunError

ABSENT = ("tensorflow", "keras", "onnx", "h5py", "safetensors", "jax", "tf2onnx", "optuna", "cleanlab")

BLOCK = """
import contextlib, importlib.util, io, json, sys

ABSENT = json.loads(sys.argv[3])
there = importlib.util.find_spec

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

def find_spec(name, package=None):
    return None if name.partition(".")[0] in ABSENT else there(name, package)

sys.meta_path.insert(0, Absent)
importlib.util.find_spec = find_spec
"""
COMMANDS = (
    BLOCK
    + """
from tellapart.cli.main import run

said, data = [], sys.argv[2]
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["tellapart", *arguments]
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            run()
        except SystemExit as end:
            code = end.code
    said.append([code or 0, out.getvalue()])
if data:
    import tellapart as ta

    try:
        ta.train(data, out="cut", image_size=48, budget=0.001, progress=ta.SILENT)
    except ta.TellapartError as error:
        said.append([2, str(error)])
print(json.dumps(said))
"""
)
SMALL = ["--image-size", "64"]

Answers = dict[str, tuple[int, str]]


def answers(commands: dict[str, list[str]], folder: Path, data: str = "", absent: Collection[str] = ABSENT) -> Answers:
    """Exit code and all output of each command, one after the other in one process without the extra; and, of data,
    `cut`: a run whose time is up before its features are there."""
    call = [sys.executable, "-c", COMMANDS, json.dumps(list(commands.values())), data, json.dumps(list(absent))]
    done = subprocess.run(
        call, capture_output=True, text=True, cwd=folder, env={**os.environ, "COLUMNS": "300"}, check=True
    )
    return {name: (code, said) for name, (code, said) in zip([*commands, "cut"], json.loads(done.stdout), strict=False)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("base install")


@pytest.fixture(scope="module")
def said(shapes: Path, folder: Path) -> Answers:
    data, one = str(shapes), str(next(shapes.rglob("*.png")))
    return answers(
        {
            "check": ["check", data, "--deep"],
            "train": ["train", data, "--out", "run", *SMALL],
            "time": ["train", data, "--out", "timed", "--time", "20s", *SMALL],
            "evaluate": ["evaluate", "run"],
            "predict": ["predict", "run", one],
            "report": ["report", "run"],
            "explain": ["explain", "run", one],
            "export": ["export", "run", "--to", "onnx"],
            "web": ["export", "run", "--to", "web"],
            "compare": ["compare", "run", "timed"],
            "ladder": ["ladder", data, "--out", "ladder", "--rung", "pretrained", "--rung", "dense"],
            "late": ["ladder", "--resume", "ladder", "--budget", "1s"],
            "folds": ["train", data, "--folds", "2", "--out", "folds", *SMALL],
            "runs": ["runs", "."],
            "cnn": ["train", data, "--model", "cnn", "--out", "cnn"],
            "backbone": ["train", data, "--model", "mobilenet-v2", "--out", "backbone"],
            "fine-tune": ["train", data, "--fine-tune", "2", "--out", "tuned"],
            "dense": ["train", data, "--model", "efficientnet-lite0", "--set", "model.dense=[8]", "--out", "dense"],
            "keras": ["export", "run", "--to", "keras"],
            "saved-model": ["export", "run", "--to", "saved-model"],
            "int8": ["export", "run", "--to", "onnx", "--quantize", "int8"],
            "optimize": ["optimize", "run"],
        },
        folder,
        data,
    )


SHORT_WAY = ["check", "train", "time", "evaluate", "predict", "report", "explain", "export", "web", "compare", "ladder"]
SHORT_WAY += ["folds", "runs"]


@pytest.mark.parametrize("command", SHORT_WAY)
def test_a_command_of_the_short_way_needs_no_extra(command: str, said: Answers) -> None:
    code, text = said[command]
    # Exit code 1 of a check: there are findings that need a person.
    assert code == (command == "check"), text


@pytest.mark.parametrize("command", ["cnn", "backbone", "fine-tune", "dense", "keras", "saved-model"])
def test_what_needs_keras_says_what_to_install(command: str, said: Answers) -> None:
    code, text = said[command]
    assert code == 2
    assert "pip install 'tellapart[train]'" in text


@pytest.mark.parametrize("command", ["int8", "optimize"])
def test_what_needs_onnx_alone_says_what_to_install(command: str, said: Answers) -> None:
    code, text = said[command]
    assert code == 2
    assert "pip install 'tellapart[int8]'" in text


def test_int8_needs_onnx_and_no_keras(run: ta.Run, folder: Path) -> None:
    pytest.importorskip("onnx")
    commands = {
        name: ["export", str(run.path), "--to", name, "--quantize", "int8", "--json"] for name in ("onnx", "web")
    }
    said = answers(commands, folder, absent={*ABSENT, "sympy"} - {"onnx"})
    assert {name: code for name, (code, _) in said.items()} == dict.fromkeys(commands, 0), said
    before, after = (estimate["value"] for estimate in json.loads(said["onnx"][1].partition("\n")[2])["accuracy"])
    assert after >= before - 0.1


def test_what_is_left_out_is_told(said: Answers) -> None:
    assert "labels-not-searched" in said["check"][1]
    assert "pip install 'tellapart[check]'" in said["check"][1]
    assert "Without feature maps and filters." in said["explain"][1]
    assert "pip install 'tellapart[train]'" in said["ladder"][1]


def test_a_rung_that_lacks_an_extra_does_not_ask_for_more_time(said: Answers) -> None:
    code, text = said["late"]
    assert code == 0
    assert "dense failed: Training dense from scratch needs an optional extra" in text
    assert "--budget 30m" not in text


@pytest.fixture(scope="module")
def run(said: Answers, folder: Path) -> ta.Run:
    assert said["train"][0] == 0, said["train"][1]
    return ta.open_run(folder / "run")


STUDIO = (
    BLOCK
    + """
from pathlib import Path
from tellapart.config import Config
from tellapart.studio.session import Session

session = Session(sys.argv[1], Path("decisions.csv"), Config())
session.begin()
session._thread.join()
print(json.dumps([session.looking.problem, len(session.found.plane()), session.heat(0) is not None]))
session.close()
"""
)


def test_the_studio_looks_into_the_images_of_a_run_and_says_what_it_did_not_search(run: ta.Run, folder: Path) -> None:
    call = [sys.executable, "-c", STUDIO, str(run.path), "", json.dumps(ABSENT)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=folder, check=True)
    problem, mapped, heat = json.loads(done.stdout)
    assert "pip install 'tellapart[check]'" in problem
    assert mapped == len(run.catalog)
    assert heat


def test_an_install_with_keras_makes_the_same_network_of_such_a_run(run: ta.Run, shapes: Path) -> None:
    pytest.importorskip("keras")
    assert not run.model_file.exists()
    made = ta.export(run.path, "keras")
    assert made.difference < 1e-4
    pixels = np.random.default_rng(0).integers(0, 256, (5, *run.spec.shape), np.uint8)
    np.testing.assert_allclose(run.model()(pixels), run.predictor().probabilities(pixels), atol=1e-5)
    assert any(path.name.startswith("feature-maps") for path in run.explain(next(shapes.rglob("*.png"))).files)


def test_a_network_in_keras_that_says_something_else_than_the_run_is_an_error(
    run: ta.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("keras")
    from tellapart.models import linear

    monkeypatch.setattr(linear, "load_pretrained", lambda *_: "random weights")
    with pytest.raises(RunError, match=r"in Keras differs from its model\.onnx by .* Use the version that trained"):
        run.model()


def test_a_run_interrupted_without_keras_is_resumed_by_an_install_that_has_it(said: Answers, folder: Path) -> None:
    assert "Resume with more time" in said["cut"][1]
    assert ta.resume(folder / "cut").status == "done"
