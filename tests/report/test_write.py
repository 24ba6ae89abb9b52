"""A run folder becomes its report: what it lacks is said on the page, and what is wrong with it is an error."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.api.datasets import read
from tellapart.errors import RunError
from tellapart.report.write import write_report
from tellapart.runs.predictions import Predictions
from tellapart.runs.run import RunFolder, create_run
from tests.report.conftest import evaluated, make_history
from tests.values import plan


@pytest.fixture
def run(shapes: Path, tmp_path: Path) -> RunFolder:
    """A finished run of made images, without a network."""
    catalog = read(shapes)
    run = create_run(tmp_path / "run", plan(32), catalog, command="tellapart train")
    run.update(
        status="done",
        stopped="all epochs done",
        stop_reason="epochs-done",
        best_epoch=4,
        precision="float32",
        network="layers",
        onnx_difference=1e-7,
        verified_images=16,
    )
    run.write_history(make_history())
    judge(run, "test")
    return run


def judge(run: RunFolder, split: Any, **more: Any) -> None:
    """metrics.json and predictions.csv: the first image of each class is named as the next class."""
    chosen, classes = run.catalog.split(split), run.task.classes
    truth = chosen.class_indices()
    named = truth.copy()
    for label in range(len(classes)):
        named[np.flatnonzero(truth == label)[0]] = (label + 1) % len(classes)
    rows = np.full((len(truth), len(classes)), 0.05)
    rows[np.arange(len(truth)), named] = 0.9
    paths = tuple(image.path for image in chosen.images)
    found = evaluated(classes, Predictions(paths, truth, rows), split=split)
    run.write_metrics({split: found.to_dict(), **more})
    with run.predictions_file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "truth", "label", "probability", *classes])
        for path, label, name, row in zip(paths, truth, named, rows, strict=True):
            writer.writerow([path, classes[label], classes[name], 0.9, *row])


def report_of(run: RunFolder) -> str:
    write_report(run)
    return run.report_file.read_text(encoding="utf-8")


def test_a_run_gives_one_page_and_its_charts_as_files(run: RunFolder) -> None:
    page = report_of(run)
    assert "Telling apart disc, square and stripes" in page
    assert page.count("data:image/png") > 20, "mistakes, suspects, a batch, and what cells hold"
    assert 'popovertarget="cell-0-1"' in page
    names = {path.name for path in run.figures.iterdir()}
    assert names == {"accuracy.svg", "loss.svg", "confusion.svg", "reliability.svg", "coverage.svg"}
    assert all("<style>" in path.read_text(encoding="utf-8") for path in run.figures.iterdir())


def test_without_a_network_the_page_says_why_there_is_no_heat(run: RunFolder) -> None:
    assert "There is no model.onnx, so the mistakes have no heat maps." in report_of(run)
    run.onnx_file.write_bytes(b"no network")
    assert "The mistakes have no heat maps: " in report_of(run)


def test_without_a_test_split_the_page_says_that_validation_chose(run: RunFolder) -> None:
    judge(run, "validation")
    page = report_of(run)
    assert "No test split" in page
    assert "held out from training" not in page


def test_an_interrupted_run_says_how_to_go_on(run: RunFolder) -> None:
    run.update(status="interrupted", stopped="interrupted in epoch 5", stop_reason="interrupted")
    assert "Interrupted in epoch 5. Resume with: tellapart train --resume RUN" in report_of(run)


def test_the_accuracy_without_leaks_is_read(run: RunFolder) -> None:
    values = run.metrics["test"]
    judge(run, "test", test_without_leaks={**values, "n": values["n"] - 3, "split": "test"})
    assert "Accuracy without leaks" in report_of(run)


def test_predictions_of_other_images_are_not_shown(run: RunFolder) -> None:
    metrics = run.metrics
    judge(run, "train")
    run.write_metrics(metrics)
    page = report_of(run)
    assert "popovertarget" not in page
    assert "Likely label errors" not in page


def test_images_that_are_gone_are_told_in_their_places(run: RunFolder, tmp_path: Path) -> None:
    run.update(data=str(tmp_path / "nowhere"))
    page = report_of(run)
    assert "The training images could not be read any more, so no batch is shown." in page
    assert "cannot be opened: No such file or directory." in page


def test_metrics_of_another_version_are_an_error_that_says_what_to_do(run: RunFolder) -> None:
    metrics = run.metrics
    del metrics["test"]["calibration"]
    run.write_metrics(metrics)
    with pytest.raises(RunError, match=r"another version of tellapart.*Train the run again"):
        write_report(run)
    run.write_metrics({})
    with pytest.raises(RunError, match="holds no evaluation"):
        write_report(run)
