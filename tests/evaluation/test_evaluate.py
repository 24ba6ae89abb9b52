"""Evaluation: what is measured, what is not defined and said so, and that it survives JSON."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as reference

from tellapart.evaluation.evaluate import METRICS, Evaluation, evaluate
from tellapart.evaluation.intervals import f1_estimate, proportion
from tellapart.evaluation.mistakes import Mistake
from tellapart.runs.predictions import Predictions
from tellapart.task import Task

PETS = Task(("Abyssinian", "Bengal", "american_bulldog"))
CATS_DOGS = Task(("cats", "dogs"))


def made_up(task: Task, n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    classes = len(task.classes)
    truth = generator.integers(0, classes, n)
    odds = np.exp(generator.normal(size=(n, classes)) + 3 * np.eye(classes)[truth]).astype(np.float32)
    return truth, odds / odds.sum(axis=1, keepdims=True), [f"image_{i}.jpg" for i in range(n)]


def measured(task: Task, n: int = 300) -> Evaluation:
    truth, probabilities, paths = made_up(task, n)
    return evaluate(task, Predictions(tuple(paths), truth, probabilities), split="test")


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_figures_equal_sklearn_and_lie_in_their_intervals(classes: int) -> None:
    task = Task(tuple(f"class {i}" for i in range(classes)))
    truth, probabilities, paths = made_up(task)
    found = evaluate(task, Predictions(tuple(paths), truth, probabilities), split="test")
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": reference.accuracy_score(truth, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
        "macro_f1": reference.f1_score(truth, predicted, average="macro"),
        "log_loss": -np.log(probabilities[np.arange(len(truth)), truth].astype(float)).mean(),
    }
    if classes > 5:
        expected["top_5_accuracy"] = reference.top_k_accuracy_score(truth, probabilities, k=5)
    if classes == 2:
        expected["auc"] = reference.roc_auc_score(truth, probabilities[:, 1])
    assert {name: estimate.value for name, estimate in found.metrics.items()} == pytest.approx(expected, rel=1e-6)
    assert all(e.low < e.value < e.high for e in found.metrics.values())
    assert list(found.metrics) == [name for name in METRICS if name in expected]
    assert found.accuracy is found.metrics["accuracy"]
    assert found.notes == ()


def test_each_class_has_its_own_figures() -> None:
    truth, probabilities, paths = made_up(PETS)
    found = evaluate(PETS, Predictions(tuple(paths), truth, probabilities), split="test")
    expected = reference.precision_recall_fscore_support(truth, probabilities.argmax(axis=1))
    for figure, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        rows = [getattr(row, figure) for row in found.per_class]
        assert [getattr(value, "value", value) for value in rows] == pytest.approx(list(values)), figure
    for index, row in enumerate(found.per_class):
        hits = int(found.confusion[index, index])
        assert row.label == PETS.classes[index]
        assert row.support == found.confusion[index].sum()
        assert row.recall == proportion(hits, row.support)
        assert row.precision == proportion(hits, int(found.confusion[:, index].sum()))
        assert row.f1 == f1_estimate(hits, row.support, int(found.confusion[:, index].sum()))


def test_a_stricter_level_widens_every_interval() -> None:
    truth, probabilities, paths = made_up(CATS_DOGS)
    wide = evaluate(CATS_DOGS, Predictions(tuple(paths), truth, probabilities), split="test", level=0.99)
    narrow = evaluate(CATS_DOGS, Predictions(tuple(paths), truth, probabilities), split="test", level=0.8)
    assert wide.level == 0.99
    for name, estimate in wide.metrics.items():
        assert estimate.low < narrow.metrics[name].low, name
        assert estimate.high > narrow.metrics[name].high, name
    for strict, loose in zip(wide.per_class, narrow.per_class, strict=True):
        for figure in ("precision", "recall", "f1"):
            assert getattr(strict, figure).low < getattr(loose, figure).low, figure


def test_mistakes_come_surest_first_with_path_names_and_probability() -> None:
    given = np.array([[0.4, 0.6], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 0])
    found = evaluate(CATS_DOGS, Predictions(("d.jpg", "b.jpg", "c.jpg", "a.jpg"), truth, given), split="test")
    assert found.mistakes == (
        Mistake("b.jpg", "dogs", "cats", 0.9),
        Mistake("a.jpg", "cats", "dogs", 0.6),
        Mistake("d.jpg", "cats", "dogs", 0.6),
    )


def test_an_absent_class_is_left_out_of_the_means_with_a_note() -> None:
    truth = np.array([0, 0, 0, 2, 2])
    given = np.eye(3)[[0, 0, 1, 2, 2]]
    found = evaluate(PETS, Predictions(tuple("abcde"), truth, given), split="test")
    absent = found.per_class[1]
    assert (absent.support, absent.recall, absent.f1) == (0, None, None)
    assert absent.precision is not None
    assert absent.precision.value == 0.0
    assert found.metrics["balanced_accuracy"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found.metrics["macro_f1"].value == pytest.approx((0.8 + 1) / 2)
    assert "no image of Bengal" in found.notes[0]


def test_a_name_never_used_has_no_precision_but_an_f1_of_zero() -> None:
    found = evaluate(CATS_DOGS, Predictions(("a", "b"), np.array([0, 1]), np.eye(2)[[0, 0]]), split="test")
    dogs = found.per_class[1]
    assert dogs.precision is None
    assert dogs.f1 is not None
    assert dogs.f1.value == 0.0


def test_a_split_of_one_binary_class_has_no_area_and_says_so() -> None:
    found = evaluate(
        CATS_DOGS, Predictions(("a", "b"), np.array([1, 1]), np.array([[0.2, 0.8], [0.7, 0.3]])), split="test"
    )
    assert "auc" not in found.metrics
    assert any("area under the ROC curve" in note for note in found.notes)
    assert found.metrics["balanced_accuracy"].value == 0.5


def test_one_image_is_enough_and_says_little() -> None:
    found = evaluate(PETS, Predictions(("a",), np.array([2]), np.array([[0.1, 0.1, 0.8]])), split="test")
    assert found.n == 1
    assert str(found.accuracy) == "1.000 (0.207 to 1.000)"
    assert found.metrics["log_loss"].high > 16
    assert found.metrics["macro_f1"].low < 0.5
    assert Evaluation.from_dict(found.to_dict()).to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("truth", "given", "paths", "message"),
    [
        ([], np.zeros((0, 2)), [], "no images"),
        ([0], [[0.5, 0.3, 0.2]], ["a"], r"probabilities \(1, 3\)"),
        ([0], [[0.5, 0.5]], [], "0 paths"),
        ([[0]], [[0.5, 0.5]], ["a"], r"truth \(1, 1\)"),
        ([2], [[0.5, 0.5]], ["a"], r"0\.\.1"),
        ([-1], [[0.5, 0.5]], ["a"], r"0\.\.1"),
        ([0.0], [[0.5, 0.5]], ["a"], "whole numbers"),
        ([0], [[3.0, -2.0]], ["a"], "logits"),
        ([0], [[0.5, 0.6]], ["a"], "sums to 1"),
        ([0], [[np.nan, 0.6]], ["a"], "not a number"),
    ],
)
def test_wrong_arrays_are_refused_in_words(truth: list, given: list, paths: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(
            CATS_DOGS,
            Predictions(tuple(paths), np.array(truth, dtype=int if not truth else None), np.array(given)),
            split="test",
        )


@pytest.mark.parametrize("task", [CATS_DOGS, PETS, Task(tuple("abcdefg"))])
def test_an_evaluation_survives_json(task: Task) -> None:
    found = measured(task)
    stored = json.loads(json.dumps({found.split: found.to_dict()}, allow_nan=False))
    assert set(stored["test"]["accuracy"]) == {"value", "low", "high"}
    back = Evaluation.from_dict(stored["test"])
    assert back.to_dict() == found.to_dict()
    assert back.per_class == found.per_class
    assert back.mistakes == found.mistakes
    assert back.metrics == found.metrics
    assert back.confusion.dtype == found.confusion.dtype


@pytest.mark.parametrize("values", [{}, {"split": "test"}, {**measured(CATS_DOGS).to_dict(), "accuracy": 0.9}])
def test_what_is_no_stored_evaluation_is_refused(values: dict) -> None:
    with pytest.raises(ValueError, match=r"Evaluation\.to_dict"):
        Evaluation.from_dict(values)


def test_the_confusion_matrix_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        measured(PETS).confusion[0, 0] = 7


def test_ten_thousand_images_stay_in_bounded_memory() -> None:
    task = Task(tuple(f"class {i}" for i in range(10)))
    truth, probabilities, paths = made_up(task, 10_000)
    tracemalloc.start()
    evaluate(task, Predictions(tuple(paths), truth, probabilities), split="test")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_evaluation_needs_neither_keras_nor_matplotlib_nor_sklearn() -> None:
    code = (
        "import sys, tellapart.evaluation.evaluate\n"
        "print([m for m in ('keras', 'tensorflow', 'matplotlib', 'sklearn', 'scipy', 'pandas') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
