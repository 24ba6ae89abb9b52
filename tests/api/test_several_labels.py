"""Images with several labels, from a table to the report, by the default without Keras and by networks of Keras."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.data.pixels import read
from tellapart.errors import ConfigError, SourceError, TrainingError
from tellapart.explain.heat import HeatMaker
from tellapart.inference.exports import EXPORTS
from tellapart.inference.predictor import Metadata
from tests.command import call
from tests.pasted import LABELS, pasted

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "several-labels.md"
pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pasted(tmp_path_factory.mktemp("photos"), 90)


@pytest.fixture(scope="module")
def commands(table: Path, shared_cache: Path) -> dict[str, str]:  # noqa: ARG001
    """What the commands of the page said, by their names: run as they stand, beside the table."""
    (table.parent / "photos").mkdir()
    for name in ("1.jpg", "9.jpg"):
        shutil.copy(table.parent / name, table.parent / "photos" / name)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = (text for language, text in blocks if not language)
    said = {}
    for line in block.splitlines():
        _, command, *words = shlex.split(line)
        done = call(command, *words, cwd=table.parent)
        assert done.returncode == 0, done.stderr
        said[command] = done.stdout
    return said


@pytest.fixture(scope="module")
def run(table: Path, commands: dict[str, str]) -> ta.Run:
    """The run of the page."""
    assert "train" in commands
    return ta.open_run(table.parent / "runs" / "labels")


def test_the_commands_of_the_page_say_what_it_promises(commands: dict[str, str]) -> None:
    assert "several labels an image" in commands["check"]
    assert "(images)" in commands["check"]
    assert "exact match" in commands["train"]
    assert "average precision" in commands["evaluate"]
    header, *rows = commands["predict"].splitlines()
    assert header == "path,label,probability,verdict,distance," + ",".join(LABELS) + ",warning,error"
    assert [row.split(",")[1] for row in rows][1] == "", "an image with none of the labels"


def test_the_default_finds_labels_far_better_than_guessing(run: ta.Run) -> None:
    found = run.metrics["test"]
    assert found["mean_average_precision"]["low"] > 0.6
    assert found["micro_f1"]["value"] > 0.7
    assert [row["label"] for row in found["per_class"]] == list(LABELS)
    assert run.record.task.kind == "multilabel"
    assert not run.model_file.exists()
    assert run.record.onnx_difference is not None
    assert run.record.onnx_difference < 1e-3


def test_the_file_ends_in_a_sigmoid_and_says_from_when_each_label_is_predicted(run: ta.Run) -> None:
    about = run.predictor().metadata.to_dict()
    assert about["task"] == {"kind": "multilabel", "classes": list(LABELS)}
    assert len(about["thresholds"]["labels"]) == 3
    assert "thresholds.labels" in about["outputs"]["probabilities"]
    row = run.predictor().probabilities(np.zeros((1, *run.spec.shape), np.uint8))[0]
    assert abs(row.sum() - 1) > 1e-3, "the labels are not shares of one"


def test_what_the_run_stored_is_what_its_file_predicts(run: ta.Run, table: Path) -> None:
    stored = run.to_frame() if _has_pandas() else None
    evaluation = ta.evaluate(run.path)
    assert evaluation.accuracy.value == run.metrics["test"]["accuracy"]["value"]
    assert evaluation.metrics["mean_average_precision"].value == pytest.approx(
        run.metrics["test"]["mean_average_precision"]["value"], abs=1e-3
    )
    if stored is not None:
        paths = [table.parent / path for path in stored["path"]]
        assert [p.label for p in ta.predict(run.path, paths)] == list(stored["label"])
    everything = ta.evaluate(run.path, table)
    assert everything.n == 90
    assert any("have a copy" in note for note in everything.notes)


def test_a_prediction_names_all_labels_and_the_probability_that_all_are_right(run: ta.Run, table: Path) -> None:
    least = run.predictor().metadata.least
    for said in ta.predict(run.path, sorted(table.parent.glob("*.jpg"))[:12]):
        there = [value >= limit for value, limit in zip(said.probabilities.values(), least, strict=True)]
        assert said.labels == tuple(name for name, held in zip(LABELS, there, strict=True) if held)
        assert said.label == "|".join(said.labels)
        chances = [value if held else 1 - value for value, held in zip(said.probabilities.values(), there, strict=True)]
        assert said.probability == pytest.approx(np.prod(chances))
        assert said.to_dict()["labels"] == list(said.labels)
        assert said.verdict in ("sure", "unsure", "unlike")


def test_the_report_has_the_labels_in_place_of_confusions(run: ta.Run) -> None:
    page = run.report_file.read_text("utf-8")
    for there in (
        "Finding Abyssinian",
        "Exact match",
        "Mean average precision",
        "Labels together",
        "Predicted, but not there",
    ):
        assert there in page
    for absent in ("Confusion matrix", "Likely label errors"):
        assert absent not in page
    assert not (run.figures / "confusion.svg").exists()
    card = run.card_file.read_text("utf-8")
    assert "average precision" in card
    assert "Exact match" in card
    assert "average precision" in ta.evaluate(run.path)._repr_html_()
    assert run.catalog._repr_html_()
    with pytest.raises(ConfigError, match="per_class"):
        ta.evaluate(run.path).plot()


def test_the_heat_of_a_label_is_its_own_and_no_difference_from_others(run: ta.Run, table: Path) -> None:
    maker = HeatMaker(run.predictor())
    image = read(table.parent / "1.jpg", run.spec)[None]
    _, shares = maker.predictor.class_activation(image)
    for place in range(3):
        found = maker.shares(image, np.array([place]))
        assert found is not None
        np.testing.assert_allclose(found[0], shares[0, ..., place], rtol=1e-5)


@pytest.mark.soak
def test_an_explanation_is_of_the_most_probable_label_or_of_another(run: ta.Run, table: Path, tmp_path: Path) -> None:
    image = table.parent / "1.jpg"
    found = run.explain(image, out=tmp_path / "one")
    assert found.label == found.prediction.top(1)[0][0]
    assert run.explain(image, label=LABELS[2], out=tmp_path / "other").label == LABELS[2]


def test_other_images_are_read_as_the_run_has_them(run: ta.Run, tmp_path: Path) -> None:
    other = pasted(tmp_path, 12, one_hot=True)
    assert ta.evaluate(run.path, other).n == 12
    other.write_text(other.read_text("utf-8").replace(LABELS[2], "lion"), encoding="utf-8")
    with pytest.raises(SourceError, match="lion"):
        ta.evaluate(run.path, other)


def test_what_is_for_one_label_is_refused_with_what_can_be_done(run: ta.Run, table: Path, tmp_path: Path) -> None:
    copy, out = shutil.copytree(run.path, tmp_path / "copy"), tmp_path / "new"
    asked: dict[str, Callable[[], object]] = {
        "Evaluate each run": lambda: ta.compare(run.path, copy),
        "Train networks with": lambda: ta.ladder(table, budget=60, out=out, progress=ta.SILENT),
        "--model NAME": lambda: ta.tune(table, budget=60, out=out, progress=ta.SILENT),
        "--fine-tune": lambda: ta.train(table, time=60, out=out, progress=ta.SILENT),
        "one table": lambda: ta.train(table, earlier=run.path, out=out, progress=ta.SILENT),
        "a test split": lambda: ta.train_folds(table, folds=3, out=out, progress=ta.SILENT),
        "--corrections": lambda: ta.doubts(run.path),
        "export RUN": lambda: ta.optimize(run.path, progress=ta.SILENT),
    }
    for instead, call_it in asked.items():
        with pytest.raises(ConfigError, match=rf"these have several\. .*{instead}"):
            call_it()


def test_weights_of_classes_are_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="each label has its own threshold"):
        ta.train(table, out=tmp_path / "run", settings=["train.class_weights=balanced"], progress=ta.SILENT)


@pytest.fixture(scope="module")
def of_keras(table: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:  # noqa: ARG001
    pytest.importorskip("keras")
    settings = [
        "model.name=cnn", "model.filters=[8]", "model.dense=[8]", "image.height=24", "image.width=48",
        "train.epochs=2", "train.patience=0",
    ]  # fmt: skip
    return ta.train(table, out=tmp_path_factory.mktemp("keras") / "run", settings=settings, progress=ta.SILENT)


def test_a_network_of_keras_ends_in_sigmoids_and_learns_each_label_by_itself(of_keras: ta.Run, table: Path) -> None:
    network = of_keras.model()
    assert network.layers[-1].activation.__name__ == "sigmoid"
    assert network.output_shape == (None, 3)
    image = read(table.parent / "0.jpg", of_keras.spec)[None]
    np.testing.assert_allclose(of_keras.predictor().probabilities(image), network(image), atol=1e-3)
    assert 0.6 < of_keras.history[-1].val_loss < 0.8, "the mean binary cross-entropy of the labels"


@pytest.mark.soak
@pytest.mark.parametrize("form", ["onnx", "litert", "saved-model", "keras", "openvino"])
def test_every_format_has_the_labels_with_their_thresholds(of_keras: ta.Run, form: str, tmp_path: Path) -> None:
    row = EXPORTS.find(form)
    if row.needs is not None:
        pytest.importorskip(row.needs[0])
    for quantize in ("int8", None) if row.quantize else (None,):
        made = ta.export(of_keras.path, form, out=tmp_path / f"{quantize}{row.suffix}", quantize=quantize)
        record = json.loads(made.path.with_name(f"{made.path.name}.json").read_text("utf-8"))
        assert record["task"]["kind"] == "multilabel"
        assert len(record["thresholds"]["labels"]) == 3


def test_a_file_with_thresholds_of_other_labels_is_damaged(run: ta.Run) -> None:
    values = run.predictor().metadata.to_dict()
    values["thresholds"]["labels"] = values["thresholds"]["labels"][:2]
    with pytest.raises(ConfigError, match="2 thresholds for 3 labels"):
        Metadata.from_dict(values)


def test_predictions_are_shown_and_sorted(run: ta.Run, table: Path, tmp_path: Path) -> None:
    images = [table.parent / name for name in ("1.jpg", "9.jpg")]
    shown = call("predict", run.path, *images)
    assert shown.stdout.splitlines()[1].split()[1] == "none"
    rows = [json.loads(line) for line in call("predict", run.path, *images, "--format", "jsonl").stdout.splitlines()]
    assert [row["label"] for row in rows] == ["|".join(row["labels"]) for row in rows]
    refused = call("predict", run.path, *images, "--sort-into", tmp_path / "sorted")
    assert refused.returncode != 0
    assert "Use --by verdict" in refused.stderr
    assert (
        call(
            "predict", run.path, *images, "--sort-into", tmp_path / "sorted", "--by", "verdict", "--keywords"
        ).returncode
        == 0
    )
    assert len(list((tmp_path / "sorted").rglob("*.xmp"))) == 2


def _has_pandas() -> bool:
    return importlib.util.find_spec("pandas") is not None
