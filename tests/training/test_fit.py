from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.errors import RunError, TellapartError, TrainingError
from tellapart.models.backend import start_keras
from tellapart.progress import Progress
from tellapart.runs.history import best_row
from tellapart.training import interruption
from tellapart.training.fit import class_weights
from tests.values import history_row

pytest.importorskip("keras")

Figures = Callable[[ta.Run], list[dict[str, Any]]]
AssertSameRun = Callable[[ta.Run, ta.Run], None]

SMALL = (
    "model.name=cnn",
    "image.height=32",
    "image.width=32",
    "model.filters=[8, 16]",
    "model.dense=[16]",
    "train.batch_size=8",
    "train.learning_rate=0.003",
)


def train(data: Any, out: Path, *settings: str, **options: Any) -> ta.Run:
    return ta.train(data, out=out, config=ta.make_config(settings=[*SMALL, *settings], **options))


class Interrupting(Progress):
    """Presses Ctrl-C when an epoch has done a step."""

    def __init__(self, epoch: int) -> None:
        self.stage = f"epoch {epoch}/"

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        if stage.startswith(self.stage):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    return train(shapes, tmp_path_factory.mktemp("runs") / "run", "train.epochs=12", "train.patience=0")


def test_a_finished_run_holds_everything_its_design_names(trained: ta.Run) -> None:
    names = {p.name for p in trained.path.iterdir()}
    assert names == {
        "run.json", "config.toml", "catalog.csv", "history.jsonl", "model.keras", "model.onnx", "metrics.json",
        "predictions.csv", "figures", "report.html", "README.md", "class_means.npy", "validation_traits.npy",
    }  # fmt: skip
    assert trained.status == "done"
    assert {p.name for p in trained.figures.iterdir()} == {
        "accuracy.svg", "loss.svg", "confusion.svg", "reliability.svg", "coverage.svg",
    }  # fmt: skip


