"""`train --folds`: every image is tested once, and one file is the average of the networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.errors import ConfigError, RunError
from tests.command import call
from tests.conftest import make_shapes

pytest.importorskip("keras")
SMALL = ["model.filters=[4]", "model.dense=[4]", "train.epochs=2", "image.height=24", "image.width=24"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("folds") / "shapes", ("disc", "stripes"), 12)


@pytest.mark.slow
def test_every_image_is_tested_once_and_the_file_is_the_average(images: Path, tmp_path: Path) -> None:
    config = ta.make_config(model="cnn", settings=SMALL)
    done = ta.train_folds(images, folds=2, config=config, out=tmp_path / "folds")
    tested = [image.path for run in done.runs for image in run.catalog.split("test").images]
    assert sorted(tested) == sorted(image.path for image in ta.read(images).images)
    assert done.evaluation.n == 24
    stored = json.loads((tmp_path / "folds" / "folds.json").read_text(encoding="utf-8"))
    assert stored["evaluation"]["accuracy"]["value"] == done.evaluation.accuracy.value
    page = done.report.read_text(encoding="utf-8")
    assert "of 24 images, each tested by a network that had not seen it" in page
    assert [page.count(f'href="fold-{number}/report.html"') for number in (1, 2)] == [1, 1]
    paths = sorted(images.rglob("*.png"))
    each = np.array([[said.probabilities["disc"] for said in run.predict(paths)] for run in done.runs])
    average = ta.Predictor(done.model)
    found = [said.probabilities["disc"] for said in average.predict(paths)]
    assert found == pytest.approx(each.mean(axis=0), abs=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert average.metadata.thresholds is not None
    # Going on with what is there.
    settings = [word for setting in SMALL for word in ("--set", setting)]
    again = call("train", images, "--folds", "2", "--model", "cnn", *settings, "--out", done.path)
    assert again.returncode == 0, again.stderr
    assert "Every image was tested once" in again.stdout
    assert "folds.html" in again.stdout
    with pytest.raises(RunError, match="other images or another seed"):
        ta.train_folds(images, folds=2, config=ta.make_config(model="cnn", seed=1, settings=SMALL), out=done.path)


@pytest.mark.soak
def test_what_networks_on_one_backbone_have_in_common_is_stored_once(tmp_path: Path) -> None:
    config = ta.make_config(fine_tune=0, image_size=64)
    done = ta.train_folds("builtin:pets", folds=2, config=config, out=tmp_path / "folds")
    one, all_of_them = (path.stat().st_size for path in (done.runs[0].onnx_file, done.model))
    assert all_of_them < 1.2 * one


def test_what_cannot_be_divided_is_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 to 20"):
        ta.train_folds(images, folds=1)
    with pytest.raises(ConfigError, match="12 images; --folds"):
        ta.train_folds(images, folds=13, out=tmp_path / "none")
    make_shapes(tmp_path / "split" / "train", ("disc", "stripes"), 3)
    make_shapes(tmp_path / "split" / "test", ("disc", "stripes"), 3)
    with pytest.raises(ConfigError, match="test split of their own"):
        ta.train_folds(tmp_path / "split", folds=2)
