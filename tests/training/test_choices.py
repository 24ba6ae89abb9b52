"""What a run is chosen, calibrated and verified by: never the images that are to judge it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.data.pixels import read

pytest.importorskip("keras")

from tellapart.training import finalize

NETWORKS = {
    "from nothing": ("model.name=cnn", "model.filters=[8]", "model.dense=[8]", "train.batch_size=8"),
    "on a backbone": ("model.name=efficientnet-lite0",),
}
SETTINGS = ("image.height=32", "image.width=32", "train.epochs=3", "train.patience=0")


def laid_out(shapes: Path, folder: Path, turned: int) -> Path:
    """In split folders; the labels of the test images turned on by so many classes."""
    kinds = sorted(path.name for path in shapes.iterdir())
    for place, kind in enumerate(kinds):
        for number, path in enumerate(sorted((shapes / kind).iterdir())):
            split = "test" if number % 4 == 0 else "validation" if number % 4 == 1 else "train"
            label = kinds[(place + turned) % len(kinds)] if split == "test" else kind
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / split / label)
    return folder


@pytest.mark.parametrize("network", NETWORKS)
def test_the_test_images_choose_nothing(
    network: str, shapes: Path, tmp_path: Path, figures: Callable[[ta.Run], list[dict[str, Any]]]
) -> None:
    config = ta.make_config(settings=[*NETWORKS[network], *SETTINGS])
    right, wrong = (
        ta.train(laid_out(shapes, tmp_path / f"{turned}", turned), out=tmp_path / f"run {turned}", config=config)
        for turned in (0, 1)
    )
    assert right.metrics["test"]["accuracy"] != wrong.metrics["test"]["accuracy"]
    assert figures(right) == figures(wrong)
    assert right.record.best_epoch == wrong.record.best_epoch
    for chosen in ("temperature", "thresholds"):
        assert right.record.calibration[chosen] == wrong.record.calibration[chosen]
    assert right.predictor().metadata == wrong.predictor().metadata
    for ours, theirs in zip(right.model().get_weights(), wrong.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_file_is_verified_on_images_of_the_validation_split(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def export(model: Any, metadata: Any, path: Path, images: np.ndarray, **options: Any) -> float:
        seen.append(images)
        return real(model, metadata, path, images, **options)

    real = finalize.export_onnx
    monkeypatch.setattr(finalize, "export_onnx", export)
    config = ta.make_config(settings=[*NETWORKS["from nothing"], *SETTINGS])
    run = ta.train(laid_out(shapes, tmp_path / "shapes", 0), out=tmp_path / "run", config=config)
    held = run.catalog.split("validation")
    (images,) = seen
    assert len(images) == min(finalize.VERIFIED_IMAGES, len(held)) == run.record.verified_images
    for pixels, image in zip(images, held.images, strict=False):
        assert np.array_equal(pixels, read(held.root / image.path, run.spec))
