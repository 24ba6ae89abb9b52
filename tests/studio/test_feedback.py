"""What visitors said, settled by a person with keys, and trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import tellapart as ta
from tellapart.config import Config
from tellapart.data.corrections import read_corrections
from tellapart.data.feedback import Feedback, FeedbackFolder
from tellapart.errors import ConfigError
from tellapart.studio.session import Session
from tests.conftest import draw
from tests.studio.conftest import Studio, answering

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SAID = Feedback("", 40, 40, "other", "disc", "stripes", "sure", {"disc": 0.2, "stripes": 0.8}, "run", "0", "2026-11-28")


@pytest.fixture(scope="module")
def run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """A head on the bundled backbone: trained again in seconds."""
    return ta.train(two_shapes, out=tmp_path_factory.mktemp("feedback") / "run")


def as_png(image: Image.Image, place: Path) -> bytes:
    image.save(place)
    return place.read_bytes()


@pytest.fixture(scope="module")
def folder(run: ta.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two new discs, one of them taken for stripes; a square that is neither; a test image again, a little larger."""
    made = tmp_path_factory.mktemp("said")
    kept = FeedbackFolder(made / "kept", 100, 10_000_000)
    kept.add(as_png(draw("disc", 901), made / "1.png"), SAID)
    kept.add(as_png(draw("disc", 902), made / "2.png"), replace(SAID, said="right", answer="disc"))
    kept.add(as_png(draw("square", 903), made / "3.png"), replace(SAID, said="none", label=""))
    test = run.catalog.split("test")
    with Image.open(test.root / test.images[0].path) as image:
        again = as_png(image.resize((44, 44)), made / "4.png")
    kept.add(again, replace(SAID, width=44, height=44, label=test.images[0].label))
    other = replace(SAID, probabilities={"cat": 1.0}, label="cat", answer="cat")
    kept.add(as_png(draw("disc", 905), made / "5.png"), other)
    return made / "kept"


@pytest.fixture(scope="module")
def studio(run: ta.Run, folder: Path) -> Iterator[Studio]:
    found = answering([str(run.path), "--feedback", str(folder)], folder / "labels.csv")
    yield found
    if found.process.poll() is None:
        found.kill()


def step(page: Page, key: str) -> None:
    before = page.inner_text("#progress")
    page.keyboard.press(key)
    page.wait_for_function("(old) => document.getElementById('progress').textContent !== old", arg=before)


def test_what_was_said_is_settled_by_keys_and_learned_with_the_same_test_images(
    browser: Browser, studio: Studio, run: ta.Run, folder: Path
) -> None:
    page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    page.set_default_timeout(60_000)
    page.goto(studio.address())
    page.get_by_role("link", name="Feedback 4").click()
    page.get_by_text("The visitor says disc.").wait_for()
    assert "answered by a run with other classes" in page.inner_text("#looking")
    assert not page.locator("#learn").is_visible()
    step(page, "k")
    step(page, "k")  # the test image
    assert page.inner_text("#kind") == "Said to be none of the classes"
    step(page, "k")
    step(page, "2")  # said to be right, and it is not
    step(page, "u")
    step(page, "k")
    page.get_by_text("All that visitors said is settled.").wait_for()
    rows = read_corrections(studio.file)
    assert sorted((row.action, row.label) for row in rows if row.action == "drop") == [("drop", "")]
    assert sum(row.label == "disc" for row in rows) >= 2
    page.get_by_role("button", name="Train again with 3 images of visitors").click()
    page.get_by_text("2 images added for training; the validation and test images stay the same.").wait_for()
    assert "1 image left out: like a validation or test image." in page.inner_text("#result")
    assert page.locator("#result tr").count() == 2
    page.context.close()
    again = ta.open_run(Path(studio.get("/v1/state")["training"]["run"]))
    before = {image.path: image.split for image in run.catalog.images}
    after = {image.path: image.split for image in again.catalog.images}
    assert before.items() <= after.items()
    assert {Path(path).parent.parent: split for path, split in after.items() if path not in before} == {folder: "train"}


def test_a_screen_reader_finds_no_fault_in_what_was_said(browser: Browser, studio: Studio) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_context(bypass_csp=True, viewport={"width": 1440, "height": 900}).new_page()
    page.goto(studio.address("/feedback/"))
    page.locator("#images img").wait_for(timeout=60_000)
    found = axe.Axe().run(page)
    page.context.close()
    assert not found.response["violations"], found.generate_report()


def test_a_killed_studio_has_lost_nothing_that_was_settled(studio: Studio, folder: Path, run: ta.Run) -> None:
    state = studio.get("/feedback/v1/state")
    first = studio.get("/feedback/v1/queue")["doubts"][0]["key"]
    answer = studio.post(
        "/feedback/v1/decisions", version=state["version"], doubts=[first], action="relabel", label="stripes"
    )
    assert answer.status_code == 200
    studio.kill()
    session = Session(str(run.path), folder / "none.csv", Config(), feedback=folder)
    assert session.feedback is not None
    assert session.feedback.settled()[first] == "used as stripes"


def test_what_is_said_later_is_there_and_opens_nothing_that_is_settled(run: ta.Run, tmp_path: Path) -> None:
    kept = FeedbackFolder(tmp_path, 100, 10_000_000)
    content = as_png(draw("disc", 907), tmp_path / "1.png")
    kept.add(content, SAID)
    feedback = Session(str(run.path), tmp_path / "c.csv", Config(), feedback=tmp_path).feedback
    assert feedback is not None
    feedback.decide([feedback.doubts[0].key], "keep", 0)
    kept.add(content, replace(SAID, said="none", label=""))
    kept.add(as_png(draw("disc", 908), tmp_path / "2.png"), SAID)
    feedback.refresh()
    assert len(feedback.doubts) == 2
    assert list(feedback.settled().values()) == ["used as disc"]
    assert list(feedback.accepted()[1].values()) == ["disc"]


def test_a_folder_without_feedback_or_a_studio_without_a_run_is_refused(
    run: ta.Run, two_shapes: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="holds no feedback yet"):
        Session(str(run.path), tmp_path / "c.csv", Config(), feedback=tmp_path)
    with pytest.raises(ConfigError, match="is about the answers of a run"):
        Session(str(two_shapes), tmp_path / "c.csv", Config(), feedback=tmp_path)
