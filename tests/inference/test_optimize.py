"""A run -> the fastest arithmetic that keeps its labels: what is chosen, what predicts with it, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.inference import optimize as optimizing
from tellapart.inference.fast import cost_in_words
from tellapart.inference.optimize import Optimized
from tellapart.inference.predictor import Predictor
from tellapart.models import quantize
from tellapart.serve.server import open_predictors
from tests.command import call
from tests.conftest import make_shapes

pytest.importorskip("onnx")

SLOWER = {"float32": 9.0, "int8": 2.0, "bfloat16": 4.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimized")
    shapes = make_shapes(folder / "shapes", ("disc", "stripes"), 80)
    settings = [
        "model.filters=[8]",
        "model.dense=[8]",
        "train.epochs=4",
        "image.height=32",
        "image.width=32",
        "data.validation_fraction=0.5",
    ]
    return ta.train(shapes, config=ta.make_config(model="cnn", settings=settings), out=folder / "run").path


@pytest.fixture(scope="module")
def optimized(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Optimized]:
    run = shutil.copytree(trained, tmp_path_factory.mktemp("fast") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizing, "_times", lambda made, _: {name: SLOWER[name] for name in made})
        found = ta.optimize(run, keep=0.9)
    assert found is not None
    return run, found


def test_the_fastest_that_keeps_the_labels_is_chosen_and_said(optimized: tuple[Path, Optimized]) -> None:
    run, found = optimized
    assert found.arithmetic == "int8"
    assert found.speed == 4.5
    opened = ta.open_run(run)
    assert opened.record.fast == json.loads(json.dumps(found.to_dict()))
    trial = next(each for each in found.trials if each.arithmetic == "int8")
    assert trial.kept >= 0.9 * found.images
    assert f"{trial.kept} of {found.images} validation images keep their label" in opened.report_file.read_text()
    assert "4.5 times as fast" in cost_in_words(opened.record.fast)


def test_predict_and_serve_take_it_and_exact_does_not(
    optimized: tuple[Path, Optimized], trained: Path, shapes: Path
) -> None:
    run, _ = optimized
    before = ta.predict(trained, shapes)
    assert ta.predict(run, shapes, exact=True)[0].probabilities == before[0].probabilities
    fast = ta.predict(run, shapes)
    assert fast[0].probabilities != before[0].probabilities
    assert np.mean([ours.label == theirs.label for ours, theirs in zip(fast, before, strict=True)]) > 0.9
    assert open_predictors([str(run)])["run"].arithmetic == "int8"
    assert open_predictors([str(run)], exact=True)["run"].arithmetic == "float32"
    done = call("predict", str(run), str(next(shapes.rglob("*.png"))))
    assert "int8" in done.stderr
    assert "int8" not in call("predict", str(run), str(next(shapes.rglob("*.png"))), "--exact").stderr


def test_it_is_calibrated_anew_with_thresholds_of_its_own(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizing, "has_bfloat16", lambda: False)
    monkeypatch.setattr(optimizing, "fit_temperature", lambda logits, truth: 4.0 if len(logits) == len(truth) else 0.0)
    monkeypatch.setattr(optimizing, "_times", lambda made, _: {name: SLOWER[name] for name in made})
    run = ta.open_run(shutil.copytree(trained, tmp_path / "run"))
    found = ta.optimize(run, keep=0.9)
    assert found is not None
    assert found.trials[1].temperature == 4.0
    fast, exact = Predictor(run.fast_file), Predictor(run.onnx_file)
    assert fast.metadata.temperature == exact.metadata.temperature * 4
    assert fast.metadata.thresholds != exact.metadata.thresholds
    catalog = run.catalog.split("validation")
    paths = [catalog.root / image.path for image in catalog.images]
    sizes = [
        np.mean([abs(np.log(said.probability / (1 - said.probability))) for said in each.predict(paths)])
        for each in (fast, exact)
    ]
    assert sizes[1] / sizes[0] == pytest.approx(4, rel=0.15)


def test_a_temperature_divides_the_logits(trained: Path, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(str(ta.open_run(trained).onnx_file))
    onnx.save(quantize.cooled(graph, 2.0), str(tmp_path / "cooled.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    before, after = (
        Predictor(path).probabilities(images) for path in (ta.open_run(trained).onnx_file, tmp_path / "cooled.onnx")
    )
    logits = np.log(before[:, 1] / before[:, 0])
    assert np.log(after[:, 1] / after[:, 0]) == pytest.approx(logits / 2, rel=1e-3, abs=1e-4)


def test_what_changes_labels_or_is_not_faster_is_refused(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    real = optimizing._said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizing, "has_bfloat16", lambda: False)

        def turned(predictor: Predictor, images: np.ndarray) -> optimizing._Said:
            said = real(predictor, images)
            if predictor.path.name == "model.onnx":
                return said
            return replace(said, probabilities=said.probabilities[:, ::-1])

        patch.setattr(optimizing, "_times", lambda made, _: {name: SLOWER[name] for name in made})
        patch.setattr(optimizing, "_said", turned)
        found = ta.optimize(run)
    assert found is not None
    assert (found.arithmetic, found.trials[1].refused) == ("float32", "fewer labels kept than 99.8 %")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizing, "has_bfloat16", lambda: False)
        patch.setattr(optimizing, "_times", lambda made, _: dict.fromkeys(made, 1.0))
        found = ta.optimize(run, keep=0.9)
    assert found is not None
    assert (found.arithmetic, found.trials[1].refused) == ("float32", "not faster on this processor")
    assert not ta.open_run(run).fast_file.exists()
    assert "Nothing faster than float32" in cost_in_words(ta.open_run(run).record.fast or {})


def test_undo_predicts_as_trained_again(optimized: tuple[Path, Optimized], tmp_path: Path) -> None:
    run = Path(shutil.copytree(optimized[0], tmp_path / "run"))
    assert ta.optimize(run, undo=True) is None
    opened = ta.open_run(run)
    assert opened.record.fast is None
    assert not opened.fast_file.exists()
    assert opened.predictor(exact=False).arithmetic == "float32"


def test_a_run_whose_fast_file_is_missing_or_unknown_says_what_to_do(
    optimized: tuple[Path, Optimized], tmp_path: Path
) -> None:
    run = ta.open_run(shutil.copytree(optimized[0], tmp_path / "run"))
    run.fast_file.unlink()
    with pytest.raises(ta.TellapartError, match="--exact"):
        run.predictor(exact=False)
    run.update(fast={"arithmetic": "int3"})
    with pytest.raises(ta.TellapartError, match="int3"):
        run.predictor(exact=False)


def test_too_few_validation_images_and_a_wrong_share_are_refused(shapes_run: Path) -> None:
    with pytest.raises(ta.TellapartError, match="at least 20"):
        ta.optimize(shapes_run)
    with pytest.raises(ta.TellapartError, match=r"0\.9 to 1"):
        ta.optimize(shapes_run, keep=0.2)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra openvino is not installed")
def test_openvino_answers_nearly_alike_alone_and_from_threads(trained: Path) -> None:
    file = ta.open_run(trained).onnx_file
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    exact = Predictor(file)
    fast = Predictor(file, arithmetic="bfloat16", device="cpu")
    assert np.abs(fast.probabilities(images) - exact.probabilities(images)).max() < 0.05
    named = [(str(number), image) for number, image in enumerate(images)]
    alone = [answer.label for answer in exact.predict_named(named, batch_size=2)]
    assert [answer.label for answer in fast.predict_named(named, batch_size=2)] == alone
