"""Networks of somebody's own on their whole way: trained, killed and resumed, exported, explained, served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.data.pixels import read
from tellapart.models import own
from tests.command import PATIENCE
from tests.conftest import SHARED
from tests.serve.conftest import start as serve
from tests.training.test_kill import kill_when, start

pytest.importorskip("keras")

SETTINGS = ("image.height=32", "image.width=32", "train.epochs=2", "train.patience=0", "augment=light")
NETWORKS = {"plain": "class activation", "resnet": "class activation", "vit": "occlusion"}
"""By name, with what tells the places: a vision transformer's tokens lie on no map."""
ALL = {"heat.svg", "feature-maps.svg", "filters.svg"}
FIGURES = {"plain": ALL, "resnet": ALL, "vit": {"heat.svg"}}
BOUND = 1e-4


@pytest.fixture
def images(shapes: Path) -> Path:
    """Traffic signs where they are beside the checkout."""
    signs = SHARED / "gtsrb16"
    return signs if signs.is_dir() else shapes


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_ones_own_is_killed_resumed_exported_explained_and_served(
    name: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_run: Callable[[ta.Run, ta.Run], None],
) -> None:
    if name != "resnet":
        pytest.importorskip("tf2onnx")
    if name != "plain":
        pytest.importorskip("keras_hub")
    monkeypatch.setattr(own, "_trusted", {})
    monkeypatch.chdir(Path(__file__).parent)
    network = f"own_networks:{name}"
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    killed = tmp_path / "killed"
    history = killed / "history.jsonl"
    process = start(str(images), "--out", str(killed), "--model", network, *settings)
    kill_when(process, lambda: history.exists() and history.read_text().count("\n") >= 1)
    run = ta.resume(killed, trust_code=True)
    assert run.status == "done"
    assert run.record.onnx_difference < BOUND
    whole = ta.train(images, out=tmp_path / "whole", config=ta.make_config(model=network, settings=list(SETTINGS)))
    assert_same_run(run, whole)

    test = [run.catalog.root / image.path for image in run.catalog.split("test").images]
    said = run.predict(test)
    pixels = np.stack([read(path, run.spec) for path in test])
    theirs = np.asarray(run.model().predict(pixels, verbose=0))
    ours = [[answer.probabilities[label] for label in run.task.classes] for answer in said]
    np.testing.assert_allclose(ours, theirs, atol=BOUND)

    found = run.explain(test[0], out=tmp_path / "why", trust_code=True)
    assert found.method == NETWORKS[name]
    assert {path.name for path in found.files} == {*FIGURES[name], "explain.html"}

    server = serve(run.path)
    try:
        with server.client() as client:
            answer = client.post("/v1/predict", content=test[0].read_bytes(), headers={"content-type": "image/png"})
    finally:
        server.process.terminate()
        server.process.communicate(timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    (served,) = answer.json()["predictions"]
    assert served["label"] == said[0].label
    assert served["probability"] == pytest.approx(said[0].probability, abs=BOUND)
