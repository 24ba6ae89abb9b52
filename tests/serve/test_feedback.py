"""What visitors say of the answers: kept by a real server, with their consent, and within limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tellapart as ta
from tellapart.data.feedback import read_feedback
from tests.data.hostile import large_png
from tests.serve.conftest import start
from tests.serve.page import done

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.serve.conftest import Server

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "said"


@pytest.fixture(scope="module")
def keeping(run: ta.Run, folder: Path) -> Iterator[Server]:
    """A server that keeps at most three images."""
    bounds = ["--max-feedback", "3", "--max-body", "1MB", "--max-pixels", "1000000"]
    found = start(run.path, "--feedback", folder, *bounds)
    yield found
    found.process.kill()
    found.process.communicate()


def test_a_card_is_answered_with_consent_once_and_what_is_said_can_be_changed(
    visit: Callable[..., Page], keeping: Server, folder: Path, photographs: list[Path], run: ta.Run
) -> None:
    page = visit(keeping.url, viewport={"width": 390, "height": 844})
    page.set_input_files("#files", photographs[:2])
    done(page, 2)
    first, second = (page.locator("#list > li").nth(number) for number in (0, 1))
    first.locator(".right").click()
    page.get_by_role("dialog", name="May this server keep the image?").wait_for()
    assert not read_feedback(folder)
    page.get_by_role("button", name="Send nothing").click()
    assert not read_feedback(folder)
    first.locator(".right").click()
    page.get_by_role("button", name="Agree and send").click()
    first.get_by_text("Kept. Thank you.").wait_for()
    answers = run.predict(photographs[:2])
    other = next(label for label in run.task.classes if label != answers[1].label)
    second.locator(".other").select_option(other)
    second.get_by_text("Kept. Thank you.").wait_for()
    first.locator(".none-of-these").click()
    first.locator(".none-of-these[aria-pressed=true]").wait_for()
    one, two = read_feedback(folder)
    assert (one.said, one.label, one.answer) == ("none", "", answers[0].label)
    assert (two.said, two.label) == ("other", other)
    assert (folder / two.path).read_bytes() == photographs[1].read_bytes()
    assert two.probabilities == pytest.approx(answers[1].probabilities, abs=1e-4)
    assert (two.run, two.fingerprint) == (run.path.name, sha256(run.onnx_file.read_bytes()).hexdigest())
    assert keeping.figure("tellapart_feedback_total") == 3


@pytest.mark.parametrize(
    ("query", "content", "status"),
    [
        ({}, b"", 400),
        ({"said": "right"}, b"", 422),
        ({"said": "right"}, b"no image", 422),
        ({"said": "right"}, large_png(1500), 422),
        ({"said": "right"}, bytes(1_000_001), 413),
        ({"said": "other"}, b"\xff\xd8\xff", 400),
        ({"said": "other", "label": "cow"}, b"\xff\xd8\xff", 400),
        ({"said": "right", "run": "../x"}, b"\xff\xd8\xff", 404),
    ],
)
def test_what_makes_no_sense_or_too_much_is_refused_and_nothing_is_kept(
    keeping: Server, folder: Path, query: dict[str, str], content: bytes, status: int
) -> None:
    before = sorted(folder.rglob("*"))
    with keeping.client() as client:
        answer = client.post("/v1/feedback", params=query, content=content, headers=JPEG)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert sorted(folder.rglob("*")) == before


def test_a_screen_reader_finds_no_fault_in_the_question(
    visit: Callable[..., Page], keeping: Server, photographs: list[Path]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(keeping.url, bypass_csp=True, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.set_input_files("#files", photographs[:1])
    done(page, 1)
    assert not axe.Axe().run(page).response["violations"]
    page.locator(".right").click()
    page.get_by_role("dialog").wait_for()
    assert not axe.Axe().run(page).response["violations"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_full_folder_says_so_and_a_killed_server_has_lost_nothing(
    keeping: Server, folder: Path, photographs: list[Path]
) -> None:
    def send(path: Path) -> Any:
        with keeping.client() as client:
            return client.post("/v1/feedback?said=right", content=path.read_bytes(), headers=JPEG)

    sent = [photographs[place] for place in range(5, 9)]
    answers = [send(path) for path in sent]
    assert answers[-1].status_code == 507
    assert "The folder of feedback is full" in answers[-1].json()["error"]
    keeping.process.kill()  # SIGKILL
    kept = {(folder / row.path).read_bytes() for row in read_feedback(folder)}
    good = [path.read_bytes() for path, answer in zip(sent, answers, strict=True) if answer.status_code == 200]
    assert good
    assert kept >= set(good)
    assert len(kept) == 3


def test_without_a_folder_nothing_is_asked_and_nothing_kept(
    visit: Callable[..., Page], server: Server, photographs: list[Path]
) -> None:
    page = visit(server.url)
    page.set_input_files("#files", photographs[:1])
    done(page, 1)
    assert not page.locator(".feedback").is_visible()
    with server.client() as client:
        assert client.post("/v1/feedback?said=right", content=b"x", headers=JPEG).status_code == 404