def test_a_step_is_traced_once_for_each_size_of_batch(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras, traced = start_keras(), []
    step = keras.Model.train_step

    def noted(model: Any, data: Any) -> Any:
        traced.append(data[0].shape[0])
        return step(model, data)

    monkeypatch.setattr(keras.Model, "train_step", noted)
    train(shapes, tmp_path / "run", "train.epochs=2")
    assert traced == [8, None]


def test_a_small_network_learns_three_shapes(trained: ta.Run) -> None:
    assert trained.history[-1].loss < 0.7 * trained.history[0].loss
    assert trained.evaluate(split="train").accuracy.value > 0.6


def test_every_image_stands_in_one_split_and_the_split_is_stored(trained: ta.Run) -> None:
    assert {split: sum(row.values()) for split, row in trained.catalog.counts().items()} == {
        "train": 39, "validation": 9, "test": 12,
    }  # fmt: skip


def test_the_onnx_file_predicts_what_keras_predicts(trained: ta.Run, shapes: Path) -> None:
    images = np.stack([ta_read(p, trained) for p in sorted(shapes.rglob("*.png"))[::3]])
    ours = trained.predictor().probabilities(images)
    np.testing.assert_allclose(ours, trained.model().predict(images, verbose=0), atol=1e-4)
    assert 0 <= trained.record.onnx_difference < 1e-3
    assert trained.record.verified_images == 9


def ta_read(path: Path, run: ta.Run) -> np.ndarray:
    from tellapart.data import pixels

    return pixels.read(path, run.spec)


def test_metrics_predictions_and_a_new_evaluation_agree(trained: ta.Run) -> None:
    again = trained.evaluate()
    stored = trained.metrics["test"]
    assert again.to_dict() == stored
    rows = (trained.path / "predictions.csv").read_text().splitlines()[1:]
    right = sum(row.split(",")[1] == row.split(",")[2] for row in rows)
    assert right / len(rows) == pytest.approx(stored["accuracy"]["value"])


def test_the_best_epoch_is_kept_and_not_the_last(shapes: Path, tmp_path: Path) -> None:
    # Labels that mean nothing can only be learned by heart, so the validation loss rises.
    for number, path in enumerate(sorted(shapes.rglob("*.png"))):
        target = tmp_path / "shapes" / "ab"[number % 2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    settings = ("train.epochs=8", "train.learning_rate=0.01", "train.patience=0", "augment=none")
    run = train(tmp_path / "shapes", tmp_path / "run", *settings)
    best = min(run.history, key=lambda row: row.val_loss)
    assert run.record.best_epoch == best.epoch
    assert best.epoch < 8, "the case is of no use if the last epoch is the best"
    assert run.evaluate(split="validation").metrics["log_loss"].value == pytest.approx(best.val_loss, abs=0.05)
    # Calibrated, a worse epoch may tell nearly the same: its weights are those of a run that ends there.
    short = train(tmp_path / "shapes", tmp_path / "short", *settings[1:], f"train.epochs={best.epoch}")
    for ours, theirs in zip(run.model().get_weights(), short.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_runs_with_one_seed_have_one_history_and_another_seed_another(
    shapes: Path, tmp_path: Path, figures: Figures, assert_same_run: AssertSameRun
) -> None:
    one, two, other = (
        train(shapes, tmp_path / name, "train.epochs=2", "model.dropout=0.3", "augment=strong", seed=seed)
        for name, seed in (("one", 5), ("two", 5), ("other", 6))
    )
    assert_same_run(one, two)
    assert figures(one) != figures(other)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_stopped_by_ctrl_c_evaluates_and_resumes_as_if_never_stopped(
    shapes: Path, tmp_path: Path, schedule: str, assert_same_run: AssertSameRun
) -> None:
    settings = ("train.epochs=4", "train.patience=0", "model.dropout=0.3", f"train.schedule={schedule}")
    whole = train(shapes, tmp_path / "whole", *settings)
    config = ta.make_config(settings=[*SMALL, *settings])
    stopped = ta.train(shapes, out=tmp_path / "stopped", config=config, progress=Interrupting(3))
    assert stopped.status == "interrupted"
    assert len(stopped.history) == 2
    assert stopped.evaluate().n == 12
    resumed = ta.resume(stopped.path)
    assert resumed.status == "done"
    assert_same_run(resumed, whole)
    assert not resumed.checkpoint.exists()


def test_a_run_whose_time_is_up_keeps_its_best_epoch_and_goes_on_with_more(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: ta.Run, assert_same_run: AssertSameRun
) -> None:
    class Late(Progress):
        """Lets the time be up in an epoch."""

        now = 0.0

        def __init__(self, epoch: int) -> None:
            self.stage = f"epoch {epoch}/"

        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            if stage.startswith(self.stage):
                Late.now = 1e12

    monkeypatch.setattr(interruption, "time", SimpleNamespace(monotonic=lambda: Late.now))
    settings = [*SMALL, "train.epochs=12", "train.patience=0"]
    config = ta.make_config(settings=settings)
    stopped = ta.train(shapes, out=tmp_path / "run", config=config, budget=1e9, progress=Late(4))
    assert stopped.status == "interrupted"
    assert stopped.record.stopped == "interrupted in epoch 4: its time was up"
    assert stopped.record.stop_reason == "time-up"
    assert len(stopped.history) == 3
    assert stopped.evaluate().n == 12
    assert_same_run(ta.resume(stopped.path), trained)
    Late.now = 0.0
    with pytest.raises(TrainingError, match="The time was up before the first epoch"):
        ta.train(shapes, out=tmp_path / "late", config=config, budget=1e9, progress=Late(1))
    assert ta.open_run(tmp_path / "late").status == "interrupted"


def test_ctrl_c_in_the_first_epoch_leaves_a_run_that_can_be_resumed(shapes: Path, tmp_path: Path) -> None:
    config = ta.make_config(settings=[*SMALL, "train.epochs=1"])
    with pytest.raises(KeyboardInterrupt):
        ta.train(shapes, out=tmp_path / "run", config=config, progress=Interrupting(1))
    run = ta.open_run(tmp_path / "run")
    assert run.status == "interrupted"
    with pytest.raises(RunError, match="--resume"):
        run.predictor()
    assert ta.resume(run.path).status == "done"


def test_patience_ends_training_and_survives_a_resume(shapes: Path, tmp_path: Path, figures: Figures) -> None:
    settings = ("train.epochs=30", "train.patience=2", "train.learning_rate=0.05")
    whole = train(shapes, tmp_path / "whole", *settings)
    assert len(whole.history) < 30
    assert whole.record.stopped.startswith("no better val_loss for 2 epochs")
    assert whole.record.stop_reason == "no-better"
    config = ta.make_config(settings=[*SMALL, *settings])
    stopped = ta.train(shapes, out=tmp_path / "stopped", config=config, progress=Interrupting(len(whole.history) - 1))
    assert figures(ta.resume(stopped.path)) == figures(whole)


def test_a_loss_that_is_no_number_is_told_and_the_best_epoch_is_kept(shapes: Path, tmp_path: Path) -> None:
    settings = ("train.optimizer=sgd", "train.learning_rate=1e30", "train.epochs=3", "train.precision=float32")
    with pytest.raises(TrainingError, match=r"not-a-number in epoch 1.*learning_rate"):
        train(shapes, tmp_path / "run", *settings)
    assert ta.open_run(tmp_path / "run").status == "failed"


def test_steps_per_epoch_bounds_an_epoch_and_passes_go_on_over_epochs(shapes: Path, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "run", "train.epochs=2", "train.steps_per_epoch=7", "train.validation_steps=1")
    assert len(run.history) == 2


def test_two_classes_give_one_sigmoid_unit_and_an_auc(two_shapes: Path, tmp_path: Path) -> None:
    run = train(two_shapes, tmp_path / "run", "train.epochs=6", "train.label_smoothing=0.05")
    assert run.model().output_shape == (None, 1)
    assert "auc" in run.metrics["test"]
    for prediction in run.predict(sorted(two_shapes.rglob("*.png"))[:3]):
        assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_bfloat16_reaches_what_float32_reaches(two_shapes: Path, tmp_path: Path) -> None:
    reached = {
        precision: train(two_shapes, tmp_path / precision, "train.epochs=8", f"train.precision={precision}")
        for precision in ("float32", "bfloat16")
    }
    losses = [min(row.val_loss for row in run.history) for run in reached.values()]
    assert abs(losses[0] - losses[1]) < 0.15
    assert reached["bfloat16"].model().dtype_policy.name == "float32"


def test_a_scarce_class_is_weighed_up_and_the_run_says_so(shapes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shapes, tmp_path / "shapes")
    for path in sorted((folder / "disc").iterdir())[8:]:
        path.unlink()
    run = train(folder, tmp_path / "run", "train.epochs=1")
    assert "disc" in run.record.class_weights
    assert any(f.kind == "imbalanced" for f in run.catalog.findings)
    weights, _ = class_weights(run.catalog.split("train"), ta.make_config())
    counts = np.bincount(run.catalog.split("train").class_indices())
    assert weights is not None
    np.testing.assert_allclose(weights * counts, counts.sum() / 3, rtol=1e-5)
    assert class_weights(run.catalog.split("train"), ta.make_config(settings=["train.class_weights=none"]))[0] is None


def test_a_class_without_training_images_is_refused_before_anything_is_trained(shapes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shapes, tmp_path / "shapes")
    for path in (folder / "disc").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"for disc \(20 cannot be read\)\..*`tellapart check` says why"):
        train(folder, tmp_path / "run", "train.epochs=1")
    assert not (tmp_path / "run").exists()


def test_broken_images_are_left_out_counted_and_left_as_they_are(shapes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shapes, tmp_path / "shapes")
    (folder / "disc" / "empty.jpg").write_bytes(b"")
    whole = (folder / "disc" / "disc 1.png").read_bytes()
    (folder / "disc" / "half.png").write_bytes(whole[: len(whole) // 2])
    run = train(folder, tmp_path / "run", "train.epochs=1")
    assert sorted(p.path for p in run.catalog.broken) == ["disc/empty.jpg", "disc/half.png"]
    assert (folder / "disc" / "empty.jpg").read_bytes() == b""
    assert (folder / "disc" / "half.png").read_bytes() == whole[: len(whole) // 2]


def test_a_done_run_is_not_trained_again_and_changed_images_stop_a_resume(shapes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shapes, tmp_path / "shapes")
    config = ta.make_config(settings=[*SMALL, "train.epochs=3"])
    run = ta.train(folder, out=tmp_path / "run", config=config, progress=Interrupting(2))
    image = folder / "disc" / "disc 3.png"
    before = image.read_bytes()
    time.sleep(0.02)
    shutil.copy(folder / "disc" / "disc 4.png", image)
    with pytest.raises(RunError, match=r"1 images changed.*disc/disc 3\.png"):
        ta.resume(run.path)
    image.write_bytes(before)
    assert ta.resume(run.path).status == "done"
    with pytest.raises(RunError, match="is done"):
        ta.resume(run.path)


def test_a_catalog_can_be_trained_on_as_it_is(shapes: Path, tmp_path: Path) -> None:
    catalog = ta.read(shapes)
    run = train(catalog, tmp_path / "run", "train.epochs=1")
    assert run.catalog.images == catalog.images


def test_images_larger_than_the_cache_limit_train_the_same(
    shapes: Path, tmp_path: Path, own_cache: Path, figures: Figures
) -> None:
    config = ta.make_config(settings=[*SMALL, "train.epochs=1", "augment=medium"])
    free = ta.train(shapes, out=tmp_path / "free", config=config)
    shutil.rmtree(own_cache)
    tight = ta.train(shapes, out=tmp_path / "tight", config=config, cache_limit=10_000)
    assert figures(free) == figures(tight)


def test_an_images_own_small_size_and_greyness_are_kept_and_told(shapes: Path, tmp_path: Path) -> None:
    from PIL import Image

    for path in shapes.rglob("*.png"):
        target = tmp_path / "grey" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(target)
    config = ta.make_config(settings=["model.name=cnn", "model.filters=[4]", "model.dense=[4]", "train.epochs=1"])
    run = ta.train(tmp_path / "grey", out=tmp_path / "run", config=config)
    assert run.spec.shape == (40, 40, 1)
    assert len(run.record.decided) == 2
    assert "one channel" in run.report_file.read_text()


def test_evaluating_other_images_matches_classes_by_name(trained: ta.Run, shapes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for number, kind in enumerate(("stripes", "disc")):
        shutil.copytree(shapes / kind, other / kind)
        assert number < 2
    evaluation = trained.evaluate(other)
    assert evaluation.n == 40
    by_name = {row.label: row.support for row in evaluation.per_class}
    assert by_name == {"disc": 20, "square": 0, "stripes": 20}
    (other / "disc").rename(other / "unheard of")
    with pytest.raises(TellapartError, match="unheard of"):
        trained.evaluate(other)


@pytest.mark.parametrize("inside", ["", "square"])
def test_images_of_one_class_are_enough_to_evaluate(inside: str, trained: ta.Run, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes / "square", tmp_path / "new" / "square")
    evaluation = trained.evaluate(tmp_path / "new" / inside)
    assert evaluation.confusion.sum(axis=1).tolist() == [0, 20, 0]
    assert evaluation.per_class[1].recall.value == evaluation.accuracy.value


def test_the_best_epoch_is_the_earliest_of_equals() -> None:
    rows = [history_row(i, val_accuracy=v) for i, v in enumerate((0.5, 0.8, 0.8), start=1)]
    assert best_row(rows, "val_accuracy").epoch == 2


def test_run_json_says_what_the_run_was_made_with(trained: ta.Run) -> None:
    record = json.loads(trained.run_file.read_text())
    assert {"tensorflow", "keras", "python", "tellapart"} <= record["versions"].keys()
    assert record["seed"] == 0
    assert record["catalog_digest"] == trained.catalog.digest
    assert record["config_digest"] == trained.config.digest
