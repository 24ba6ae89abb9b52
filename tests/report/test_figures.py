"""Figures: what they draw, that names stay names, and that they are files of a sensible size."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.report.figures import (
    TRAINING,
    VALIDATION,
    batch_figure,
    confusion_figure,
    curve_figure,
    history_figure,
    inline_svg,
    row_shares,
)
from tellapart.task import Task


def history(epochs: int, validation: bool = True) -> list[dict[str, float]]:
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.4 / epoch}
        if validation:
            row |= {"val_loss": 0.5 + 0.1 / epoch, "val_accuracy": 0.8 - 0.2 / epoch}
        rows.append(row)
    return rows


def evaluation(classes: tuple[str, ...], each: int = 20) -> Evaluation:
    """Every class but the last has one picture that is named as the next class; the rest is right."""
    k = len(classes)
    truth = np.repeat(np.arange(k), each)
    predicted = truth.copy()
    predicted[np.arange(k - 1) * each] += 1
    return evaluate(Task(classes), truth, np.eye(k)[predicted], paths=[str(i) for i in range(len(truth))], split="test")


def legend(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[attr-defined]


def test_history_shows_both_curves_of_both_quantities_and_marks_the_best_epoch() -> None:
    left, right = history_figure(history(8), best_epoch=3).axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("Accuracy", "Loss")
    assert legend(left) == ["training", "validation", "epoch 3: 73.3 %"]
    assert legend(right) == ["training", "validation", "epoch 3: 0.533"]
    training, validation, line, point = right.lines
    assert training.get_ydata()[-1] == pytest.approx(1 / 8)
    assert validation.get_ydata()[-1] == pytest.approx(0.5125)
    assert list(line.get_xdata()) == [3, 3]
    assert list(point.get_xdata()) == [3]
    assert training.get_linestyle() != validation.get_linestyle()


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_history_of_any_length_lies_inside_its_axes(epochs: int, tmp_path: Path) -> None:
    figure = history_figure(history(epochs), best_epoch=1)
    figure.savefig(tmp_path / "history.png")
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low <= axes.dataLim.ymin <= axes.dataLim.ymax < high
        assert axes is figure.axes[0] or high > 1.05 * axes.dataLim.ymax
        assert all(tick == int(tick) for tick in axes.get_xticks())
    assert (figure.axes[0].lines[0].get_marker() == "o") == (epochs < 3)
    assert 5_000 < (tmp_path / "history.png").stat().st_size < 150_000


def test_history_without_validation_shows_training_alone() -> None:
    figure = history_figure(history(5, validation=False), best_epoch=5)
    assert legend(figure.axes[0]) == ["training"]


def test_batch_shows_the_very_pixels_with_their_labels(tmp_path: Path) -> None:
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    pixels[1, :, :, 0] = 200
    figure = batch_figure(pixels, ["a", "$b$", "c" * 40])
    shown = [axes for axes in figure.axes if axes.images]
    assert np.array_equal(shown[1].images[0].get_array(), pixels[1])
    assert [axes.get_title() for axes in shown[:2]] == ["a", "$b$"]
    assert len(shown[2].get_title()) <= 24
    figure.savefig(tmp_path / "batch.png")


def test_a_dark_grey_batch_is_not_stretched_to_white() -> None:
    image = batch_figure(np.full((1, 4, 4, 1), 10, np.uint8), ["a"]).axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 255)
    assert np.asarray(image.cmap(image.norm(10)))[0] < 0.1


def test_a_batch_shows_sixteen_pictures_at_most() -> None:
    figure = batch_figure(np.zeros((40, 4, 4, 3), np.uint8), ["a"] * 40)
    assert sum(bool(axes.images) for axes in figure.axes) == 16


@pytest.mark.parametrize(("shape", "labels"), [((0, 4, 4, 3), 0), ((2, 4, 4, 3), 1), ((2, 4, 4), 2), ((1, 4, 4, 4), 1)])
def test_a_batch_of_another_shape_is_refused(shape: tuple[int, ...], labels: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        batch_figure(np.zeros(shape, np.uint8), ["a"] * labels)


def test_confusion_writes_count_and_share_and_colours_hits_and_mistakes_apart() -> None:
    axes = confusion_figure(evaluation(("cats", "dogs", "birds")), ("cats", "dogs", "birds")).axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {
        (0, 0): "19\n95 %",
        (1, 0): "1\n5 %",
        (1, 1): "19\n95 %",
        (2, 1): "1\n5 %",
        (2, 2): "20\n100 %",
    }
    cells = axes.images[0].get_array()
    np.testing.assert_allclose(cells[2, 2], to_rgb(VALIDATION))
    np.testing.assert_allclose(cells[0, 1], 1 - np.sqrt(0.05) * (1 - np.array(to_rgb(TRAINING))))
    np.testing.assert_allclose(cells[1, 0], 1)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("truth", "named")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cats", "dogs", "birds"]


@pytest.mark.parametrize("k", [2, 25, 26, 130])
def test_confusion_of_many_classes_with_long_names_stays_readable(k: int, tmp_path: Path) -> None:
    names = tuple(f"American Staffordshire bull terrier number {i}" for i in range(k))
    figure = confusion_figure(evaluation(names), names)
    figure.savefig(tmp_path / "confusion.png")
    axes = figure.axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert bool(axes.texts) == (k <= 25)
    assert len(shown) == min(k, 44 if k > 60 else k)
    assert len(set(shown)) == len(shown)
    assert max(len(name) for name in shown) <= 24
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(not a.overlaps(b) for a, b in pairwise(boxes))
    assert (tmp_path / "confusion.png").stat().st_size < 300_000
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2200


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    names = ("$\\frac$", "a$b$c")
    confusion_figure(evaluation(names), names).savefig(tmp_path / "confusion.svg")
    batch_figure(np.zeros((2, 4, 4, 3), np.uint8), names).savefig(tmp_path / "batch.svg")


def test_shares_of_a_class_without_pictures_are_zero() -> None:
    assert row_shares(np.array([[3, 1], [0, 0]])).tolist() == [[0.75, 0.25], [0, 0]]


def test_an_inline_svg_is_whole_takes_the_page_colours_and_asks_for_nothing() -> None:
    svg = inline_svg(curve_figure(history(6), "loss", 2), 'Loss & "more"')
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'Loss & "more"'
    assert "training" in "".join(root.itertext())
    for unwanted in ("http:", "https:", "<style", "<metadata", "font-family", "DejaVu", TRAINING, VALIDATION):
        assert unwanted not in svg
    assert "var(--training)" in svg
    assert "var(--ink)" in svg


def test_inline_svgs_repeat_exactly_and_share_no_id() -> None:
    first, again = (inline_svg(curve_figure(history(6), "loss", 2), "loss") for _ in range(2))
    other = inline_svg(curve_figure(history(6), "accuracy", 2), "accuracy")
    ids = [{node.get("id") for node in ElementTree.fromstring(svg).iter() if node.get("id")} for svg in (first, other)]
    assert first == again
    assert ids[0]
    assert not ids[0] & ids[1]


def test_figures_load_matplotlib_only_when_drawn_and_never_pyplot() -> None:
    code = (
        "import sys, tellapart.report.report, tellapart.report.figures as figures\n"
        "early = [m for m in ('matplotlib', 'jinja2', 'PIL', 'keras') if m in sys.modules]\n"
        "figures.history_figure([{'epoch': 1, 'loss': 1.0, 'accuracy': 0.5}], 1)\n"
        "print(early, 'matplotlib.pyplot' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[] False"
