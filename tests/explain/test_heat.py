"""Where heat falls: real images, networks that were trained on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.data import pixels
from tellapart.explain.heat import HeatMaker, class_heat, normalised, overlay
from tellapart.explain.occlusion import log_odds, occlusion
from tests.values import plan

Trained = Callable[[str], ta.Run]


def look(run: ta.Run, planted: Any, count: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test images, what the network names them, and where their patch is."""
    paths = [p.path for p in run.catalog.split("test").images][:count]
    seen = np.stack([pixels.read(planted.root / path, run.spec) for path in paths])
    named = run.predictor().probabilities(seen).argmax(axis=1)
    return seen, named, np.stack([planted.of(path, run.spec) for path in paths])


def on_patch(heat: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """How many times as much heat falls on the patch as on as large a place elsewhere, and how often the hottest place
    lies on it."""
    dense = heat / heat.sum(axis=(1, 2), keepdims=True)
    ratio = (dense * inside).sum(axis=(1, 2)) / inside.mean(axis=(1, 2))
    peaks = heat.reshape(len(heat), -1).argmax(axis=1)
    return float(np.median(ratio)), float(inside.reshape(len(heat), -1)[np.arange(len(heat)), peaks].mean())


@pytest.mark.parametrize("name", ["cnn", pytest.param("backbone", marks=pytest.mark.soak)])
def test_the_heat_falls_on_the_patch_that_decides_the_class(name: str, trained: Trained, planted: Any) -> None:
    run = trained(name)
    assert run.metrics["test"]["accuracy"]["value"] >= 0.9, "a network that missed the cue cannot show it"
    seen, named, inside = look(run, planted)
    assert inside.mean() < 0.1
    heat = class_heat(run, seen, named)
    assert heat.dtype == np.float32
    assert heat.shape == inside.shape
    assert heat.min() >= 0
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1)
    covered = occlusion(run.predictor(), seen, named, steps=2)  # half the predictions of the usual 3
    for found in (heat, np.maximum(covered, 0)):
        density, hottest = on_patch(found, inside)
        assert density > 2
        assert hottest > 0.5


def test_heat_of_the_other_class_shuns_the_patch(trained: Trained, planted: Any) -> None:
    run = trained("cnn")
    seen, named, inside = look(run, planted)
    density, _ = on_patch(class_heat(run, seen, 1 - named) + 1e-9, inside)
    assert density < 0.7


