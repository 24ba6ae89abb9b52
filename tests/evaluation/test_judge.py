"""The verdict is plain and honest: what is good, what asks for care, what stops, on clear cases of each."""

from typing import Any

import numpy as np
import pytest

from tellapart.data.findings import Finding
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.overfitting import Learning
from tellapart.report.verdict import Verdict, judge
from tellapart.words import percent
from tellapart.task import Task

LEVEL = Learning("level", "It does not overfit.")
CLASSES = ("cats", "dogs", "birds")


def evaluation(rights: tuple[int, ...], n: int = 200, surety: float = 0.9, **options: Any) -> Evaluation:
    """n pictures of each class, of which so many are named right, the others as the next class."""
    k = len(rights)
    truth = np.repeat(np.arange(k), n)
    named = np.concatenate(
        [np.where(np.arange(n) < right, label, (label + 1) % k) for label, right in enumerate(rights)]
    )
    rows = np.full((k * n, k), (1 - surety) / (k - 1))
    rows[np.arange(k * n), named] = surety
    paths = [f"{i}" for i in range(k * n)]
    return evaluate(Task(CLASSES[:k]), truth, rows, paths=paths, **{"split": "test", **options})


def marks(verdict: Verdict) -> dict[str, str]:
    return {point.title: point.mark for point in verdict.points}


def test_a_sound_run_is_relied_on_without_a_but() -> None:
    verdict = judge(evaluation((181, 179, 180)), (), LEVEL)
    assert set(marks(verdict).values()) == {"good"}
    assert verdict.conclusion.startswith("This figure can be relied on for pictures like these.")
    assert verdict.headline.startswith("Of 600 test pictures it had never seen, 540 were named right: 90.0")


def test_guessing_is_told_even_where_the_accuracy_looks_high() -> None:
    found = evaluate(
        Task(("cats", "dogs")),
        np.repeat([0, 1], [90, 10]),
        np.tile([0.9, 0.1], (100, 1)),
        paths=[str(i) for i in range(100)],
        split="test",
    )
    verdict = judge(found, (), LEVEL)
    assert marks(verdict)["No better than guessing"] == "stop"
    assert "Always answering cats would be right for 90.0" in verdict.points[0].sentence
    assert verdict.conclusion.startswith("Do not rely on this figure yet: no better than guessing")


@pytest.mark.parametrize(("n", "mark"), [(400, "good"), (20, "care"), (4, "stop")])
def test_few_test_pictures_are_told_by_what_to_expect_in_use(n: int, mark: str) -> None:
    found = evaluation((n * 9 // 10,) * 3, n)
    point = next(p for p in judge(found, (), LEVEL).points if p.title.endswith("test pictures"))
    assert point.mark == mark
    low, high = (round(1000 * (1 - limit)) for limit in (found.accuracy.high, found.accuracy.low))
    assert f"expect {low} to {high} mistakes in 1,000" in point.sentence


def test_a_weak_class_is_named_with_what_it_is_taken_for() -> None:
    point = next(p for p in judge(evaluation((190, 100, 195)), (), LEVEL).points if "classes" in p.title)
    assert (point.title, point.mark) == ("Uneven classes", "care")
    assert "The weakest class is dogs: 50.0" in point.sentence
    assert "most others birds" in point.sentence


def test_a_class_that_is_weak_by_chance_is_not_blamed() -> None:
    point = next(p for p in judge(evaluation((19, 20, 18), 20), (), LEVEL).points if "classes" in p.title)
    assert point.mark == "good"
    assert "By chance alone" in point.sentence


def test_probabilities_that_promise_too_much_ask_for_care() -> None:
    verdict = judge(evaluation((140, 140, 140), surety=0.98), (), LEVEL)
    point = next(p for p in verdict.points if p.section == "certainty")
    assert (point.title, point.mark) == ("Probabilities to take with salt", "care")
    assert "off by 28.0 points" in point.sentence
    assert "surer than it should be" in point.sentence


def test_probabilities_that_promise_too_little_are_told_apart_from_those() -> None:
    verdict = judge(evaluation((195, 195, 195), surety=0.6), (), LEVEL)
    assert "right more often than it says" in next(p for p in verdict.points if p.section == "certainty").sentence


def test_sure_answers_are_counted() -> None:
    for sure, title, mark in ((400, "Says when it is unsure", "good"), (150, "Often unsure", "care")):
        found = evaluation((180, 180, 180), verdicts=["sure"] * sure + ["unsure"] * (600 - sure))
        point = next(p for p in judge(found, (), LEVEL).points if p.title == title)
        assert point.mark == mark
        assert f"{sure / 6:.1f}" in point.sentence
        assert found.verdicts["sure"].accuracy is not None
        assert percent(found.verdicts["sure"].accuracy.value) in point.sentence
    none = judge(evaluation((180, 180, 180), verdicts=["unsure"] * 600), (), LEVEL)
    assert marks(none)["No sure answers"] == "care"


@pytest.mark.parametrize(("severity", "mark"), [("error", "stop"), ("warning", "care"), ("note", "good")])
def test_findings_weigh_by_their_severity(severity: Any, mark: str) -> None:
    note = Finding("square", "note", (), "All are square.")
    verdict = judge(evaluation((180,) * 3), (note, Finding("leaking", severity, (), "3 stand in two splits.")), LEVEL)
    point = next(p for p in verdict.points if p.section == "pictures")
    assert point.mark == mark
    assert ("3 stand in two splits." in point.sentence) == (mark != "good")


def test_accuracy_without_leaks_is_told_beside_the_findings() -> None:
    found = evaluation((180,) * 3)
    leak = (Finding("leaking", "error", (), "Some leak."), Finding("odd", "warning", (), "Some are odd."))
    point = next(
        p for p in judge(found, leak, LEVEL, clean=evaluation((70,) * 3, 100)).points if p.section == "pictures"
    )
    assert "And 1 more finding." in point.sentence
    assert "On the 300 test pictures without a likeness in training it is right for 70.0" in point.sentence
    same = judge(found, leak, LEVEL, clean=found)
    assert "without a likeness" not in next(p for p in same.points if p.section == "pictures").sentence


def test_a_validation_split_that_chose_is_no_test() -> None:
    verdict = judge(evaluation((180,) * 3, split="validation"), (), LEVEL)
    assert marks(verdict)["No test split"] == "care"
    assert "never seen" not in verdict.headline
    assert "expect somewhat less" in next(p for p in verdict.points if p.title == "No test split").sentence


@pytest.mark.parametrize(
    ("state", "mark"),
    [("level", "good"), ("linear", "good"), ("overfits", "good"), ("unknown", "good"), ("overfits-kept", "care"),
     ("worse", "care"), ("learning", "care"), ("broken", "stop")],
)  # fmt: skip
def test_training_is_judged_by_its_state(state: Any, mark: str) -> None:
    verdict = judge(evaluation((180,) * 3), (), Learning(state, "It went so."))
    point = verdict.points[-1]
    assert (point.section, point.mark) == ("training", mark)
    assert point.sentence.startswith("It went so.")


def test_an_interrupted_run_is_the_first_thing_told() -> None:
    verdict = judge(evaluation((180,) * 3), (), LEVEL, interrupted="Go on with: tellapart train --resume run")
    assert verdict.points[0].mark == "stop"
    assert verdict.conclusion == "Do not rely on this figure yet: training was interrupted."
