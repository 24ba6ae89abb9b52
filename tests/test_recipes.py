"""Every recipe is built and run on images of its own kind, for one short epoch."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data.sources import open_row, read_source
from tellapart.recipes import load_recipe, reached, recipe_names

BREEDS = Path(ta.__file__).parent / "data" / "builtin" / "pets"
FASHION = Path("/usr/share/datasets/fashion-mnist")
EACH = 8  # images of a class
WIDE = {"cats-dogs-a", "pets-conv-32", "pets-conv-16", "rock-paper-scissors", "horses-humans"}
"""Of up to 175 million parameters at their own side, which take 8 GB and a minute; docs/recipes.md has them whole."""

LARGEST = {"cats-dogs-c", "cats-dogs-inception"}
"""On Inception-ResNet v2 and Inception v3, whose building alone takes up to a minute."""


def photographs(folder: Path, classes: int) -> Path:
    for breed in sorted(path for path in BREEDS.iterdir() if path.is_dir())[:classes]:
        (folder / breed.name).mkdir(parents=True)
        for image in sorted(breed.glob("*.jpg"))[:EACH]:
            shutil.copy(image, folder / breed.name)
    return folder


def garments(folder: Path) -> Path:
    """Real grey images of 28x28, a few of each class."""
    if not FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    source = read_source(FASHION, DataConfig())
    taken: Counter[str] = Counter()
    for row in source.rows:
        if taken[row.label] < EACH:
            place = folder / row.label.replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            pixels = open_row(source.root, row.path)
            assert isinstance(pixels, np.ndarray)
            Image.fromarray(pixels).save(place / f"{taken[row.label]}.png")
            taken[row.label] += 1
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.soak] if name in LARGEST else []) for name in recipe_names()],
)
def test_a_recipe_trains_an_epoch_on_images_of_its_kind(name: str, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    recipe = load_recipe(name)
    kind = name.partition("-")[0]
    data = (
        garments(tmp_path / "data") if kind == "fashion" else photographs(tmp_path / "data", 3 if kind == "rock" else 2)
    )
    weights = "none" if name.startswith("cats-dogs-") and recipe.model.name.startswith("inception") else None
    side = 100 if name in WIDE else None
    settings = ["train.steps_per_epoch=1", *([f"image.height={side}", f"image.width={side}"] if side else [])]
    run = ta.train(data, recipe=name, weights=weights, epochs=1, settings=settings, out=tmp_path / "run")
    assert run.status == "done"
    assert run.config.model.name == recipe.model.name
    assert (run.spec.height, run.spec.width, run.spec.channels) == (
        side or recipe.image.height,
        side or recipe.image.width,
        recipe.image.channels or 3,
    )
    assert run.config.train.optimizer == recipe.train.optimizer
    assert run.config.augment == recipe.augment
    assert len(run.history) >= 1
    assert run.metrics["test"]["accuracy"]["low"] >= 0
    assert run.onnx_file.is_file()


def test_what_a_recipe_reached_is_of_a_recipe_and_within_its_interval() -> None:
    assert set(reached()) <= set(recipe_names())
    for name, outcome in reached().items():
        found = outcome["accuracy"]
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1, name
        assert outcome["training_images"] > 0
        assert f"{100 * found['value']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})" in (
            Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
        ).read_text(encoding="utf-8")


def test_the_page_of_recipes_is_written_from_commands_that_train(tmp_path: Path) -> None:
    """A command that did nothing ended with 0, and the page had no run to tell of."""
    from tools.recipes_page import train

    with pytest.raises(SystemExit, match=r"nowhere .* ended with 2\.$"):
        train(tmp_path / "nowhere", "--recipe", "horses-humans")
