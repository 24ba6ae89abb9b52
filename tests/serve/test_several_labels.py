"""A run with several labels an image, served: its JSON, and its labels on the page and on that of `export --to web`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tellapart as ta
from tests.inference.onnxruntime_web import npm_package
from tests.pasted import LABELS, pasted
from tests.serve.conftest import Server, start
from tests.serve.page import done

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOLERANCE = 2e-3
pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pasted(tmp_path_factory.mktemp("photos"), 40)


@pytest.fixture(scope="module")
def several(table: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:  # noqa: ARG001
    return ta.train(table, out=tmp_path_factory.mktemp("runs") / "labels", progress=ta.SILENT)


@pytest.fixture(scope="module")
def served(several: ta.Run) -> Iterator[Server]:
    found = start(several.path)
    yield found
    found.process.kill()
    found.process.communicate()


def test_an_answer_has_the_labels_and_the_probability_of_each(several: ta.Run, served: Server, table: Path) -> None:
    images = [table.parent / f"{number}.jpg" for number in (0, 1, 9)]
    with served.client() as client:
        (about,) = client.get("/v1/runs").json()["runs"]
        files = [("images", (path.name, path.read_bytes())) for path in images]
        rows = client.post("/v1/predict?explain=1", files=files).json()["predictions"]
    assert (about["kind"], about["classes"]) == ("multilabel", list(LABELS))
    for row, expected in zip(rows, several.predict(images), strict=True):
        assert row["labels"] == list(expected.labels or ())
        assert row["label"] == "|".join(row["labels"])
        assert row["probabilities"] == pytest.approx(expected.probabilities, abs=TOLERANCE)
        assert row["heat"]["png"]


@pytest.mark.soak
def test_the_page_names_all_labels_or_none(several: ta.Run, served: Server, table: Path, browser: Browser) -> None:
    images = [table.parent / f"{number}.jpg" for number in range(10)]
    page = browser.new_page()
    page.goto(served.url)
    page.get_by_text("several on an image, or none").wait_for()
    page.set_input_files("#files", images)
    done(page, len(images))
    heads = page.locator("#list .label").all_inner_texts()
    assert heads == [_heading(said) for said in several.predict(images)]


@pytest.mark.soak
def test_the_page_of_the_export_says_what_tellapart_says(
    several: ta.Run, table: Path, browser: Browser, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    runtime = npm_package(tmp_path)
    images = [table.parent / f"{number}.jpg" for number in range(20)]
    page = browser.new_page()
    page.goto((ta.export(several.path, "web", runtime=runtime).path / "index.html").as_uri())
    page.get_by_text("In this browser").wait_for(timeout=90_000)
    assert page.evaluate("tellapartChecked.good"), page.evaluate("tellapartChecked")
    page.set_input_files("#files", images)
    page.get_by_text(f"{len(images)} done", exact=True).wait_for(timeout=90_000)
    found = page.evaluate("entries.map(({answer: a}) => [a.label, a.values, a.probability, a.verdict])")
    least = several.predictor().metadata.least
    for said, (label, values, probability, verdict) in zip(several.predict(images), found, strict=True):
        expected = list(said.probabilities.values())
        assert values == pytest.approx(expected, abs=0.01)
        if min(abs(value - limit) for value, limit in zip(expected, least, strict=True)) > 0.01:
            assert label == said.label
            assert probability == pytest.approx(said.probability, abs=0.02)
            assert (verdict == "unlike") == (said.verdict == "unlike")
    heads = page.locator("#list .answer .label").all_inner_texts()
    assert heads == [_heading(said) for said in several.predict(images)]


def _heading(said: ta.Prediction) -> str:
    if said.verdict == "unlike":
        return "Unlike anything it was taught"
    return ", ".join(said.labels or ()) or "none of the labels"
