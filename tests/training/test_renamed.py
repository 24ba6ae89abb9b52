"""Nothing of a network is found again by the name of a layer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.progress import Progress

keras = pytest.importorskip("keras")

from keras.src.ops.operation import Operation  # noqa: E402

SMALL = ("image.height=32", "image.width=32", "train.batch_size=13", "train.epochs=2", "train.patience=0")
# The file of the weights inside the package names them by their layers: here they are random.
NETWORKS = {
    "from nothing": ("model.name=cnn", "model.filters=[4]", "model.dense=[8]", "model.dropout=0.1"),
    "on a backbone": (
        "model.name=efficientnet-lite0", "model.weights=none", "model.dense=[8]", "train.fine_tune=1",
    ),
    "normalised": ("model.name=convnext-tiny", "model.weights=none"),
}  # fmt: skip


class Stop(Progress):
    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        if stage.startswith("epoch 2/") and done >= 2:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def renamed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every layer that is made has a name that says nothing and that no other has, in this process or another build."""
    real, numbers, names = Operation.__init__, itertools.count(), []

    def begin(self: Any, *args: Any, name: str | None = None, **kwargs: Any) -> None:  # noqa: ARG001
        names.append(f"n{next(numbers) * 7919 % 100_003}")
        real(self, *args, name=names[-1], **kwargs)

    monkeypatch.setattr(Operation, "__init__", begin)
    return names


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.soak if name == "normalised" else ()) for name in NETWORKS]
)
def test_a_network_whose_layers_have_any_names_is_trained_resumed_exported_and_explained(
    name: str, shapes: Path, tmp_path: Path, renamed: list[str]
) -> None:
    config = ta.make_config(settings=[*SMALL, *NETWORKS[name]])
    run = ta.train(shapes, out=tmp_path / "run", config=config, progress=Stop())
    if name != "normalised":  # whose linear head has no epochs
        assert run.status == "interrupted"
        run = ta.resume(run.path)
    assert run.status == "done"
    assert run.record.onnx_difference < 1e-3
    assert not {layer.name for layer in run.model().layers} - set(renamed)
    images = [run.catalog.root / image.path for image in run.catalog.split("test").images]
    expected = [found.probabilities for found in run.predict(images)]
    for form in ("onnx", "keras"):
        made = ta.export(run.path, form, out=tmp_path / f"model.{form}")
        assert made.difference < 1e-4
    found = run.explain(images[0], out=tmp_path / "why")
    assert found.method == "class activation"
    assert {path.stem.split("-")[0] for path in found.files} >= {"heat", "filters"}
    assert all(np.isfinite(list(row.values())).all() for row in expected)
