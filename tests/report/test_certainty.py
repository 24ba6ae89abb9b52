"""Reliability and coverage: the charts lie where the figures do, and the tables keep their promises."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.report.certainty import certainty, coverage_chart, reliability_chart
from tellapart.runs.predictions import Predictions
from tellapart.task import Task


def graded(n: int = 1000) -> Predictions:
    """The surest 80 % are right, of the rest every second: those after the 800th grow ever less sure."""
    sure = np.linspace(0.99, 0.51, n)
    right = (np.arange(n) < 0.8 * n) | (np.arange(n) % 2 == 0)
    rows = np.stack([sure, 1 - sure], axis=1)
    return Predictions(tuple(f"{i}" for i in range(n)), np.where(right, 0, 1), rows)


def evaluation_of(found: Predictions) -> Evaluation:
    return evaluate(Task(("a", "b")), found, split="test")


CALIBRATION = {
    "temperature": 1.5,
    "thresholds": {"target": 0.99, "sure": 0.7, "unlike": None},
    "split": "test",
    "error_before": 0.08,
    "error_after": 0.02,
}


def test_dots_of_the_reliability_diagram_stand_at_confidence_and_accuracy() -> None:
    found = evaluation_of(graded()).calibration
    root = ElementTree.fromstring(reliability_chart(found).svg("reliability"))
    dots = list(root.iter("circle"))
    assert len(dots) == len(found.bins)
    for dot, part in zip(dots, found.bins, strict=True):
        # The square of the chart: 60..478 across, 274..50 up.
        assert float(str(dot.get("cx"))) == pytest.approx(60 + part.confidence * 418, abs=0.1)
        assert float(str(dot.get("cy"))) == pytest.approx(274 - part.accuracy.value * 224, abs=0.1)
    sizes = [float(str(dot.get("r"))) for dot in dots]
    assert sizes.index(max(sizes)) == max(range(len(sizes)), key=lambda i: found.bins[i].n)
    assert f"{found.bins[0].n} predictions with a mean probability of" in str(dots[0][0].text)


def test_coverage_falls_to_the_accuracy_of_all_and_marks_the_sure_answers() -> None:
    chart = coverage_chart(graded(), 0.95, Thresholds(0.99, 0.7, None))
    root = ElementTree.fromstring(chart.svg("coverage"))
    line = next(node for node in root.iter("polyline"))
    points = [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
    assert len(points) <= 160
    assert points[-1][0] == 478
    assert points[0][1] == 50
    place = (0.9 - chart.y.low) / (chart.y.high - chart.y.low)
    assert points[-1][1] == pytest.approx(274 - place * 224, abs=0.5)
    dot = next(node for node in root.iter("circle") if len(node))
    answered = int((np.linspace(0.99, 0.51, 1000) >= 0.7).sum())
    assert str(dot[0].text).startswith(f"from 70.0 %: {answered / 10:.1f} % predicted, 100")


def test_the_table_says_how_many_can_be_answered_for_an_accuracy() -> None:
    found = graded()
    rows = {row["target"]: row for row in certainty(evaluation_of(found), found, None, 0.95).targets}
    assert "90.0 %" not in rows, "all answers together reach it"
    for target, row in rows.items():
        share = float(row["share"].split(" ")[0]) / 100
        right = found.named[: round(1000 * share)] == found.truth[: round(1000 * share)]
        assert right.mean() >= float(target.split(" ")[0]) / 100
    assert rows["99.9 %"]["share"] >= "80.0 %"


def test_an_accuracy_that_no_share_reaches_is_said_once() -> None:
    found = graded(100)
    wrong = Predictions(found.paths, 1 - found.truth, found.probabilities)
    rows = certainty(evaluation_of(wrong), wrong, None, 0.95).targets
    assert [row["share"] for row in rows] == ["none"]


@pytest.mark.parametrize("n", [1, 2, 9, 11])
def test_a_handful_of_images_is_drawn_too(n: int) -> None:
    found = certainty(evaluation_of(graded(n)), graded(n), CALIBRATION, 0.95)
    for chart in found.charts:
        assert "nan" not in chart.svg("few")


def test_calibration_is_told_with_what_it_changed() -> None:
    found = certainty(evaluation_of(graded()), graded(), CALIBRATION, 0.95)
    assert "softened by temperature scaling on the validation split (1.50)" in found.notes[0]
    assert "on the test split went from 8.0 to 2.0 points" in found.notes[0]
    assert "sure from 70.0 % on" in found.notes[1]
    never = CALIBRATION | {"thresholds": {"target": 0.99, "sure": 1.0000000000000002, "unlike": None}}
    assert "none is called sure" in certainty(evaluation_of(graded()), None, never, 0.95).notes[1]


def test_verdicts_have_their_counts_and_accuracies() -> None:
    verdicts = ["sure"] * 700 + ["unsure"] * 300
    rows = certainty(evaluation_of(replace(graded(), verdicts=tuple(verdicts))), None, None, 0.95).verdicts
    assert [(row["name"], row["count"]) for row in rows] == [("sure", "700"), ("unsure", "300"), ("unlike", "0")]
    assert rows[0]["accuracy"] == "100 %"
    assert rows[2]["accuracy"] == ""
