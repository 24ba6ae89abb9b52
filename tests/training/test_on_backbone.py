"""Training on a pretrained backbone: its head, its fine-tuning, and what a stop leaves."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.pixels import read
from tellapart.errors import ModelError
from tellapart.evaluation.calibration import sharpened
from tellapart.evaluation.metrics import log_losses
from tellapart.evaluation.overfitting import kept
from tellapart.progress import Progress
from tellapart.training.interruption import CtrlC, TimeUp
from tests.conftest import make_shapes

pytest.importorskip("keras")
pytestmark = pytest.mark.usefixtures("shared_cache")

# The 39 training images fill their batches: for a last one of another size TensorFlow traces the network again.
SMALL = (
    "model.name=efficientnet-lite0", "image.height=32", "image.width=32", "train.batch_size=13", "train.epochs=3",
    "train.patience=0",
)  # fmt: skip
STOPPED = ("model.dense=[8]", "train.fine_tune=1", "augment=light", "train.views=2")


class Stages(Progress):
    """Notes which stages came, with their totals, and may press Ctrl-C in one."""

    def __init__(self, stop: Callable[[str, int], bool] = lambda *_: False) -> None:
        self.seen: dict[str, int] = {}
        self.stop = stop

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        self.seen[stage] = total
        if self.stop(stage, done):
            raise KeyboardInterrupt


def train(data: Path, out: Path, *settings: str, progress: Progress | None = None) -> ta.Run:
    config = ta.make_config(settings=[*SMALL, *settings])
    return ta.train(data, out=out, config=config, progress=progress or Stages())


@pytest.fixture(scope="module")
def frozen(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """A linear head on the frozen backbone; to be left as it is."""
    return train(shapes, tmp_path_factory.mktemp("frozen") / "run")


@pytest.fixture(scope="module")
def never_stopped(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """Head and fine-tuning; to be left as it is."""
    return train(shapes, tmp_path_factory.mktemp("whole") / "run", *STOPPED)


def test_a_linear_head_makes_one_whole_network_that_predicts_alike_everywhere(frozen: ta.Run, shapes: Path) -> None:
    run = frozen
    assert run.status == "done"
    assert {row.phase for row in run.history} == {"head"}
    assert run.record.onnx_difference < 1e-4
    files = sorted(shapes.rglob("*.png"))[::7]
    pixels = np.stack([read(path, run.spec) for path in files])
    said = run.model().predict_on_batch(pixels)
    for prediction, row in zip(run.predict(files), said, strict=True):
        np.testing.assert_allclose(list(prediction.probabilities.values()), row, atol=1e-4)
    assert run.metrics["test"]["accuracy"]["value"] >= 0.6
    best = min(run.history, key=lambda row: row.val_loss)
    held = run.catalog.split("validation")
    said = list(run.predict([held.root / image.path for image in held.images]))
    rows = np.array([list(found.probabilities.values()) for found in said])
    uncalibrated = sharpened(rows, run.record.calibration["temperature"])
    assert log_losses(held.class_indices(), uncalibrated).mean() == pytest.approx(best.val_loss, abs=5e-3)
    assert run.report_file.stat().st_size > 10_000
    assert "regularisation" in run.report_file.read_text(encoding="utf-8")


@pytest.mark.usefixtures("frozen")
def test_another_head_on_the_same_images_asks_nothing_of_the_backbone(shapes: Path, tmp_path: Path) -> None:
    second = Stages()
    run = train(shapes, tmp_path / "second", "model.dense=[16]", "model.dropout=0.2", progress=second)
    assert not {"preparing the backbone", "features, train", "features, validation"} & second.seen.keys()
    assert [row.epoch for row in run.history] == [1, 2, 3]
    assert run.model().get_layer("dense_1").units == 16
    assert run.record.onnx_difference < 1e-4


def test_the_features_are_chosen_on_the_validation_split_and_the_run_is_opened_and_trained_again_by_them(
    shapes: Path, tmp_path: Path
) -> None:
    larger = ("image.height=64", "image.width=64")
    run = train(shapes, tmp_path / "run", *larger)
    chosen = run.config.model.options["features"]
    names = ("top", "levels", "all-filters", "filters")
    for name in names:
        progress = Stages()
        alone = train(shapes, tmp_path / name, *larger, f"model.features={name}", progress=progress)
        assert not {"features, train", "features, validation"} & progress.seen.keys(), "computed once for all"
        if name == chosen:
            for mine, other in zip(run.model().weights, alone.model().weights, strict=True):
                np.testing.assert_array_equal(mine, other)
    (said,) = (note for note in run.record.decided if note.startswith("features:"))
    assert said.startswith(f"features: {chosen}, ")
    losses = {name: float(loss) for name, loss in re.findall(r"([a-z-]+) ([\d.e-]+)[,)]", said.rpartition("(")[2])}
    assert tuple(losses) == names
    assert losses[chosen] <= losses["top"]
    assert run.record.config_digest == run.config.digest
    # The wrong answers of test images change nothing: they are not looked at.
    turned = ta.read(shapes, config=ta.make_config(settings=[*SMALL, *larger]))
    labels = turned.task.classes
    images = [
        replace(image, label=labels[1 - labels.index(image.label)]) if image.split == "test" else image
        for image in turned.images
    ]
    other = ta.train(
        replace(turned, images=tuple(images)),
        out=tmp_path / "turned",
        config=ta.make_config(settings=[*SMALL, *larger]),
        progress=Stages(),
    )
    assert other.config.model == run.config.model
    for mine, theirs in zip(run.model().weights, other.model().weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_features_that_are_roots_are_judged_and_calibrated_as_the_network_reads_them(
    shapes: Path, tmp_path: Path
) -> None:
    run = train(shapes, tmp_path / "run", "image.height=64", "image.width=64", "model.features=levels")
    assert run.model().layers[-1].kernel.shape[0] == 2496
    held = run.catalog.split("test")
    with run.predictions_file.open(encoding="utf-8", newline="") as file:
        written = {row["path"]: float(row["probability"]) for row in csv.DictReader(file)}
    paths = [image.path for image in held.images]
    for path, found in zip(paths, run.predictor().predict([held.root / path for path in paths]), strict=True):
        assert found.probability == pytest.approx(written[path], abs=0.01)


def test_time_that_is_up_while_the_heads_are_fitted_leaves_a_run_that_is_done(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting: list[str] = []

    def check(ctrl_c: CtrlC) -> None:  # noqa: ARG001 - a method
        if fitting:
            raise TimeUp

    monkeypatch.setattr(CtrlC, "check", check)
    progress = Stages(lambda stage, _: stage == "fitting the head" and fitting.append(stage) is not None)
    run = train(shapes, tmp_path / "run", "image.height=64", "image.width=64", progress=progress)
    assert fitting, "the case is void"
    assert run.status == "done"
    assert run.onnx_file.exists()


def test_features_that_a_backbone_does_not_have_are_told_with_those_that_it_has(shapes: Path, tmp_path: Path) -> None:
    settings = ("model.name=mobilenet-v2", "model.weights=none", "model.features=filters")
    with pytest.raises(ModelError, match=r"no set of features of mobilenet-v2 'filters'\. Known: levels, top"):
        train(shapes, tmp_path / "run", *settings)
    assert not (tmp_path / "run").exists()


def test_fine_tuning_changes_the_top_blocks_and_no_statistics_of_batch_normalisation(
    frozen: ta.Run, shapes: Path, tmp_path: Path
) -> None:
    run = train(shapes, tmp_path / "tuned", "train.fine_tune=2", "train.fine_tune_learning_rate=0.0005", "augment=none")
    assert [row.phase for row in run.history[-3:]] == ["fine-tune"] * 3
    best = run.history[run.record.best_epoch - 1]
    assert best.phase == "fine-tune", "the case is of no use if the frozen backbone is kept"
    changed = set()
    ours, theirs = run.model(), frozen.model()
    for layer in ours.layers:
        for mine, other in zip(layer.weights, theirs.get_layer(layer.name).weights, strict=True):
            if not np.array_equal(mine, other):
                changed.add(layer.name)
                assert "moving" not in mine.name
    assert any(name.startswith("end_convolution") for name in changed)
    assert not any(name.startswith(("stem", "stage_1", "stage_2")) for name in changed)
    assert not any("normalization" in name for name in changed)
    assert run.record.onnx_difference < 1e-3


def test_a_run_may_predict_from_an_image_and_its_mirror_image(shapes: Path, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "run", "model.mirrored=true", "train.fine_tune=1", "train.epochs=1")
    assert any("which doubles its cost" in note for note in run.record.decided)
    images = np.stack([read(path, run.spec) for path in sorted(shapes.rglob("*.png"))[::17]])
    said, mirrored = (run.model().predict_on_batch(each) for each in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(said, mirrored, atol=1e-5)
    ours = [list(found.probabilities.values()) for found in run.predictor().predict(list(images))]
    np.testing.assert_allclose(ours, said, atol=1e-4)


def test_fine_tuning_that_harms_is_told_and_the_frozen_backbone_is_kept(
    frozen: ta.Run, shapes: Path, tmp_path: Path
) -> None:
    run = train(shapes, tmp_path / "run", "train.fine_tune=all", "train.fine_tune_learning_rate=0.5")
    told = kept(run.history, run.record.best_epoch, run.record.stop)
    assert "on the frozen backbone, as fine-tuning was no gain on the validation split" in told
    for ours, theirs in zip(run.model().get_weights(), frozen.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    page = run.report_file.read_text(encoding="utf-8")
    assert page.count(told) == 1
    assert page.count("no gain on the validation split") == 1


@pytest.mark.parametrize("stage", ["features, train", pytest.param("epoch 2/", marks=pytest.mark.soak), "epoch 6/"])
def test_a_run_that_was_stopped_resumes_as_if_it_never_was(
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    never_stopped: ta.Run,
    assert_same_run: Callable[[ta.Run, ta.Run], None],
) -> None:
    if stage == "features, train":
        monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    stopping = Stages(lambda now, done: now.startswith(stage) and done >= 2)
    try:
        stopped = train(shapes, tmp_path / "stopped", *STOPPED, progress=stopping)
    except KeyboardInterrupt:
        stopped = ta.open_run(tmp_path / "stopped")
    assert stopped.status == "interrupted"
    resumed = ta.resume(stopped.path)
    assert resumed.status == "done"
    assert_same_run(resumed, never_stopped)
    assert not resumed.checkpoint.exists()


def test_more_blocks_than_there_are_is_told_before_anything_is_computed(shapes: Path, tmp_path: Path) -> None:
    stages = Stages()
    with pytest.raises(ModelError, match="it has 10"):
        train(shapes, tmp_path / "run", "train.fine_tune=99", "seed=77", progress=stages)
    assert "features, train" not in stages.seen
    assert ta.open_run(tmp_path / "run").status == "failed"


def test_views_let_augmentation_and_kept_features_go_together(shapes: Path, tmp_path: Path) -> None:
    stages = Stages()
    settings = ("train.views=3", "augment=medium", "model.dense=[8]", "train.epochs=1", "seed=9")
    run = train(shapes, tmp_path / "run", *settings, progress=stages)
    count = sum(run.catalog.counts()["train"].values())
    # The plain views are there from other runs, but for those that another seed moved into the training split.
    assert 2 * count <= stages.seen["features, train"] <= 3 * count
    assert stages.seen["epoch 1/1"] == -(-3 * count // 13)


def test_without_a_test_split_the_validation_images_are_judged_and_the_run_says_so(
    shapes: Path, tmp_path: Path
) -> None:
    run = train(shapes, tmp_path / "run", "data.test_fraction=0")
    assert list(run.metrics) == ["validation"]
    assert run.metrics["validation"]["n"] == len(run.catalog.split("validation"))
    assert "No test split" in run.report_file.read_text(encoding="utf-8")


def test_grey_images_train_on_a_backbone_that_wants_colour(shapes: Path, tmp_path: Path) -> None:
    for path in sorted(shapes.rglob("*.png"))[::3]:
        target = tmp_path / "grey" / path.relative_to(shapes)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(target)
    run = train(tmp_path / "grey", tmp_path / "run")
    assert run.spec.channels == 3


def test_auto_takes_the_backbone_inside_the_package_and_says_so(shapes: Path, tmp_path: Path) -> None:
    config = ta.make_config(settings=["image.height=32", "image.width=32"])
    run = ta.train(shapes, out=tmp_path / "run", config=config)
    assert run.config.model.name == "efficientnet-lite0"
    assert any("pretrained backbone inside the package" in text for text in run.record.decided)


def test_so_many_folds_are_told_as_there_were(tmp_path: Path) -> None:
    folder = make_shapes(tmp_path / "few", ("disc", "square"), 4)
    run = train(folder, tmp_path / "run")
    assert [note for note in run.record.decided if note.startswith("4 times 3 stratified folds over the 6 training")]
