"""Runs are compared on the images that all were judged on and none was trained on, and the words fit the figures."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.errors import RunError
from tellapart.experiments.comparison import RunsComparison, compare_runs
from tellapart.runs.run import RunFolder, create_run
from tellapart.task import Task
from tests.command import STRICT
from tests.values import history_row, plan

MakeRun = Callable[..., RunFolder]


def images(count: int, split: str = "test", start: int = 0, folder: str = "photos") -> list[ImageRecord]:
    """Cats and dogs by turns; the digest tells the content, whatever the path."""
    return [
        ImageRecord(f"{folder}/{i}.jpg", ("cat", "dog")[i % 2], split, "", f"digest {i}", 8, 8, "RGB")
        for i in range(start, start + count)
    ]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(
        name: str,
        rows: Sequence[ImageRecord],
        wrong: Sequence[int] = (),
        *,
        classes: tuple[str, ...] = ("cat", "dog"),
        judged: str = "test",
        sure: float = 0.9,
        status: str = "done",
    ) -> RunFolder:
        """A finished run whose answers are right but for the positions `wrong` among its judged images."""
        catalog = Catalog(tmp_path / "images", Task(classes), tuple(rows))
        run = create_run(tmp_path / name, plan(), catalog)
        run.update(status=status, best_epoch=1, stop_reason="epochs-done")
        run.write_history([history_row(1, seconds=2.0)])
        chosen = [p for p in rows if p.split == judged]
        with run.predictions_file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "truth", "label", "probability", "verdict", *classes])
            for index, p in enumerate(chosen):
                label = next(c for c in classes if c != p.label) if index in wrong else p.label
                writer.writerow([p.path, p.label, label, sure, "sure", *("" for _ in classes)])
        return run

    return make


def left_out(found: RunsComparison) -> dict[str, int]:
    return {each.reason: each.images for each in found.left_out}


def test_the_better_of_two_is_named_with_its_figures(make_run: MakeRun) -> None:
    a, b = make_run("a", images(200), range(20)), make_run("b", images(200), range(18, 22))
    found = compare_runs([a, b])
    assert found.verdict == (
        "b is better than a: 98.0 % against 90.0 % of the same 200 images. Only b is right on 18, only a on 2 "
        "(McNemar's exact test, p below 0.001)."
    )
    assert found.pairs[0].comparison.difference.value == pytest.approx(0.08)
    assert compare_runs([b, a]).verdict == found.verdict
    assert compare_runs([b, a]).pairs[0].comparison.difference.value == pytest.approx(-0.08)
    assert not found.notes
    assert not found.left_out


def test_a_difference_that_may_be_chance_is_not_called_one(make_run: MakeRun) -> None:
    found = compare_runs([make_run("a", images(200), range(8)), make_run("b", images(200), range(4, 10))])
    assert found.verdict.startswith(
        "No difference shown: 96.0 % and 97.0 % of the same 200 images; only a is right on 2, only b on 4 "
        "(McNemar's exact test, p = 0.688). With 6 images on which only one is right, it takes a difference of "
        "3.0 points."
    )
    assert f"about {found.pairs[0].comparison.images_needed:,} images would likely show it" in found.verdict
    few = compare_runs([make_run("c", images(200), range(2)), make_run("d", images(200), [])])
    assert "With fewer than 6 images on which only one is right, none can be shown." in few.verdict


def test_runs_that_are_right_on_the_same_images_are_said_to_be(make_run: MakeRun) -> None:
    found = compare_runs([make_run("a", images(50), [3]), make_run("b", images(50), [3])])
    assert found.verdict == "No difference shown: both are right on the very same images, 98.0 % of 50."
    assert not found.differing


def test_a_close_call_is_said_to_be_one(make_run: MakeRun) -> None:
    """16 against 6 of 161: the interval leaves out 0, and p is 0.0525."""
    first = list(range(16)) + list(range(22, 102))
    second = list(range(16, 22)) + list(range(22, 102))
    close = compare_runs([make_run("a", images(161), first), make_run("b", images(161), second)])
    assert close.verdict.startswith("No difference shown")
    assert "close call" in close.notes[0]


def test_images_are_matched_by_content_and_classes_by_name(make_run: MakeRun) -> None:
    moved = [
        ImageRecord(f"elsewhere/{i}.png", p.label, "test", "", p.digest, 8, 8, "RGB")
        for i, p in enumerate(reversed(images(40)))
    ]
    a = make_run("a", images(40), [0])
    b = make_run("b", moved, [39], classes=("dog", "cat"))
    found = compare_runs([a, b])
    assert found.n == 40
    assert found.pairs[0].comparison.neither == 1
    assert not found.differing


def test_an_image_that_a_run_was_trained_on_does_not_count(make_run: MakeRun) -> None:
    a = make_run("a", images(60), [])
    b = make_run("b", [*images(10, "train"), *images(5, "validation", 10), *images(40, "test", 15)], [])
    found = compare_runs([a, b])
    assert found.n == 40
    assert left_out(found) == {
        "in the training split of b, which would have an unfair advantage": 10,
        "in the validation split of b, without a prediction": 5,
        "not among the images of b": 5,
    }


def test_a_test_image_whose_copy_was_trained_on_does_not_count(make_run: MakeRun) -> None:
    leaked = [ImageRecord("copy.jpg", "cat", "train", "", "digest 0", 8, 8, "RGB")]
    found = compare_runs([make_run("a", images(20)), make_run("b", [*images(20), *leaked])])
    assert found.n == 19
    assert left_out(found) == {"in the training split of b, which would have an unfair advantage": 1}


def test_copies_count_once_and_images_with_several_labels_not_at_all(make_run: MakeRun) -> None:
    copies = [ImageRecord(f"copy {i}.jpg", "cat", "test", "", "digest 0", 8, 8, "RGB") for i in range(3)]
    other = [ImageRecord("other.jpg", "dog", "test", "", "digest 2", 8, 8, "RGB")]
    a = make_run("a", [*images(20), *copies], [20, 21, 22])
    b = make_run("b", [*images(20), *other])
    found = compare_runs([a, b])
    assert found.n == 19
    assert left_out(found) == {
        "labelled with several classes, so the truth is unknown": 1,
        "a copy of another image; identical images count once": 3,
    }
    assert found.accuracies[0].value == 1


def test_a_run_without_a_test_split_is_said_to_be_judged_on_validation(make_run: MakeRun) -> None:
    a = make_run("a", images(20))
    b = make_run("b", images(20, "validation"), judged="validation", status="interrupted")
    found = compare_runs([a, b])
    assert found.n == 20
    assert "b has no test split: it is evaluated on its validation split" in found.notes[0]
    assert "its status is 'interrupted'" in found.notes[1]


def test_of_many_each_is_compared_with_the_best(make_run: MakeRun) -> None:
    runs = [
        make_run(name, images(300), wrong)
        for name, wrong in (("bad", range(90)), ("good", range(10)), ("best", range(8)), ("worse", range(60)))
    ]
    found = compare_runs(runs)
    assert found.verdict == (
        "best has the highest accuracy, 97.3 % of the same 300 images. It is better than bad and worse. "
        "No difference shown from good."
    )
    assert [(pair.first, pair.second) for pair in found.pairs] == [("bad", "best"), ("good", "best"), ("worse", "best")]
    assert "all 6 pairs" in found.notes[0]
    p = {pair.first: pair for pair in found.pairs}
    assert p["good"].adjusted_p >= p["good"].comparison.p
    assert p["bad"].adjusted_p > p["bad"].comparison.p


def test_the_images_on_which_they_differ_come_with_what_each_said_surest_first(make_run: MakeRun) -> None:
    a = make_run("a", images(30), [4, 7], sure=0.8)
    b = make_run("b", images(30), [7, 9], sure=0.95)
    found = compare_runs([a, b])
    assert [image.path for image in found.differing] == ["photos/9.jpg", "photos/4.jpg"]
    first = found.to_dict(images=1)
    assert first["images"] == [
        {
            "path": "photos/9.jpg",
            "truth": "dog",
            "answers": {"a": {"label": "dog", "probability": 0.8}, "b": {"label": "cat", "probability": 0.95}},
        }
    ]
    assert first["differ"] == 2


def test_classes_named_like_columns_do_not_confuse_the_reading(make_run: MakeRun) -> None:
    classes = ("label", "probability")
    rows = [ImageRecord(p.path, classes[i % 2], "test", "", p.digest, 8, 8, "RGB") for i, p in enumerate(images(12))]
    found = compare_runs([make_run("a", rows, [0], classes=classes), make_run("b", rows, [1], classes=classes)])
    assert [accuracy.value for accuracy in found.accuracies] == pytest.approx([11 / 12, 11 / 12])


def test_what_cannot_be_compared_is_said_with_the_reason(make_run: MakeRun) -> None:
    a = make_run("a", images(20))
    birds = make_run("birds", [ImageRecord("x.jpg", "owl", "test", "", "d", 8, 8, "RGB")], classes=("owl", "wren"))
    apart = make_run("apart", [*images(10, "train"), *images(10, "validation", 10), *images(5, "test", 90)])
    bare = make_run("bare", images(20), status="training")
    bare.predictions_file.unlink()
    strange = make_run("strange", images(20))
    strange.predictions_file.write_text(strange.predictions_file.read_text() + "nowhere.jpg,cat,cat,0.9\n")
    damaged = make_run("damaged", images(20))
    damaged.predictions_file.write_text("path,label\n")
    for others, says in (
        ([], "two or more runs"),
        ([a], "each once"),
        ([birds], "a has the classes cat, dog; birds has owl, wren"),
        ([apart], "share no image.*10 images: in the training split of apart.*--seed"),
        ([bare], "bare has no predictions .*'training'.*--resume"),
        ([strange], "names nowhere.jpg, which catalog.csv does not"),
        ([damaged], "damaged"),
    ):
        with pytest.raises(RunError, match=says):
            compare_runs([a, *others])


def test_runs_of_one_name_are_told_apart_by_their_paths(make_run: MakeRun, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    runs = [make_run("x/run", images(20), [1]), make_run("y/run", images(20))]
    assert compare_runs(runs).names == (str(tmp_path / "x/run"), str(tmp_path / "y/run"))


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


def test_the_command_says_it_all_in_both_formats(make_run: MakeRun) -> None:
    rows = [*images(40), ImageRecord("bad \udcff.jpg", "cat", "test", "", "odd", 8, 8, "RGB")]
    a, b = make_run("a", rows, [*range(3), 40]), make_run("b", [*rows[1:], *images(1, "train")], [5])
    shown = call("compare", a.path, b.path, "--images", "2")
    assert shown.returncode == 0, shown.stderr
    for text in ("No difference shown", "left out: 1 image: in the training split of b", "the first 2 are shown"):
        assert text in shown.stdout
    assert "bad \\xff.jpg" in call("compare", a.path, b.path).stdout
    answer = json.loads(call("compare", a.path, b.path, "--format", "json").stdout)
    expected = ta.compare(a.path, b.path)
    assert answer == json.loads(json.dumps(expected.to_dict()))
    assert answer["pairs"][0]["p"] == expected.pairs[0].comparison.p
    many = call("compare", a.path, b.path, make_run("c", rows, range(20)).path)
    assert "points below the best" in many.stdout
    five = [make_run(f"r{i}", rows, range(i)).path for i in range(5)]
    assert "r4 (dog)" in call("compare", *five).stdout
    alone = call("compare", a.path)
    assert (alone.returncode, "two or more" in alone.stderr) == (2, True)


@pytest.mark.slow
def test_two_trained_runs_are_compared_on_what_their_splits_share(two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    settings = ["model.name=cnn", "image.height=24", "image.width=24", "model.filters=[4]", "model.dense=[4]"]
    config = ta.make_config(settings=[*settings, "train.epochs=1"])
    runs = [ta.train(two_shapes, out=tmp_path / str(n), config=config.with_values([f"seed={n}"])) for n in (1, 2)]
    same = ta.compare(runs[0].path, shutil.copytree(runs[0].path, tmp_path / "copy"))
    assert same.n == len(runs[0].catalog.split("test"))
    assert same.accuracies[0].value == runs[0].evaluate().accuracy.value
    assert "right on the very same images" in same.verdict
    apart = ta.compare(runs[0].path, runs[1].path)
    tests = [{p.digest for p in run.catalog.split("test").images} for run in runs[:2]]
    assert apart.n == len(tests[0] & tests[1])
    assert sum(each.images for each in apart.left_out) == len(tests[0] ^ tests[1])
