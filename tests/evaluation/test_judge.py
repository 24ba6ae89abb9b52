"""The verdict says what a run may be used for, on clear cases of each kind, among them those that strangers met."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tellapart.data.findings import Finding
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.evidence import Evidence, named
from tellapart.evaluation.judge import judge
from tellapart.evaluation.judgement import Verdict
from tellapart.evaluation.overfitting import Learning
from tellapart.runs.predictions import Predictions
from tellapart.task import Task
from tellapart.words import percent

LEVEL = Learning("level", "It does not overfit.")
CLASSES = ("cats", "dogs", "birds")


def evaluation(
    rights: tuple[int, ...], n: int = 200, surety: float = 0.9, verdicts: Sequence[str] = (), **options: Any
) -> Evaluation:
    """n images of each class, of which so many are named right, the others as the next class."""
    k = len(rights)
    truth = np.repeat(np.arange(k), n)
    named = np.concatenate(
        [np.where(np.arange(n) < right, label, (label + 1) % k) for label, right in enumerate(rights)]
    )
    rows = np.full((k * n, k), (1 - surety) / (k - 1))
    rows[np.arange(k * n), named] = surety
    said = Predictions(tuple(map(str, range(k * n))), truth, rows, tuple(verdicts))
    return evaluate(Task(CLASSES[:k]), said, **{"split": "test", **options})


def of(found: Evaluation, **known: Any) -> Verdict:
    return judge(Evidence(found, **{"learning": LEVEL, "target": 0.99, **known}))


def sure_of(count: int, right: int, rights: tuple[int, int], n: int) -> Evaluation:
    """Two classes; `count` sure answers, of which `right` are right."""
    truth = np.repeat([0, 1], n)
    answers = np.concatenate([np.arange(n) < rights[0], np.arange(n) < rights[1]])
    order = np.concatenate([np.flatnonzero(answers)[:right], np.flatnonzero(~answers)[: count - right]])
    verdicts = np.full(2 * n, "unsure", dtype=object)
    verdicts[order] = "sure"
    rows = np.where((answers == (truth == 0))[:, None], [0.95, 0.05], [0.05, 0.95])
    said = Predictions(tuple(f"{i}.png" for i in range(2 * n)), truth, rows, tuple(verdicts.tolist()))
    return evaluate(Task(("horses", "humans")), said, split="test")


def marks(verdict: Verdict) -> dict[str, str]:
    return {point.title: point.mark for point in verdict.points}


def test_sure_answers_that_are_wrong_too_often_and_a_test_of_other_images_are_no_figure_with_care() -> None:
    """Seen: validation 100 %, test 76.6 %, of 285 sure answers 78.9 % right where 99 % was asked."""
    found = sure_of(285, 225, (200, 183), 250)
    assert percent(found.accuracy.value) == "76.6 %"
    verdict = of(found, validation=(205, 205), training=1.0)
    assert (verdict.use, verdict.mark) == ("with a person", "stop")
    assert verdict.points[0].title == "The test images differ from those it was trained on"
    assert (
        "Of the validation images 100 % are classified correctly, of these 76.6 %: 23.4 points"
        in verdict.points[0].sentence
    )
    assert marks(verdict)["Sure predictions are wrong too often"] == "stop"
    assert (
        "Of 285 sure predictions 78.9 % (73.8 to 83.3) are correct; the target is 99 %." in verdict.points[1].sentence
    )
    assert verdict.conclusion.startswith(
        "Use it only with a person who reviews every prediction: the test images differ from those it was trained on "
        "and sure predictions are wrong too often."
    )
    assert verdict.alone.startswith(
        "Sure of 57.0 % of the images; 78.9 % (73.8 to 83.3) of these predictions are correct"
    )
    assert (verdict.next.name, round(verdict.next.gain, 3)) == ("regroup", 0.234)
    assert "Says when it is unsure" not in marks(verdict)


def test_one_doubtful_pair_among_thousands_forbids_nothing() -> None:
    """Seen: 91.7 %, sure answers 99.5 % right, one pair among 3,670 that looks the same in two splits."""
    found = sure_of(583, 580, (340, 333), 367)
    assert percent(found.accuracy.value) == "91.7 %"
    pair = Finding("near-leaking", "error", ("train/a.png [train] ~ 7.png [test]",), "1 pair looks the same.")
    tested = [f"{i}.png" for i in range(found.n)]
    for clean in (None, sure_of(583, 579, (339, 333), 366)):
        verdict = of(found, validation=(540, 585), findings=(pair,), tested=tested, clean=clean)
        assert verdict.use == "alone"
        assert verdict.mark != "stop"
        assert "its sure predictions, 79.4 % of images like these, need no review" in verdict.conclusion
        assert "99.5 % (98.5 to 99.8) of these predictions are correct, the target is 99 %" in verdict.alone
    verdict = of(found, findings=(pair,), tested=tested)
    point = next(p for p in verdict.points if p.section == "images")
    assert point.sentence == (
        "1 pair looks the same. It affects 1 of 734 test predictions, and the accuracy by 0.1 points at most."
    )


def test_the_worst_point_comes_first_and_a_shift_before_all_of_its_kind() -> None:
    found = sure_of(285, 225, (200, 183), 250)
    verdict = of(found, validation=(205, 205), learning=Learning("learning", "It was learning."))
    order = ["stop", "care", "good"]
    assert [point.mark for point in verdict.points] == sorted(marks(verdict).values(), key=order.index)
    assert "differ" in verdict.points[0].title


def test_a_test_that_is_easier_than_the_validation_images_is_told() -> None:
    verdict = of(evaluation((200, 199, 200)), validation=(150, 180))
    assert verdict.points[0].title == "The test images are easier than the validation images"
    assert verdict.points[0].mark == "care"


def test_a_difference_that_chance_explains_is_not_told() -> None:
    assert of(evaluation((180, 180, 180)), validation=(190, 200)).points[0].mark == "good"


def test_few_sure_answers_that_are_all_right_prove_nothing() -> None:
    verdict = of(sure_of(18, 18, (98, 98), 100))
    assert marks(verdict)["Too few sure predictions to trust them unreviewed"] == "care"
    assert verdict.use == "with a person"


def test_a_verdict_is_read_back_as_it_was_written() -> None:
    verdict = of(evaluation((180, 100, 180)))
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    for harm in ({"use": "always"}, {"mark": "fine"}, {"headline": 3}, {"points": [{}]}, {"next": None}):
        with pytest.raises((LookupError, TypeError, ValueError)):
            Verdict.from_dict({**verdict.to_dict(), **harm})


@pytest.mark.parametrize(
    ("known", "step"),
    [
        ({"interrupted": "interrupted in epoch 3", "training": 0.2}, "resume"),
        ({"training": 0.7, "backbone": "frozen"}, "fine-tune"),
        ({"training": 0.7, "backbone": "tuned"}, "larger-backbone"),
        ({"training": 0.7, "backbone": "none"}, "pretrained-backbone"),
        ({"training": 1.0}, "more-images"),
        ({"training": 0.7, "learning": Learning("learning", "")}, "more-epochs"),
        ({"training": 1.0, "suspects": [0.99] * 120}, "settle-labels"),
        ({"training": 1.0, "validation": (200, 200)}, "regroup"),
    ],
)
def test_the_next_step_is_the_one_that_the_mistakes_ask_for(known: dict[str, Any], step: str) -> None:
    verdict = of(evaluation((190, 140, 160)), **known)
    assert verdict.next.name == step
    assert verdict.lines[-1].startswith("Next: ")


def test_what_forbids_the_use_of_a_run_is_also_what_to_do_next() -> None:
    few = of(evaluation((3, 2, 3), 4), training=1.0)
    assert (few.use, few.next.name) == ("not yet", "more-test-images")
    copies = of(evaluation((160,) * 3), clean=evaluation((70,) * 3, 100), training=1.0)
    assert (copies.use, copies.next.name) == ("not yet", "drop-copies")


def test_the_next_step_names_the_class_and_the_labels() -> None:
    assert "first of dogs" in of(evaluation((190, 140, 160)), training=1.0).next.text
    assert "Review 120 labels" in of(evaluation((190, 140, 160)), suspects=[0.99] * 120, training=1.0).next.text


def test_a_run_without_a_mistake_is_told_to_test_more_or_to_be_used() -> None:
    assert of(evaluation((12, 12, 12), 12), training=1.0).next.name == "more-test-images"


def test_the_weakest_place_is_named_with_what_it_is_taken_for() -> None:
    assert of(evaluation((190, 100, 195))).weakest == (
        "Weakest: dogs, 50.0 % (43.1 to 56.9) of 200 images classified correctly; 100 predicted as birds."
    )
    assert "none of 600 images was misclassified" in of(evaluation((200, 200, 200))).weakest


def test_the_images_that_a_finding_names_are_found_whatever_is_said_of_them() -> None:
    assert {"a.jpg", "b.jpg"} <= set(named("a.jpg [cat] ~ b.jpg [dog; looks like a = b, 87 %]"))
    assert "x (1).png" in named("x (1).png (12x9)")


def test_a_sound_run_is_used_without_a_but() -> None:
    verdict = of(evaluation((181, 179, 180), verdicts=["sure"] * 600), target=0.9)
    assert set(marks(verdict).values()) == {"good"}
    assert verdict.conclusion == "Use it: its sure predictions, 100 % of images like these, need no review."
    assert verdict.headline.startswith("Of 600 test images it had never seen, 540 were classified correctly: 90.0 %")


def test_guessing_is_told_even_where_the_accuracy_looks_high() -> None:
    said = Predictions(tuple(map(str, range(100))), np.repeat([0, 1], [90, 10]), np.tile([0.9, 0.1], (100, 1)))
    found = evaluate(Task(("cats", "dogs")), said, split="test")
    verdict = of(found)
    assert marks(verdict)["No better than guessing"] == "stop"
    assert "Always predicting cats would be right for 90.0" in verdict.points[0].sentence
    assert verdict.conclusion.startswith("Do not use it yet: no better than guessing")


@pytest.mark.parametrize(("n", "mark"), [(400, "good"), (20, "care"), (4, "stop")])
def test_few_test_images_are_told_by_what_to_expect_in_use(n: int, mark: str) -> None:
    found = evaluation((n * 9 // 10,) * 3, n)
    point = next(p for p in of(found).points if p.title.endswith("test images"))
    assert point.mark == mark
    low, high = (round(1000 * (1 - limit)) for limit in (found.accuracy.high, found.accuracy.low))
    assert f"expect {low} to {high} mistakes in 1,000" in point.sentence


def test_a_weak_class_is_named_with_what_it_is_taken_for() -> None:
    point = next(p for p in of(evaluation((190, 100, 195))).points if "classes" in p.title)
    assert (point.title, point.mark) == ("Uneven classes", "care")
    assert "Weakest: dogs, 50.0" in point.sentence
    assert "100 predicted as birds" in point.sentence


def test_a_class_that_is_weak_by_chance_is_not_blamed() -> None:
    point = next(p for p in of(evaluation((19, 20, 18), 20)).points if "classes" in p.title)
    assert point.mark == "good"
    assert "By chance alone" in point.sentence


def test_probabilities_that_promise_too_much_ask_for_care() -> None:
    verdict = of(evaluation((140, 140, 140), surety=0.98))
    point = next(p for p in verdict.points if p.section == "certainty")
    assert (point.title, point.mark) == ("Miscalibrated probabilities", "care")
    assert "calibration error is 28.0 points" in point.sentence
    assert "overconfident" in point.sentence


def test_probabilities_that_promise_too_little_are_told_apart_from_those() -> None:
    verdict = of(evaluation((195, 195, 195), surety=0.6))
    assert "underconfident" in next(p for p in verdict.points if p.section == "certainty").sentence


def test_sure_answers_are_held_against_what_was_asked() -> None:
    for sure, target, title, mark in (
        (400, 0.9, "Sure predictions reach the target accuracy", "good"),
        (150, 0.9, "Often unsure", "care"),
        (400, 0.99, "Sure predictions are wrong too often", "stop"),
    ):
        found = evaluation((180, 180, 180), verdicts=["sure"] * sure + ["unsure"] * (600 - sure))
        point = next(p for p in of(found, target=target).points if p.title == title)
        assert point.mark == mark
        assert found.verdicts["sure"].accuracy is not None
        assert percent(found.verdicts["sure"].accuracy.value) in point.sentence
        assert f"the target is {100 * target:g} %" in point.sentence
    none = of(evaluation((180, 180, 180), verdicts=["unsure"] * 600))
    assert marks(none)["Never sure"] == "care"
    assert none.alone == "No prediction is sure: every one needs a person."


@pytest.mark.parametrize(("named", "severity", "mark"), [
    (0, "error", "good"), (3, "error", "good"), (50, "warning", "care"), (50, "error", "care"), (90, "warning", "care"),
    (90, "error", "stop"),
])  # fmt: skip
def test_a_finding_weighs_by_the_test_answers_that_it_can_change(named: int, severity: Any, mark: str) -> None:
    note = Finding("square", "note", tuple(map(str, range(600))), "All are square.")
    odd = Finding("odd", severity, tuple(f"{i} [odd]" for i in range(named)), "Some are odd.")
    verdict = of(evaluation((180,) * 3), findings=(note, odd), tested=[str(i) for i in range(600)])
    point = next(p for p in verdict.points if p.section == "images")
    assert point.mark == mark
    assert point.sentence.startswith("Some are odd.")
    assert f"It affects {named} of 600 test predictions" in point.sentence or not named


def test_copies_weigh_by_what_the_figure_is_without_them() -> None:
    found = evaluation((180,) * 3)
    leak = (Finding("leaking", "error", (), "Some leak."), Finding("odd", "warning", (), "Some are odd."))
    verdict = of(found, findings=leak, clean=evaluation((70,) * 3, 100))
    assert (verdict.use, marks(verdict)["Copies of training images inflate the accuracy"]) == ("not yet", "stop")
    assert "Of the other images, 300, it classifies 70.0 % (64.6 to 74.9) correctly." in verdict.points[0].sentence
    assert verdict.next.name == "drop-copies"
    same = of(found, findings=leak[:1], clean=evaluation((179,) * 3, 199))
    assert marks(same)["Copies with little effect"] == "good"
    assert "Nothing odd in the images" not in marks(same)


def test_a_class_without_a_test_image_is_told_to_be_unknown() -> None:
    truth = np.repeat([0, 1], 200)
    found = evaluate(Task(CLASSES), Predictions(tuple(map(str, range(400))), truth, np.eye(3)[truth]), split="test")
    assert (
        "no image of birds" in next(p for p in of(found).points if p.title == "Classes that were not tested").sentence
    )


def test_a_validation_split_that_chose_is_no_test() -> None:
    verdict = of(evaluation((180,) * 3, split="validation"))
    assert marks(verdict)["No test split"] == "care"
    assert "never seen" not in verdict.headline
    assert "expect somewhat less" in next(p for p in verdict.points if p.title == "No test split").sentence


@pytest.mark.parametrize(
    ("state", "mark"),
    [("level", "good"), ("linear", "good"), ("overfits", "good"), ("unknown", "good"), ("overfits-kept", "care"),
     ("worse", "care"), ("learning", "care"), ("broken", "stop")],
)  # fmt: skip
def test_training_is_judged_by_its_state(state: Any, mark: str) -> None:
    verdict = of(evaluation((180,) * 3), learning=Learning(state, "It went so."))
    point = next(p for p in verdict.points if p.section == "training")
    assert point.mark == mark
    assert point.sentence.startswith("It went so.")


def test_an_interrupted_run_is_the_first_thing_told() -> None:
    verdict = of(evaluation((180,) * 3), interrupted="interrupted in epoch 3")
    assert verdict.points[0].mark == "stop"
    assert verdict.conclusion == "Do not use it yet: training was interrupted."
    assert verdict.points[0].sentence == "Interrupted in epoch 3. Resume with: tellapart train --resume RUN"
    assert verdict.next.name == "resume"
