"""What `train`, `evaluate` and `predict` tell of images that differ from the validation images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import tellapart as ta
from tellapart.cli.main import app
from tellapart.data.corruptions import darkened
from tellapart.errors import RunError
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.evaluation.shift import Reference, Shift, learn_reference
from tests.command import call
from tests.conftest import draw, make_shapes

pytest.importorskip("keras")

SMALL = ["model.filters=[4]", "model.dense=[8]", "train.epochs=2", "image.height=32", "image.width=32", "seed=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    place = tmp_path_factory.mktemp("shift")
    make_shapes(place / "photos", ("disc", "square"), 170)
    return ta.train(place / "photos", config=ta.make_config(model="cnn", settings=SMALL), out=place / "run")


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images as the run knows them, taken at night."""
    place = tmp_path_factory.mktemp("night")
    for kind in ("disc", "square"):
        (place / kind).mkdir()
        for number in range(500, 530):
            image = darkened(np.asarray(draw(kind, number)), 0.3)
            assert cv2.imwrite(str(place / kind / f"{number}.png"), image[:, :, ::-1])
    return place


def test_the_test_split_of_a_training_is_compared_and_does_not_differ(run: ta.Run) -> None:
    assert run.traits is not None
    assert len(run.traits) == len(run.catalog.split("validation"))
    shift = run.metrics["test"]["shift"]
    assert shift["n"] == run.metrics["test"]["n"]
    assert shift["found"] is False
    # As it is told again from the files.
    again = run.evaluate()
    assert again.shift is not None
    assert again.shift.auc.value == pytest.approx(shift["auc"]["value"], abs=0.03)
    assert run.evaluate(split="validation").shift is None


def test_evaluate_tells_that_other_images_differ_and_in_what(run: ta.Run, dark: Path) -> None:
    found = run.evaluate(dark)
    assert found.shift is not None
    assert found.shift.found
    assert "darker" in found.shift.differs
    assert abs(found.shift.expected - found.accuracy.value) < 0.3
    assert found.shift.sentences[0] in found.notes
    told = call("evaluate", run.path, dark)
    assert "darker" in told.stdout
    in_json = json.loads(call("evaluate", run.path, dark, "--format", "json").stdout)
    assert in_json["test"]["shift"]["found"] is True


def test_predict_tells_it_of_many_images_and_of_few_nothing(run: ta.Run, dark: Path) -> None:
    many = run.predict(dark)
    assert many.shift is not None
    assert many.shift.found
    assert many.shift.differs == run.predict([dark / "square", dark / "disc"]).shift.differs
    assert run.predict(dark / "disc").shift is None
    told = call("predict", run.path, dark)
    assert "differ from the validation images" in told.stderr
    assert "Accuracy to expect here" in told.stderr
    assert "differ" not in call("predict", run.path, dark / "disc").stderr
    usual = run.predict(sorted(run.catalog.root.rglob("*.png"))[:200:2]).shift
    assert usual is not None
    assert not usual.found


def test_no_row_of_predict_is_sure_where_sure_predictions_cannot_be_relied_on(
    run: ta.Run, dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Thresholds, "verdict", lambda *_: "sure")
    rows = {}
    for withheld in (False, True):
        monkeypatch.setattr(Shift, "withheld", withheld)
        file = tmp_path / f"{withheld}.csv"
        said = CliRunner().invoke(app, ["predict", str(run.path), str(dark), "--out", str(file)])
        assert said.exit_code == 0
        with file.open(encoding="utf-8", newline="") as opened:
            rows[withheld] = {row["verdict"] for row in csv.DictReader(opened)}
        assert {p.verdict for p in run.predict(dark)} == rows[withheld]
    assert rows == {False: {"sure"}, True: {"unsure"}}


def test_a_run_without_traits_tells_nothing_and_a_damaged_one_says_so(run: ta.Run, dark: Path, tmp_path: Path) -> None:
    copied = ta.Run(shutil.copytree(run.path, tmp_path / "run"))
    np.save(copied.traits_file, np.zeros((60, 2), np.float32))
    with pytest.raises(RunError, match=r"validation_traits\.npy is damaged"):
        copied.predict(dark)
    copied.traits_file.unlink()
    assert copied.predict(dark).shift is None
    assert copied.evaluate(dark).shift is None


def test_a_run_of_an_earlier_version_tells_nothing(run: ta.Run, dark: Path, tmp_path: Path) -> None:
    copied = ta.Run(shutil.copytree(run.path, tmp_path / "run"))
    calibration = dict(copied.record.calibration)
    calibration["estimate"] = {"weights": [0.0] * 7, "accuracy": 0.9}
    copied.update(calibration=calibration)
    assert ta.Run(copied.path).predict(dark).shift is None


def test_training_rehearses_corrupted_images(run: ta.Run) -> None:
    kept, held = Reference.of_run(run), run.catalog.split("validation")
    assert kept is not None
    said = run.predict([held.root / image.path for image in held.images])
    right = np.array([p.label == image.label for p, image in zip(said, held.images, strict=True)])
    assert kept.accuracy == pytest.approx(right.mean())
    plain = learn_reference(kept.traits, kept.traits, right, kept.accuracy, kept.thresholds)
    assert np.abs(np.subtract(plain.weights, kept.weights)).max() > 0.05, "learned from the plain images alone"