def test_heat_is_the_same_image_by_image_and_from_many_threads(trained: Trained, planted: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run = trained("cnn")
    seen, named, _ = look(run, planted, 9)
    maker = HeatMaker(run.predictor())
    with ThreadPoolExecutor(4) as pool:
        single = list(pool.map(lambda row: maker.heat(seen[row : row + 1], named[row : row + 1])[0], range(len(seen))))
    np.testing.assert_allclose(class_heat(run, seen, named), np.stack(single), atol=1e-4)


def test_a_network_without_feature_maps_tells_its_pixels(trained: Trained, planted: Any) -> None:
    run = trained("dense")
    seen, named, _ = look(run, planted, 3)
    shares = HeatMaker(run.predictor()).shares(seen, named)
    assert shares is not None
    assert shares.shape == seen.shape[:3]


def test_heat_needs_no_training_library(trained: Trained) -> None:
    run = trained("cnn")
    code = f"""
import sys, pathlib, numpy as np
from tellapart.explain.heat import class_heat
from tellapart.runs.run import open_run
run = open_run({str(run.path)!r})
print(class_heat(run, np.zeros((2, *run.spec.shape), np.uint8), np.array([0, 1])).shape)
heavy = {{"tensorflow", "keras", "onnx", "scipy", "matplotlib", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(2, 56, 56)"


def test_an_unfinished_run_says_what_to_do(shapes: Path, tmp_path: Path) -> None:
    from tellapart.data.catalog import Catalog
    from tellapart.errors import RunError
    from tellapart.runs.run import create_run

    catalog: Catalog = ta.read(shapes)
    run = create_run(tmp_path / "run", plan(), catalog)
    with pytest.raises(RunError, match="--resume"):
        class_heat(run, np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.int64))


class Counted:
    """A predictor that names class 1 by how bright the upper left quarter is."""

    task = ta.Task(("dark", "bright"))
    tells_places = False

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        height, width = batch.shape[1] // 2, batch.shape[2] // 2
        score = batch[:, :height, :width].mean(axis=(1, 2, 3)) / 64 - 2
        bright = 1 / (1 + np.exp(-score))
        return np.stack([1 - bright, bright], axis=1)


@pytest.mark.parametrize("shape", [(40, 40, 3), (30, 50, 1), (5, 3, 3)])
def test_occlusion_loses_where_the_answer_lies_and_nowhere_else(shape: tuple[int, int, int]) -> None:
    image = np.full((1, *shape), 20, np.uint8)
    height, width = shape[0] // 2, shape[1] // 2
    image[:, :height, :width] = 250
    told: list[tuple[int, int]] = []
    report = lambda done, total: told.append((done, total))  # noqa: E731
    losses = occlusion(Counted(), image, np.array([1]), done=report)  # type: ignore[arg-type]
    assert losses.shape == (1, *shape[:2])
    assert losses[0, : height // 2 + 1, : width // 2 + 1].min() > 0
    assert abs(losses[0, -1, -1]) < 1e-6
    assert told[-1][0] == told[-1][1]
    assert losses.sum() == pytest.approx(-occlusion(Counted(), image, np.array([0])).sum(), rel=1e-4)  # type: ignore[arg-type]


def test_heat_stands_out_from_the_middle_of_the_image_and_from_what_speaks_against_the_class() -> None:
    shares = np.full((5, 5), 2, np.float32)
    shares[0, 0], shares[4, 4] = 6, 4
    heat = normalised(shares, (5, 5))
    assert (heat[0, 0], heat[4, 4], heat.sum()) == (1, 0.5, 1.5)
    np.testing.assert_array_equal(normalised(shares - 5, (5, 5)) > 0, shares == 6)
    assert not normalised(shares - 9, (10, 20)).any()


def test_log_odds_are_right_where_a_float_shows_no_rest() -> None:
    values = np.array([[1 - 1e-12, 1e-12, 0.0], [0.2, 0.5, 0.3]])
    np.testing.assert_allclose(log_odds(values, 1), [np.log(1e-12), 0], atol=1e-3)
    assert np.isfinite(log_odds(values, 2)).all()
    assert log_odds(np.array([[0.0, 1.0]]), 1)[0] == pytest.approx(25 * np.log(2), abs=1e-3)
    assert log_odds(np.array([[1.0, 1e-20]]), 0)[0] == pytest.approx(-np.log(1e-20), abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_shows_the_image_where_it_is_cold_and_the_heat_where_it_is_hot(channels: int) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (20, 30, channels), dtype=np.uint8)
    heat = np.zeros((20, 30))
    heat[:, 15:] = 1
    shown = overlay(image, heat)
    assert shown.shape == (20, 30, 3)
    assert shown.dtype == np.uint8
    cold, hot = shown[:, :15], shown[:, 15:]
    assert np.ptp(cold, axis=-1).max() == 0, "a cold place has no colour"
    grey = image[:, :15] @ ([1.0] if channels == 1 else [0.299, 0.587, 0.114])
    assert np.abs(cold[..., 0] - grey).max() <= 1, "but its lightness"
    assert hot[..., 0].mean() > 150
    assert hot.std() > 0, "the image shows through"
    lightness = overlay(np.full((1, 9, 1), 90, np.uint8), np.linspace(0, 1, 9)[None]).astype(float) @ [0.3, 0.6, 0.1]
    assert lightness[0, -1] > lightness[0, 0]
