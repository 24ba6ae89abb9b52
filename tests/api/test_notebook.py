"""Runs, evaluations and catalogs in a notebook: what they show of themselves, as a table, as a chart and as a page."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.api.values import Catalog, Evaluation, evaluation_of_plain
from tellapart.data.catalog import ImageRecord
from tellapart.data.findings import Finding
from tellapart.errors import RunError
from tellapart.evaluation.evaluate import evaluate
from tellapart.report.drawing import MOST_BARS
from tellapart.task import Task

HARM = '<script>alert("1")</script>\x1b[2J&'


@pytest.fixture(scope="module")
def run(shapes_run: Path) -> ta.Run:
    return ta.open_run(shapes_run)


@pytest.fixture(scope="module")
def evaluation(run: ta.Run) -> ta.Evaluation:
    return run.evaluate()


def evaluated(classes: tuple[str, ...]) -> Evaluation:
    truth = np.repeat(np.arange(len(classes)), 2)
    rows = np.eye(len(classes))[(truth + (np.arange(len(truth)) % 5 == 0)) % len(classes)]
    return evaluation_of_plain(evaluate(Task(classes), truth, rows, paths=[str(n) for n in truth], split="test"))


def html(shown: object) -> str:
    """As a notebook asks for it."""
    formatters = pytest.importorskip("IPython.core.formatters")
    values, _ = formatters.DisplayFormatter().format(shown)
    page: str = values["text/html"]
    return page


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)).replace("\u202f", " ")


def test_a_run_shows_its_verdict_its_figures_and_its_curves(run: ta.Run) -> None:
    shown = text(html(run))
    verdict = run.metrics["test"]["verdict"]
    for part in (
        run.path.name,
        verdict["headline"],
        verdict["conclusion"],
        "Balanced accuracy",
        "stripes",
        "Trained for",
    ):
        assert part in shown
    assert html(run).count("data:image/svg+xml;base64,") == 2, "curves and confusion matrix"


def test_an_evaluation_shows_its_verdict_its_intervals_and_its_confusion(evaluation: ta.Evaluation) -> None:
    shown = text(html(evaluation))
    assert f"{evaluation.n} images of the test split" in shown
    assert evaluation.verdict is not None
    assert evaluation.verdict.conclusion in shown
    assert "95 % interval" in shown
    assert "rows are true classes" in shown


def test_a_catalog_shows_its_counts_its_findings_and_a_few_images(run: ta.Run, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "shapes")
    (tmp_path / "shapes" / "disc" / "broken.png").write_bytes(b"no image")
    catalog = ta.read(tmp_path / "shapes")
    page = html(catalog)
    assert "61 images of 3 classes, 1 broken" in text(page)
    assert "square 13 3 4" in text(page)
    assert "1 image cannot be decoded" in text(page)
    assert page.count("data:image/png;base64,") == 12
    (tmp_path / "shapes" / "disc" / "disc 0.png").write_bytes(b"another")
    assert html(catalog).count("data:image/png;base64,") == 11, "what cannot be read any more is left out"
    assert isinstance(run.catalog, Catalog)
    assert isinstance(catalog.split("test"), Catalog)


def test_names_of_strangers_are_text_in_page_and_chart(tmp_path: Path) -> None:
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    finding = Finding("x", "warning", (HARM,), HARM, HARM)
    rows = tuple(ImageRecord("a.png", name, "test", width=80, height=80) for name in (HARM, "b", "c"))
    catalog = Catalog(tmp_path, Task((HARM, "b", "c")), rows, (finding,), HARM)
    found = evaluated((HARM, "b", "c"))
    for page in (html(catalog), html(found)):
        assert "<script" not in page
        assert "\x1b" not in page
        assert "&lt;script&gt;" in page
    for drawing in (catalog.plot(), found.plot()):
        names = [each.text or "" for each in ElementTree.fromstring(drawing.svg).iter() if each.text]
        assert any("<script>" in name for name in names), "text, and no element"


@pytest.mark.parametrize("classes", [2, 60, 1000])
def test_a_page_stays_small_however_many_classes_there_are(classes: int) -> None:
    names = tuple(f"class {number} {'x' * 300}" for number in range(classes))
    found = evaluated(names)
    catalog = Catalog(Path("nowhere"), Task(names), tuple(ImageRecord(f"{n}.png", n, "test") for n in names))
    findings = tuple(Finding("x", "note", names, "y" * 9000) for _ in range(50))
    catalog = Catalog(Path("nowhere"), catalog.task, catalog.images, findings)
    assert len(html(found)) < 400_000
    assert len(html(catalog)) < 400_000
    assert len(catalog.plot().svg) < 60_000
    if classes > MOST_BARS:
        assert f"{classes - MOST_BARS:,} others, mean" in catalog.plot().svg
        assert f"{classes - 20:,} other" in text(html(catalog))


def test_a_damaged_run_is_told_in_its_place_and_an_unfinished_one_says_how_to_go_on(
    run: ta.Run, tmp_path: Path
) -> None:
    copy = ta.open_run(shutil.copytree(run.path, tmp_path / "run"))
    for damage in ("{", '{"test": {"n": 3}}', "[]"):
        copy.metrics_file.write_text(damage)
        assert "metrics.json" in text(html(copy)) or "damaged" in text(html(copy))
        assert repr(copy).startswith(f"<Run {str(copy.path)!r}: ")
    copy.metrics_file.unlink()
    copy.update(status="interrupted")
    assert f"tellapart train --resume {copy.path}" in text(html(copy))
    assert "interrupted, cnn, 2 classes" in repr(copy)
    assert "There is no run" in text(html(ta.Run(tmp_path / "nowhere")))
    assert "There is no run" in repr(ta.Run(tmp_path / "nowhere"))


def test_a_run_is_told_in_a_line(run: ta.Run) -> None:
    assert re.fullmatch(
        r"<Run '.*run': done, cnn, 2 classes, accuracy [\d.]+ % \([\d.]+ to [\d.]+\) on 12 test images>", repr(run)
    )


def test_everything_becomes_a_frame(run: ta.Run, evaluation: ta.Evaluation) -> None:
    pandas = pytest.importorskip("pandas")
    said = run.to_frame()
    assert list(said.columns) == ["path", "truth", "label", "probability", "verdict", "distance", "disc", "stripes"]
    assert (said["truth"] == said["label"]).mean() == pytest.approx(run.metrics["test"]["accuracy"]["value"])
    assert set(said["verdict"]) <= {"sure", "unsure", "unlike"}
    images = run.catalog.to_frame()
    assert images.groupby("split").size().to_dict() == {
        split: sum(counts.values()) for split, counts in run.catalog.counts().items()
    }
    classes = evaluation.to_frame()
    assert list(classes["label"]) == ["disc", "stripes"]
    recall = evaluation.per_class[0].recall
    assert recall is not None
    assert classes.loc[0, ["recall", "recall_low", "recall_high"]].tolist() == [recall.value, recall.low, recall.high]
    rows = ta.summarize_runs(run.path.parent).to_frame()
    assert rows.loc[0, "accuracy"] == run.metrics["test"]["accuracy"]["value"]
    never_named = evaluated(("a", "b")).to_frame()
    assert isinstance(never_named, pandas.DataFrame)


def test_charts_are_svg_files_that_stand_alone(run: ta.Run, evaluation: ta.Evaluation, tmp_path: Path) -> None:
    for name, drawing in (("curves", run.plot()), ("matrix", evaluation.plot()), ("counts", run.catalog.plot())):
        drawing.save(tmp_path / f"{name}.svg")
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.attrib["width"]) > 100
        assert "save(" in repr(drawing)
    empty = ta.open_run(shutil.copytree(run.path, tmp_path / "run"))
    empty.history_file.unlink()
    with pytest.raises(RunError, match="no epoch yet"):
        empty.plot()
